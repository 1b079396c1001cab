"""Every SQL statement of graph_service, one function each; its first line says what comes back.

Functions that change something run in the caller's transaction. Pairs are always written with the
lower id first. Users are locked before anything of theirs is read for a decision, in the order of
their ids, so that two transactions never wait for each other.

A change of a pair is two messages: one that locks and reads, one that changes and reads again. Each
holds several statements and costs one round trip; PostgreSQL runs them in their order, each with a
snapshot of its own, and what comes back are the rows of the last.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import chain
from typing import Final, NamedTuple

from sqlalchemy import Connection, TextClause, text

from graph_service.models import ACCEPTED, PENDING, WITHHELD, EventKind
from shared.arrays import array_literal
from shared.reader import Reader, Statement
from shared.totals import ADD_TO_TOTALS, total_parameters

NO_SHOWN_REVISION: Final = 1
"""What a user is told who never had a connection."""


@dataclass(frozen=True, kw_only=True)
class Reconnection:
    """A connection before which another of the pair had ended, and the revisions right after."""

    peer_id: int
    user_revision: int
    peer_revision: int


class ErasureRow(NamedTuple):
    """An id that was erased, and the revision of its last erasure."""

    user_id: int
    revision: int


@dataclass(frozen=True, kw_only=True)
class ConnectedIds:
    """One user's connections at one moment; ids are None when the revision is the known one.

    `blocked_ids` are those who block the user or whom the user blocks, empty unless asked for.
    `erasures` are those of the user's own id and of the connected ones.
    """

    user_id: int
    revision: int
    ids: list[int] | None
    reconnections: list[Reconnection]
    blocked_ids: list[int]
    erasures: list[ErasureRow]


@dataclass(frozen=True, kw_only=True)
class UserRow:
    """What is kept of a user."""

    user_id: int
    shown_revision: int = NO_SHOWN_REVISION
    connection_count: int = 0


@dataclass(frozen=True, kw_only=True)
class HeldUsers:
    """Users who are locked: how many, and a revision that is new to all of them.

    `rooms` says of those whom the limit may hinder how many connections more each may have, and
    `meets_erased` whether the id of any of them was erased before.
    """

    number: int
    revision: int
    rooms: Mapping[int, int]
    meets_erased: bool


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """A pair that is connected."""

    user_a_id: int
    user_b_id: int
    status: str
    requested_by: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class PeerRow:
    """A peer as a user sees it: the pair, and since when the user has blocked the peer."""

    peer_id: int
    status: str | None
    requested_by: int | None
    created_at: datetime | None
    updated_at: datetime | None
    blocked_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class LookedAt:
    """What a change has to know of a user beside the pair.

    Up to so many of the user's blocks and open requests are counted. `pause` is for how long the
    user cannot ask the peer again who has declined.
    """

    blocks: int = 0
    open_requests: int = 0
    pause: timedelta = timedelta(0)


NOTHING_ELSE: Final = LookedAt()
"""What a change looks at that depends on the pair alone."""


@dataclass(frozen=True, kw_only=True)
class HeldPair:
    """Two users, and what is between them for one of the two, still until the transaction ends.

    `are_users` says whether both have a row, `created_users` how many have it only since this
    transaction; after a change it means nothing. `block_count` and `open_request_count` are how
    many the user blocks and has asked, as far as that was to be counted; `is_paused` says whether
    the peer has declined so lately that the user cannot ask.
    """

    user: UserRow
    peer: UserRow
    seen: PeerRow
    peer_blocks: bool
    block_count: int
    open_request_count: int
    is_paused: bool
    are_users: bool
    created_users: int

    @property
    def is_connected(self) -> bool:
        """The two are connected."""
        return self.seen.status == ACCEPTED

    @property
    def is_asked(self) -> bool:
        """The peer has an open request to the user."""
        return self.seen.status == PENDING and self.seen.requested_by == self.peer.user_id

    @property
    def has_asked(self) -> bool:
        """The user has an open request to the peer, as far as the user can see."""
        return self.seen.status in {PENDING, WITHHELD} and (
            self.seen.requested_by == self.user.user_id
        )

    @property
    def is_withheld(self) -> bool:
        """What is between the two is a request that is not shown to who was asked."""
        return self.seen.status == WITHHELD

    @property
    def user_blocks(self) -> bool:
        """The user blocks the peer."""
        return self.seen.blocked_at is not None


@dataclass(frozen=True, kw_only=True)
class ListedPeer:
    """One entry of a list, with its place in the list's order."""

    peer_id: int
    created_at: datetime
    listed_at: datetime
    row_id: int


@dataclass(frozen=True, kw_only=True)
class CountRow:
    """How many connections somebody has, and whether the user who asks may be told."""

    user_id: int
    connection_count: int
    may_be_told: bool


class EventRow(NamedTuple):
    """One recorded change; `peer_id` is None when a user was erased.

    A tuple, for an import is followed while it runs and each of its events is read.
    """

    seq: int
    kind: str
    actor_id: int
    peer_id: int | None
    actor_revision: int
    peer_revision: int
    occurred_at: datetime


# The two sides of a pair are read as a UNION ALL of two index-only scans. `a = ANY(ids) OR b =
# ANY(ids)` with a single CASE would lose the edge whose two ends are both asked. A new row has the
# revision 0, by which callers say that they know nothing: `unchanged` would hide its erasures.
_CONNECTED_USER_IDS = Statement(
    "connected_user_ids",
    """
    SELECT asked.user_id, coalesce(u.revision, 0) AS revision,
           CASE WHEN u.revision = asked.known_revision THEN NULL
           ELSE ARRAY(
               SELECT CASE WHEN c.user_a_id = asked.user_id THEN c.user_b_id ELSE c.user_a_id END
               FROM (SELECT user_a_id, user_b_id FROM connections
                     WHERE user_a_id = asked.user_id AND status = 'accepted'
                     UNION ALL
                     SELECT user_a_id, user_b_id FROM connections
                     WHERE user_b_id = asked.user_id AND status = 'accepted') AS c)
           END AS ids,
           CASE WHEN u.revision = asked.known_revision THEN NULL
           ELSE ARRAY(
               SELECT ARRAY[e.user_b_id, e.user_a_revision, e.user_b_revision]
               FROM endings AS e JOIN connections AS c USING (user_a_id, user_b_id)
               WHERE e.user_a_id = asked.user_id AND c.status = 'accepted'
               UNION ALL
               SELECT ARRAY[e.user_a_id, e.user_b_revision, e.user_a_revision]
               FROM endings AS e JOIN connections AS c USING (user_a_id, user_b_id)
               WHERE e.user_b_id = asked.user_id AND c.status = 'accepted')
           END AS reconnections,
           CASE WHEN CAST(:with_blocked AS boolean)
                 AND u.revision IS DISTINCT FROM asked.known_revision
           THEN ARRAY(
               SELECT blocked_id FROM blocks WHERE blocker_id = asked.user_id
               UNION
               SELECT blocker_id FROM blocks WHERE blocked_id = asked.user_id)
           END AS blocked_ids,
           CASE WHEN u.revision = asked.known_revision THEN NULL
           ELSE ARRAY(
               SELECT ARRAY[e.user_id, e.revision] FROM erasures AS e
               WHERE e.user_id = asked.user_id
               UNION ALL
               SELECT ARRAY[e.user_id, e.revision]
               FROM erasures AS e JOIN connections AS c ON c.user_b_id = e.user_id
               WHERE u.meets_erased AND c.user_a_id = asked.user_id AND c.status = 'accepted'
               UNION ALL
               SELECT ARRAY[e.user_id, e.revision]
               FROM erasures AS e JOIN connections AS c ON c.user_a_id = e.user_id
               WHERE u.meets_erased AND c.user_b_id = asked.user_id AND c.status = 'accepted')
           END AS erasures
    FROM (SELECT user_id, nullif(known_revision, 0) AS known_revision, place
          FROM unnest(CAST(:user_ids AS bigint[]), CAST(:known_revisions AS bigint[]))
               WITH ORDINALITY AS given (user_id, known_revision, place)) AS asked
    LEFT JOIN users AS u ON u.user_id = asked.user_id
    ORDER BY asked.place
""",
)


def connected_user_ids(
    reader: Reader, *, known_revisions: Mapping[int, int], with_blocked: bool = False
) -> list[ConnectedIds]:
    """Each asked user's connections, in the order asked, all at one moment."""
    rows = reader.rows(
        _CONNECTED_USER_IDS,
        {
            "user_ids": array_literal(known_revisions),
            "known_revisions": array_literal(known_revisions.values()),
            "with_blocked": with_blocked,
        },
    )
    return [
        ConnectedIds(
            user_id=user_id,
            revision=revision,
            ids=ids,
            reconnections=[
                Reconnection(peer_id=peer_id, user_revision=own, peer_revision=theirs)
                for peer_id, own, theirs in reconnections or ()
            ],
            blocked_ids=blocked_ids or [],
            erasures=[ErasureRow(*erasure) for erasure in erasures or ()],
        )
        for user_id, revision, ids, reconnections, blocked_ids, erasures in rows
    ]


# A user's own block is shown; a block by the peer is not, which is why blocks are joined one way.
_PEERS = text("""
    SELECT asked.peer_id, c.status, c.requested_by, c.created_at, c.updated_at,
           b.created_at AS blocked_at,
           (SELECT shown_revision FROM users WHERE user_id = :user_id) AS user_revision
    FROM unnest(CAST(:peer_ids AS bigint[])) WITH ORDINALITY AS asked (peer_id, place)
    LEFT JOIN connections AS c
           ON c.user_a_id = least(asked.peer_id, :user_id)
          AND c.user_b_id = greatest(asked.peer_id, :user_id)
    LEFT JOIN blocks AS b ON b.blocker_id = :user_id AND b.blocked_id = asked.peer_id
    ORDER BY asked.place
""")


def peers_at_revision(
    connection: Connection, *, user_id: int, peer_ids: Sequence[int]
) -> tuple[list[PeerRow], int]:
    """Each asked peer as the user sees it, in the order asked, and what the user's revision is."""
    rows = [
        dict(row)
        for row in connection.execute(
            _PEERS, {"user_id": user_id, "peer_ids": array_literal(peer_ids)}
        ).mappings()
    ]
    revisions = [row.pop("user_revision") for row in rows]
    return [PeerRow(**row) for row in rows], revisions[0] or NO_SHOWN_REVISION


_CONNECTION_PAGE = text("""
    SELECT CASE WHEN c.user_a_id = :user_id THEN c.user_b_id ELSE c.user_a_id END AS peer_id,
           c.created_at, c.updated_at AS listed_at, c.id AS row_id
    FROM ((SELECT * FROM connections
           WHERE user_a_id = :user_id AND status = 'accepted'
             AND (updated_at, id) < (:before_time, :before_id)
           ORDER BY updated_at DESC, id DESC LIMIT :limit)
          UNION ALL
          (SELECT * FROM connections
           WHERE user_b_id = :user_id AND status = 'accepted'
             AND (updated_at, id) < (:before_time, :before_id)
           ORDER BY updated_at DESC, id DESC LIMIT :limit)) AS c
    ORDER BY c.updated_at DESC, c.id DESC LIMIT :limit
""")

_OUTGOING_PAGE = text("""
    SELECT CASE WHEN user_a_id = :user_id THEN user_b_id ELSE user_a_id END AS peer_id,
           created_at, created_at AS listed_at, id AS row_id
    FROM connections
    WHERE requested_by = :user_id AND status IN ('pending', 'withheld')
      AND (created_at, id) < (:before_time, :before_id)
    ORDER BY created_at DESC, id DESC LIMIT :limit
""")

_INCOMING_PAGE = text("""
    SELECT requested_by AS peer_id, created_at, created_at AS listed_at, id AS row_id
    FROM connections
    WHERE addressee_id = :user_id AND status = 'pending'
      AND (created_at, id) < (:before_time, :before_id)
    ORDER BY created_at DESC, id DESC LIMIT :limit
""")

_BLOCKED_PAGE = text("""
    SELECT blocked_id AS peer_id, created_at, created_at AS listed_at, blocked_id AS row_id
    FROM blocks
    WHERE blocker_id = :user_id AND (created_at, blocked_id) < (:before_time, :before_id)
    ORDER BY created_at DESC, blocked_id DESC LIMIT :limit
""")

_PAGES = {
    "connected": _CONNECTION_PAGE,
    "outgoing": _OUTGOING_PAGE,
    "incoming": _INCOMING_PAGE,
    "blocked": _BLOCKED_PAGE,
}


def peer_page(
    connection: Connection,
    *,
    user_id: int,
    listing: str,
    before_time: datetime,
    before_id: int,
    limit: int,
) -> list[ListedPeer]:
    """Up to `limit` peers of one list before a place in its order, newest first."""
    rows = connection.execute(
        _PAGES[listing],
        {
            "user_id": user_id,
            "before_time": before_time,
            "before_id": before_id,
            "limit": limit,
        },
    )
    return [ListedPeer(**row) for row in rows.mappings()]


_NEIGHBOURS = """
    SELECT user_b_id AS id FROM connections WHERE user_a_id = {user} AND status = 'accepted'
    UNION ALL
    SELECT user_a_id AS id FROM connections WHERE user_b_id = {user} AND status = 'accepted'
"""

_MUTUAL_USER_IDS = text(f"""
    SELECT mine.id
    FROM ({_NEIGHBOURS.format(user=":user_id")}) AS mine
    JOIN ({_NEIGHBOURS.format(user=":peer_id")}) AS theirs USING (id)
    WHERE mine.id > :after_id
      AND NOT EXISTS (SELECT FROM blocks AS b
                      WHERE (b.blocker_id = :user_id AND b.blocked_id = :peer_id)
                         OR (b.blocker_id = :peer_id AND b.blocked_id = :user_id))
    ORDER BY mine.id LIMIT :limit
""")


def mutual_user_ids(
    connection: Connection, *, user_id: int, peer_id: int, after_id: int, limit: int
) -> list[int]:
    """Up to `limit` ids above `after_id` of users connected with both, ascending.

    None where one of the two blocks the other.
    """
    rows = connection.execute(
        _MUTUAL_USER_IDS,
        {"user_id": user_id, "peer_id": peer_id, "after_id": after_id, "limit": limit},
    )
    return list(rows.scalars())


_CONNECTION_COUNTS = text("""
    SELECT asked.user_id, coalesce(u.connection_count, 0) AS connection_count,
           :user_id IN (0, asked.user_id)
           OR EXISTS (SELECT FROM connections AS c
                      WHERE c.user_a_id = least(asked.user_id, :user_id)
                        AND c.user_b_id = greatest(asked.user_id, :user_id)
                        AND c.status = 'accepted') AS may_be_told
    FROM unnest(CAST(:user_ids AS bigint[])) WITH ORDINALITY AS asked (user_id, place)
    LEFT JOIN users AS u ON u.user_id = asked.user_id
    ORDER BY asked.place
""")


def connection_counts(
    connection: Connection, *, user_id: int, user_ids: Sequence[int]
) -> list[CountRow]:
    """Each asked user's number of connections, in the order asked.

    The user may be told their own and that of their connections; the user 0 is told all.
    """
    rows = connection.execute(
        _CONNECTION_COUNTS, {"user_id": user_id, "user_ids": array_literal(user_ids)}
    )
    return [CountRow(**row) for row in rows.mappings()]


SUGGESTION_ROWS: Final = 50_000
"""How many connections of the user's connections suggestions are made from."""

# A user with 5,000 connections of 5,000 each has 25 million to count. So only some of the user's
# connections are looked at, those with the fewest connections: they tell most about whom the user
# may know, and the choice is the same at every call. The first of them is read up to the bound.
# Whoever is no candidate for a request or a block is looked for in the order of the result, until
# the limit is reached; as a join, PostgreSQL would look for all candidates (OFFSET 0 prevents it).
_SUGGESTIONS = text(f"""
    WITH mine AS MATERIALIZED ({_NEIGHBOURS.format(user=":user_id")}),
    sampled AS MATERIALIZED (
        SELECT id
        FROM (SELECT mine.id, row_number() OVER fewest AS number,
                     sum(u.connection_count) OVER fewest AS rows
              FROM mine JOIN users AS u ON u.user_id = mine.id
              WINDOW fewest AS (ORDER BY u.connection_count, mine.id ROWS UNBOUNDED PRECEDING)
             ) AS ordered
        WHERE rows <= :most_rows OR number = 1
    ),
    candidates AS (
        SELECT theirs.id, count(*) AS mutual_count
        FROM sampled
        CROSS JOIN LATERAL (SELECT id FROM ({_NEIGHBOURS.format(user="sampled.id")}) AS all_of_them
                            ORDER BY id LIMIT :most_rows) AS theirs
        WHERE theirs.id <> :user_id AND NOT EXISTS (SELECT FROM mine WHERE mine.id = theirs.id)
        GROUP BY theirs.id
    )
    SELECT id, mutual_count
    FROM (SELECT id, mutual_count FROM candidates
          ORDER BY mutual_count DESC, id OFFSET 0) AS ranked
    WHERE NOT EXISTS (SELECT FROM connections AS c
                      WHERE c.user_a_id = least(ranked.id, :user_id)
                        AND c.user_b_id = greatest(ranked.id, :user_id) OFFSET 0)
      AND NOT EXISTS (SELECT FROM blocks AS b
                      WHERE b.blocker_id = :user_id AND b.blocked_id = ranked.id OFFSET 0)
      AND NOT EXISTS (SELECT FROM blocks AS b
                      WHERE b.blocker_id = ranked.id AND b.blocked_id = :user_id OFFSET 0)
    ORDER BY mutual_count DESC, id LIMIT :limit
""")


def suggestions(connection: Connection, *, user_id: int, limit: int) -> list[tuple[int, int]]:
    """Up to `limit` friends of friends and how many connections they share with the user.

    Exact where the user's connections have no more than SUGGESTION_ROWS connections together.
    """
    rows = connection.execute(
        _SUGGESTIONS, {"user_id": user_id, "limit": limit, "most_rows": SUGGESTION_ROWS}
    )
    return [(suggested_id, mutual_count) for suggested_id, mutual_count in rows]


_EXPORT_PAGE = text("""
    SELECT user_a_id, user_b_id, status, requested_by, created_at, updated_at
    FROM connections
    WHERE status = 'accepted' AND (user_a_id, user_b_id) > (:after_a, :after_b)
    ORDER BY user_a_id, user_b_id LIMIT :limit
""")


def export_page(connection: Connection, *, after: tuple[int, int], limit: int) -> list[PairRow]:
    """Up to `limit` connected pairs behind a pair, in the order of pairs."""
    rows = connection.execute(
        _EXPORT_PAGE, {"after_a": after[0], "after_b": after[1], "limit": limit}
    )
    return [PairRow(**row) for row in rows.mappings()]


# Most have a row, and to find that out by a conflict would cost twice as much.
_CREATE_USERS = """
    INSERT INTO users (user_id)
    SELECT id FROM unnest(CAST(:user_ids AS bigint[])) AS id
    WHERE NOT EXISTS (SELECT FROM users WHERE user_id = id)
    ORDER BY id
    ON CONFLICT (user_id) DO NOTHING
"""

_LOCK_USERS = """
    SELECT user_id, revision, connection_count FROM users
    WHERE user_id = ANY (CAST(:user_ids AS bigint[]))
    ORDER BY user_id FOR UPDATE
"""


# An import looks for some ten thousand rows of a table at once. By its costs, PostgreSQL would read
# and hash all of the table for that, for each chunk: at a million pairs, in nine times the time.
_ONLY_PROBES = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"


def begin_import(connection: Connection, *, user_ids: Collection[int]) -> int:
    """How many of the users had no row yet; now all have one.

    Until the transaction ends, joins are made by looking into an index for each row.
    """
    return connection.execute(
        _message(_ONLY_PROBES, _CREATE_USERS), {"user_ids": array_literal(user_ids)}
    ).rowcount


def create_user(connection: Connection, *, user_id: int) -> int:
    """How many rows the user lacked: one, or none; now there is one."""
    return connection.execute(
        _message(_CREATE_USERS), {"user_ids": array_literal([user_id])}
    ).rowcount


def lock_users(connection: Connection, *, user_ids: Collection[int]) -> set[int]:
    """Those of the users who have a row, which is locked until the transaction ends."""
    rows = connection.execute(_message(_LOCK_USERS), {"user_ids": array_literal(user_ids)})
    return set(rows.scalars())


_HOLD_USERS = text("""
    WITH held AS (
        SELECT u.user_id, u.revision, :max_connections - u.connection_count AS room, asked.amount
        FROM unnest(CAST(:user_ids AS bigint[]), CAST(:amounts AS bigint[]))
             AS asked (user_id, amount)
        JOIN users AS u ON u.user_id = asked.user_id
        ORDER BY u.user_id FOR UPDATE OF u
    )
    SELECT count(*) AS number,
           greatest(max(revision) + 1,
                    CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)) AS revision,
           array_agg(user_id) FILTER (WHERE room < amount) AS near_limit,
           array_agg(room) FILTER (WHERE room < amount) AS rooms,
           EXISTS (SELECT FROM erasures
                   WHERE user_id = ANY (CAST(:user_ids AS bigint[]))) AS meets_erased
    FROM held
""")


def hold_users(
    connection: Connection, *, amounts: Mapping[int, int], max_connections: int
) -> HeldUsers:
    """What an import has to know of the users with a row, locked until the transaction ends."""
    row = connection.execute(
        _HOLD_USERS, {**_amount_literals(amounts), "max_connections": max_connections}
    ).one()
    return HeldUsers(
        number=row.number,
        revision=row.revision,
        rooms=dict(zip(row.near_limit or (), row.rooms or (), strict=True)),
        meets_erased=row.meets_erased,
    )


_NOTE_RETURNS = text("""
    UPDATE users AS u SET meets_erased = true
    FROM unnest(CAST(:user_a_ids AS bigint[]), CAST(:user_b_ids AS bigint[])) AS pair (a, b)
    WHERE u.user_id IN (pair.a, pair.b) AND NOT u.meets_erased
      AND EXISTS (SELECT FROM erasures AS e WHERE e.user_id IN (pair.a, pair.b))
""")


def note_returns(connection: Connection, *, pairs: Collection[tuple[int, int]]) -> None:
    """Store of the held users of these pairs which are to look for erasures among their peers."""
    connection.execute(_NOTE_RETURNS, _pair_literals(pairs))


# Steps of one would give old numbers a second meaning after a backup is restored.
_SHOWN_STEP = "1 + CAST(floor(random() * 4294967296) AS bigint)"

_CHANGE_USERS = f"""
    UPDATE users AS u
    SET connection_count = u.connection_count + change.amount,
        meets_erased = u.meets_erased OR change.amount > 0
            AND EXISTS (SELECT FROM erasures AS e
                        WHERE e.user_id = ANY (CAST(:user_ids AS bigint[]))),
        revision = greatest(u.revision + 1,
                            CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)),
        shown_revision = u.shown_revision
            + CASE WHEN change.amount = 0 THEN 0 ELSE {_SHOWN_STEP} END
    FROM unnest(CAST(:user_ids AS bigint[]), CAST(:amounts AS bigint[]))
         AS change (user_id, amount)
    WHERE u.user_id = change.user_id
"""


def change_counts(connection: Connection, *, amounts: Mapping[int, int]) -> None:
    """Store the locked users' numbers of connections, changed by an amount, and their revisions.

    A revision grows, also when the clock has been set back. An amount of 0 is for a block.
    """
    connection.execute(_message(_CHANGE_USERS), _amount_literals(amounts))


BLOCKED: Final = "blocked"
"""What is between two of whom one blocks the other, beside the states of `connections`."""

_BETWEEN = text("""
    WITH asked AS (
        SELECT a, b
        FROM unnest(CAST(:user_a_ids AS bigint[]), CAST(:user_b_ids AS bigint[])) AS asked (a, b)
    )
    SELECT a, b, c.status
    FROM asked JOIN connections AS c ON c.user_a_id = asked.a AND c.user_b_id = asked.b
    WHERE c.status <> 'withheld'
    UNION ALL
    SELECT a, b, 'blocked'
    FROM asked JOIN blocks ON blocker_id IN (asked.a, asked.b) AND blocked_id IN (asked.a, asked.b)
""")


def between(
    connection: Connection, *, asked: Collection[tuple[int, int]]
) -> dict[tuple[int, int], str]:
    """PENDING, ACCEPTED or BLOCKED for each asked pair between whom there is anything."""
    return {(a, b): state for a, b, state in connection.execute(_BETWEEN, _pair_literals(asked))}


# The users that a transaction has created are those whose rows are its own, until it changes any.
_PAIR = """
    SELECT me.shown_revision AS user_revision, me.connection_count AS user_connection_count,
           them.shown_revision AS peer_revision, them.connection_count AS peer_connection_count,
           c.status, c.requested_by, c.created_at, c.updated_at, mine.created_at AS blocked_at,
           theirs.blocker_id IS NOT NULL AS peer_blocks,
           (SELECT count(*) FROM (SELECT FROM blocks WHERE blocker_id = :user_id
                                  LIMIT :counted_blocks) AS counted) AS block_count,
           (SELECT count(*) FROM (SELECT FROM connections
                                  WHERE requested_by = :user_id
                                    AND status IN ('pending', 'withheld')
                                  LIMIT :counted_requests) AS counted) AS open_request_count,
           EXISTS (SELECT FROM declines
                   WHERE requester_id = :user_id AND decliner_id = :peer_id
                     AND declined_at > now() - CAST(:pause AS interval)) AS is_paused,
           (SELECT count(*) FROM users
            WHERE user_id IN (:user_id, :peer_id)
              AND xmin = CAST(pg_current_xact_id_if_assigned() AS xid)) AS created_users
    FROM (VALUES (:user_id, :peer_id)) AS asked (user_id, peer_id)
    LEFT JOIN users AS me ON me.user_id = asked.user_id
    LEFT JOIN users AS them ON them.user_id = asked.peer_id
    LEFT JOIN connections AS c ON c.user_a_id = :user_a_id AND c.user_b_id = :user_b_id
    LEFT JOIN blocks AS mine
           ON mine.blocker_id = asked.user_id AND mine.blocked_id = asked.peer_id
    LEFT JOIN blocks AS theirs
           ON theirs.blocker_id = asked.peer_id AND theirs.blocked_id = asked.user_id
"""


def hold_pair(
    connection: Connection,
    *,
    user_id: int,
    peer_id: int,
    creates_users: bool,
    looked_at: LookedAt = NOTHING_ELSE,
) -> HeldPair:
    """The pair as the user sees it, both being locked; with rows made for them if wanted.

    A user of those may be gone again, erased between the two.
    """
    creating = (_CREATE_USERS,) if creates_users else ()
    # Read by a statement after that of the lock, which may have waited for changes.
    return _pair(
        connection,
        (*creating, _LOCK_USERS),
        user_id=user_id,
        peer_id=peer_id,
        looked_at=looked_at,
        parameters={},
    )


# A withheld request whose block is gone counts for nothing: the version before may have lifted it.
_INSERT_REQUEST = """
    INSERT INTO connections AS c (user_a_id, user_b_id, status, requested_by)
    VALUES (:user_a_id, :user_b_id, :status, :user_id)
    ON CONFLICT (user_a_id, user_b_id) DO UPDATE
    SET status = excluded.status, requested_by = excluded.requested_by,
        created_at = excluded.created_at, updated_at = excluded.updated_at
    WHERE c.status = 'withheld'
"""

_ACCEPT = """
    UPDATE connections SET status = 'accepted', updated_at = now()
    WHERE user_a_id = :user_a_id AND user_b_id = :user_b_id
"""

_DELETE_PAIR = """
    DELETE FROM connections WHERE user_a_id = :user_a_id AND user_b_id = :user_b_id
"""

_INSERT_BLOCK = """
    INSERT INTO blocks (blocker_id, blocked_id) VALUES (:user_id, :peer_id)
"""

_DELETE_BLOCK = """
    DELETE FROM blocks WHERE blocker_id = :user_id AND blocked_id = :peer_id
"""

# A block, and the end of one, remove the peer's request as if the user had declined it.
_RECORD_DECLINE = """
    INSERT INTO declines (requester_id, decliner_id)
    SELECT requested_by, :user_id FROM connections
    WHERE user_a_id = :user_a_id AND user_b_id = :user_b_id AND requested_by = :peer_id
      AND status IN ('pending', 'withheld')
    ON CONFLICT (requester_id, decliner_id) DO UPDATE SET declined_at = excluded.declined_at
"""

_DELETE_WITHHELD = f"{_DELETE_PAIR} AND status = 'withheld'"

_CHANGES = {
    EventKind.REQUESTED: (_INSERT_REQUEST,),
    EventKind.CONNECTED: (_ACCEPT,),
    EventKind.DECLINED: (_RECORD_DECLINE, _DELETE_PAIR),
    EventKind.CANCELLED: (_DELETE_PAIR,),
    EventKind.REMOVED: (_DELETE_PAIR,),
    EventKind.BLOCKED: (_INSERT_BLOCK, _RECORD_DECLINE, _DELETE_PAIR),
    EventKind.UNBLOCKED: (_DELETE_BLOCK, _RECORD_DECLINE, _DELETE_WITHHELD),
}
# Those who cache connections cache blocks with them, so a block is a change of both users.
_OF_BLOCKS = frozenset({EventKind.BLOCKED, EventKind.UNBLOCKED})

_RECORD_ENDING = """
    INSERT INTO endings (user_a_id, user_b_id, user_a_revision, user_b_revision)
    SELECT a.user_id, b.user_id, a.revision, b.revision
    FROM users AS a CROSS JOIN users AS b
    WHERE a.user_id = :user_a_id AND b.user_id = :user_b_id
    ON CONFLICT (user_a_id, user_b_id) DO UPDATE
    SET user_a_revision = excluded.user_a_revision,
        user_b_revision = excluded.user_b_revision,
        ended_at = excluded.ended_at
"""

# With the revisions that the users have when it is recorded.
_INSERT_EVENTS = """
    INSERT INTO connection_events (kind, actor_id, peer_id, actor_revision, peer_revision)
    SELECT :kind, event.actor_id, event.peer_id,
           coalesce(actor.revision, 0), coalesce(peer.revision, 0)
    FROM unnest(CAST(:actor_ids AS bigint[]), CAST(:peer_ids AS bigint[]))
         WITH ORDINALITY AS event (actor_id, peer_id, place)
    LEFT JOIN users AS actor ON actor.user_id = event.actor_id
    LEFT JOIN users AS peer ON peer.user_id = event.peer_id
    ORDER BY event.place
"""


def change_pair(
    connection: Connection,
    *,
    user_id: int,
    peer_id: int,
    kind: EventKind,
    amount: int,
    is_withheld: bool,
    totals: Mapping[str, int],
) -> HeldPair:
    """The locked pair after a change by the user, which is made, counted and recorded.

    It is counted as a connection more, one less, or none. The totals change with it. A request that
    is withheld from the peer is recorded nowhere else, for who reads the events would tell them.
    """
    counted = (_CHANGE_USERS,) if amount or kind in _OF_BLOCKS else ()
    recorded = () if is_withheld else (_INSERT_EVENTS,)
    ended = (_RECORD_ENDING,) if amount < 0 else ()
    added = (ADD_TO_TOTALS,) if any(totals.values()) else ()
    return _pair(
        connection,
        (*_CHANGES[kind], *counted, *ended, *recorded, *added),
        user_id=user_id,
        peer_id=peer_id,
        parameters={
            **_event_parameters(kind, [(user_id, peer_id)]),
            **total_parameters(totals),
            "amounts": array_literal((amount, amount)),
            "status": WITHHELD if is_withheld else PENDING,
        },
    )


_PURGE_DECLINES = text("""
    DELETE FROM declines AS d
    USING (SELECT requester_id, decliner_id FROM declines
           WHERE declined_at < now() - CAST(:age AS interval)
           ORDER BY declined_at LIMIT :limit FOR UPDATE SKIP LOCKED) AS old
    WHERE d.requester_id = old.requester_id AND d.decliner_id = old.decliner_id
""")


def purge_declines(connection: Connection, *, age: timedelta, limit: int) -> int:
    """How many declines are older than that; they are forgotten, up to `limit` of them."""
    return connection.execute(_PURGE_DECLINES, {"age": age, "limit": limit}).rowcount


def _pair(
    connection: Connection,
    statements: tuple[str, ...],
    *,
    user_id: int,
    peer_id: int,
    parameters: Mapping[str, object],
    looked_at: LookedAt = NOTHING_ELSE,
) -> HeldPair:
    """The pair after some statements."""
    ids = sorted((user_id, peer_id))
    row = (
        connection.execute(
            _message(*statements, _PAIR),
            {
                "user_id": user_id,
                "peer_id": peer_id,
                "user_ids": array_literal(ids),
                "user_a_id": ids[0],
                "user_b_id": ids[1],
                "counted_blocks": looked_at.blocks,
                "counted_requests": looked_at.open_requests,
                "pause": looked_at.pause,
                **parameters,
            },
        )
        .mappings()
        .one()
    )
    return HeldPair(
        user=UserRow(
            user_id=user_id,
            shown_revision=row["user_revision"] or NO_SHOWN_REVISION,
            connection_count=row["user_connection_count"] or 0,
        ),
        peer=UserRow(
            user_id=peer_id,
            shown_revision=row["peer_revision"] or NO_SHOWN_REVISION,
            connection_count=row["peer_connection_count"] or 0,
        ),
        seen=PeerRow(
            peer_id=peer_id,
            status=row["status"],
            requested_by=row["requested_by"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            blocked_at=row["blocked_at"],
        ),
        peer_blocks=row["peer_blocks"],
        block_count=row["block_count"],
        open_request_count=row["open_request_count"],
        is_paused=row["is_paused"],
        are_users=None not in {row["user_revision"], row["peer_revision"]},
        created_users=row["created_users"],
    )


def _event_parameters(kind: EventKind, about: Sequence[tuple[int, int]]) -> dict[str, str]:
    return {
        "kind": kind,
        "actor_ids": array_literal(actor_id for actor_id, _ in about),
        "peer_ids": array_literal(peer_id for _, peer_id in about),
    }


_EVENTS = Statement(
    "events",
    """
    SELECT seq, kind, actor_id, peer_id, actor_revision, peer_revision, occurred_at
    FROM connection_events
    WHERE seq > :after AND seq <= :until
    ORDER BY seq LIMIT :limit
""",
)


def events(reader: Reader, *, after: int, until: int, limit: int) -> list[EventRow]:
    """Up to `limit` events behind one number and not behind another, in order."""
    rows = reader.rows(_EVENTS, {"after": after, "until": until, "limit": limit})
    return [EventRow._make(row) for row in rows]


_PURGED_UNTIL = Statement("purged_until", "SELECT coalesce(max(until_seq), 0) FROM purged_events")


def purged_until(reader: Reader) -> int:
    """The highest number of an event that was purged, 0 if none was."""
    [(number,)] = reader.rows(_PURGED_UNTIL, {})
    return int(number)


# By their numbers, which grow with time, so that no index on time is needed. What is locked is
# being erased, or purged by another process. A join would read all events by its costs.
_PURGE_EVENTS = text("""
    WITH lowest AS (
        SELECT seq, occurred_at FROM connection_events ORDER BY seq LIMIT :limit
        FOR UPDATE SKIP LOCKED
    ),
    purged AS (
        DELETE FROM connection_events
        WHERE seq = ANY (ARRAY(SELECT seq FROM lowest
                               WHERE occurred_at < now() - CAST(:age AS interval)))
        RETURNING seq, occurred_at
    ),
    noted AS (
        INSERT INTO purged_events AS p (until_seq, occurred_at)
        SELECT seq, occurred_at FROM purged ORDER BY seq DESC LIMIT 1
        ON CONFLICT (is_single) DO UPDATE
        SET until_seq = excluded.until_seq, occurred_at = excluded.occurred_at
        WHERE excluded.until_seq > p.until_seq
    ),
    unneeded AS (
        DELETE FROM erased_events WHERE seq < (SELECT max(seq) FROM purged)
    )
    SELECT count(*) FROM purged
""")


def purge_events(connection: Connection, *, age: timedelta, limit: int) -> int:
    """How many events are older than that; they are gone, up to `limit` of them."""
    return int(connection.execute(_PURGE_EVENTS, {"age": age, "limit": limit}).scalar_one())


_LAST_EVENT_NUMBER = Statement(
    "last_event_number",
    """
    SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM connection_events_seq_seq
""",
)


def last_event_number(reader: Reader) -> int:
    """The highest number that an event was given, whether it is committed or not."""
    [(number,)] = reader.rows(_LAST_EVENT_NUMBER, {})
    return int(number)


# Erased events, and the last purged one, count as well: whoever was told of one must find it again.
_NEWEST_EVENT = Statement(
    "newest_event",
    """
    SELECT seq, occurred_at FROM (
        (SELECT seq, occurred_at FROM connection_events
         WHERE seq <= :until ORDER BY seq DESC LIMIT 1)
        UNION ALL
        (SELECT seq, occurred_at FROM erased_events WHERE seq <= :until ORDER BY seq DESC LIMIT 1)
        UNION ALL
        (SELECT until_seq, occurred_at FROM purged_events WHERE until_seq <= :until)
    ) AS newest
    ORDER BY seq DESC LIMIT 1
""",
)


def newest_event(reader: Reader, *, until: int) -> tuple[int, datetime] | None:
    """The number and time of the newest event up to a number, also when it is erased since."""
    for seq, occurred_at in reader.rows(_NEWEST_EVENT, {"until": until}):
        return seq, occurred_at
    return None


# The mode that INSERT takes; what locks more to change the table takes this one as well.
_EVENT_WRITERS = Statement(
    "event_writers",
    """
    SELECT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND relation = CAST('connection_events' AS regclass)
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND mode = 'RowExclusiveLock' AND granted
""",
)


def event_writers(reader: Reader) -> set[str]:
    """The transactions under way that may have given a number to an event."""
    return {transaction for (transaction,) in reader.rows(_EVENT_WRITERS, {})}


_COUNT_IMPORTED = f"""
    UPDATE users AS u
    SET connection_count = u.connection_count + change.amount, revision = :revision,
        shown_revision = u.shown_revision + {_SHOWN_STEP}
    FROM unnest(CAST(:user_ids AS bigint[]), CAST(:amounts AS bigint[]))
         AS change (user_id, amount)
    WHERE u.user_id = change.user_id
"""

# In the order of the index, of which each page is then found in memory.
_INSERT_PAIRS = """
    INSERT INTO connections (user_a_id, user_b_id, status, requested_by, created_at, updated_at)
    SELECT a, b, 'accepted', a, coalesce(connected_at, now()), coalesce(connected_at, now())
    FROM unnest(CAST(:user_a_ids AS bigint[]), CAST(:user_b_ids AS bigint[]),
                CAST(:connected_at AS timestamptz[])) AS imported (a, b, connected_at)
    ORDER BY a, b
"""

# To be ready for a conflict costs every pair a fifth more.
_INSERT_OR_ACCEPT_PAIRS = f"""{_INSERT_PAIRS}
    ON CONFLICT (user_a_id, user_b_id)
    DO UPDATE SET status = 'accepted', updated_at = excluded.updated_at
"""

_RECORD_IMPORTED = """
    INSERT INTO connection_events (kind, actor_id, peer_id, actor_revision, peer_revision)
    SELECT 'imported', a, b, :revision, :revision
    FROM unnest(CAST(:user_a_ids AS bigint[]), CAST(:user_b_ids AS bigint[])) AS event (a, b)
"""


def import_pairs(
    connection: Connection,
    *,
    connected_at: Mapping[tuple[int, int], datetime | None],
    revision: int,
    has_requests: bool,
    totals: Mapping[str, int],
) -> None:
    """Nothing; the pairs are connected since the given moment or now, counted and recorded.

    The users are held and get the revision. `has_requests` says whether any pair has a row already.
    The totals change as well.
    """
    amounts = Counter(chain.from_iterable(connected_at))
    moments = (moment and moment.isoformat() for moment in connected_at.values())
    connection.execute(
        _message(
            _COUNT_IMPORTED,
            _INSERT_OR_ACCEPT_PAIRS if has_requests else _INSERT_PAIRS,
            _RECORD_IMPORTED,
            ADD_TO_TOTALS,
        ),
        {
            **_amount_literals(amounts),
            **_pair_literals(connected_at),
            **total_parameters(totals),
            "connected_at": _literal(moments),
            "revision": revision,
        },
    )


_NEIGHBOUR_IDS = text(_NEIGHBOURS.format(user=":user_id"))


def neighbour_ids(connection: Connection, *, user_id: int) -> set[int]:
    """The ids of the user's connections, as of this statement."""
    return set(connection.execute(_NEIGHBOUR_IDS, {"user_id": user_id}).scalars())


_OPPONENT_IDS = text("""
    SELECT blocked_id FROM blocks WHERE blocker_id = :user_id
    UNION
    SELECT blocker_id FROM blocks WHERE blocked_id = :user_id
""")


def opponent_ids(connection: Connection, *, user_id: int) -> set[int]:
    """The ids of those who block the user or are blocked by them, as of this statement."""
    return set(connection.execute(_OPPONENT_IDS, {"user_id": user_id}).scalars())


# With a revision above all that the erased person had, and above that of an earlier erasure.
_RECORD_ERASURE = text("""
    WITH erased AS (
        INSERT INTO erasures AS e (user_id, revision)
        VALUES (:user_id,
                greatest((SELECT revision + 1 FROM users WHERE user_id = :user_id),
                         CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)))
        ON CONFLICT (user_id) DO UPDATE
        SET revision = greatest(e.revision + 1, excluded.revision), erased_at = excluded.erased_at
        RETURNING user_id, revision
    )
    INSERT INTO connection_events (kind, actor_id, actor_revision)
    SELECT 'user_deleted', user_id, revision FROM erased
""")


def _forget_events(column: str) -> TextClause:
    return text(f"""
        WITH forgotten AS (
            DELETE FROM connection_events WHERE {column} = :user_id RETURNING seq, occurred_at
        )
        INSERT INTO erased_events (seq, occurred_at) SELECT seq, occurred_at FROM forgotten
    """)


_ERASE = [
    text("DELETE FROM connections WHERE user_a_id = :user_id"),
    # The indexes by the higher id hold the rows of some states each.
    text("DELETE FROM connections WHERE user_b_id = :user_id AND status = 'accepted'"),
    text(
        "DELETE FROM connections WHERE user_b_id = :user_id AND status IN ('pending', 'withheld')"
    ),
    text("DELETE FROM endings WHERE user_a_id = :user_id"),
    text("DELETE FROM endings WHERE user_b_id = :user_id"),
    text("DELETE FROM blocks WHERE blocker_id = :user_id"),
    text("DELETE FROM blocks WHERE blocked_id = :user_id"),
    text("DELETE FROM declines WHERE requester_id = :user_id"),
    text("DELETE FROM declines WHERE decliner_id = :user_id"),
    _forget_events("actor_id"),
    _forget_events("peer_id"),
    _RECORD_ERASURE,
    text("DELETE FROM users WHERE user_id = :user_id"),
]


def erase_user(connection: Connection, *, user_id: int) -> None:
    """Store that the locked user was erased; no other row names them any more."""
    for statement in _ERASE:
        connection.execute(statement, {"user_id": user_id})


def _amount_literals(amounts: Mapping[int, int]) -> dict[str, str]:
    return {"user_ids": array_literal(amounts), "amounts": array_literal(amounts.values())}


def _pair_literals(pairs: Collection[tuple[int, int]]) -> dict[str, str]:
    return {
        "user_a_ids": array_literal(first for first, _ in pairs),
        "user_b_ids": array_literal(second for _, second in pairs),
    }


def _literal(values: Iterable[object]) -> str:
    """Values that need no quotes and may be None as an array literal."""
    return f"{{{','.join('NULL' if value is None else str(value) for value in values)}}}"


@cache
def _message(*statements: str) -> TextClause:
    """Statements that travel together; what comes back are the rows of the last."""
    return text(";".join(statements))
