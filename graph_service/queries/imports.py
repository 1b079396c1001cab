"""Imports: many pairs that are connected at once."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import NamedTuple

from sqlalchemy import Connection, text

from graph_service.queries.fences import FENCED, READ_FENCED_BY
from graph_service.queries.statements import message
from graph_service.queries.users import CREATE_USERS, SHOWN_STEP, amount_literals
from shared.database.arrays import array_literal
from shared.database.totals import ADD_TO_TOTALS, total_parameters


@dataclass(frozen=True, kw_only=True)
class ImportingUsers:
    """Users who are locked: how many, and a revision that is new to all of them.

    `rooms` has the users near the limit, with how many more connections each may have;
    `meets_erased` says whether the id of any user was erased before.
    """

    number: int
    revision: int
    rooms: Mapping[int, int]
    meets_erased: bool


# An import looks for some ten thousand rows of a table at once. By its costs, PostgreSQL would read
# and hash all of the table for that, for each chunk: at a million pairs, in nine times the time.
_ONLY_PROBES = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"


def begin_import(connection: Connection, *, user_ids: Collection[int]) -> int:
    """How many of the users had no row yet; now all have one.

    Until the transaction ends, joins are made by looking into an index for each row.
    """
    return connection.execute(
        message(_ONLY_PROBES, FENCED, CREATE_USERS), {"user_ids": array_literal(user_ids)}
    ).rowcount


_LOCK_IMPORTING = text("""
    WITH locked AS (
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
    FROM locked
""")


def lock_importing(
    connection: Connection, *, amounts: Mapping[int, int], max_connections: int
) -> ImportingUsers:
    """What an import has to know of the users with a row, locked until the transaction ends."""
    row = connection.execute(
        _LOCK_IMPORTING, {**amount_literals(amounts, {}), "max_connections": max_connections}
    ).one()
    return ImportingUsers(
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
    """Store which of these pairs' locked users have to look for erasures among their peers."""
    connection.execute(_NOTE_RETURNS, pair_literals(pairs))


class PairState(NamedTuple):
    """The row of a pair: its status, and who asked."""

    status: str
    requested_by: int


@dataclass(frozen=True, kw_only=True)
class Between:
    """What there is between some pairs: their rows, and their blocks by blocker and blocked."""

    states: Mapping[tuple[int, int], PairState]
    blocks: Collection[tuple[int, int]]


_BETWEEN = text("""
    WITH asked AS (
        SELECT a, b
        FROM unnest(CAST(:user_a_ids AS bigint[]), CAST(:user_b_ids AS bigint[])) AS asked (a, b)
    )
    SELECT a, b, c.status, c.requested_by
    FROM asked JOIN connections AS c ON c.user_a_id = asked.a AND c.user_b_id = asked.b
    UNION ALL
    SELECT blocker_id, blocked_id, NULL, NULL
    FROM asked JOIN blocks ON blocker_id IN (asked.a, asked.b) AND blocked_id IN (asked.a, asked.b)
""")


def between(connection: Connection, *, asked: Collection[tuple[int, int]]) -> Between:
    """What there is between the asked pairs."""
    states, blocks = dict[tuple[int, int], PairState](), set[tuple[int, int]]()
    for first_id, second_id, status, requested_by in connection.execute(
        _BETWEEN, pair_literals(asked)
    ):
        if status is None:
            blocks.add((first_id, second_id))
        else:
            states[first_id, second_id] = PairState(status, requested_by)
    return Between(states=states, blocks=blocks)


class ConnectedPair(NamedTuple):
    """When a pair was connected, None for now, and when one asked, None for the same moment."""

    connected_at: datetime | None = None
    requested_at: datetime | None = None


_COUNT_IMPORTED = f"""
    UPDATE users AS u
    SET connection_count = u.connection_count + change.amount, revision = :revision,
        suspended_connection_count = u.suspended_connection_count + change.suspended_amount,
        shown_revision = u.shown_revision
            + CASE WHEN change.amount = change.suspended_amount THEN 0 ELSE {SHOWN_STEP} END
    FROM unnest(CAST(:user_ids AS bigint[]), CAST(:amounts AS bigint[]),
                CAST(:suspended_amounts AS bigint[]))
         AS change (user_id, amount, suspended_amount)
    WHERE u.user_id = change.user_id
"""

# In the order of the index, of which each page is then found in memory.
_INSERT_PAIRS = """
    INSERT INTO connections (user_a_id, user_b_id, status, requested_by, created_at, updated_at)
    SELECT a, b, 'accepted', a, coalesce(requested_at, connected_at, now()),
           coalesce(connected_at, now())
    FROM unnest(CAST(:user_a_ids AS bigint[]), CAST(:user_b_ids AS bigint[]),
                CAST(:connected_at AS timestamptz[]), CAST(:requested_at AS timestamptz[]))
         AS imported (a, b, connected_at, requested_at)
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
    pairs: Mapping[tuple[int, int], ConnectedPair],
    revision: int,
    has_requests: bool,
    suspended: Collection[int],
    totals: Mapping[str, int],
) -> str | None:
    """Store that the pairs are connected, and count and record it.

    The users are locked and get the revision. `has_requests` says whether any pair has a row
    already, `suspended` which of the users are suspended. The totals change as well. Returns who
    has to be told of what the import has changed until now; see `queries.fences`.
    """
    amounts = Counter(chain.from_iterable(pairs))
    fenced_by: str | None = connection.execute(
        message(
            _COUNT_IMPORTED,
            _INSERT_OR_ACCEPT_PAIRS if has_requests else _INSERT_PAIRS,
            _RECORD_IMPORTED,
            ADD_TO_TOTALS,
            READ_FENCED_BY,
        ),
        {
            **amount_literals(amounts, with_suspended(pairs, suspended)),
            **pair_literals(pairs),
            **total_parameters(totals),
            "connected_at": moments_literal(pair.connected_at for pair in pairs.values()),
            "requested_at": moments_literal(pair.requested_at for pair in pairs.values()),
            "revision": revision,
        },
    ).scalar_one()
    return fenced_by


def with_suspended(
    pairs: Iterable[tuple[int, int]], suspended: Collection[int]
) -> Mapping[int, int]:
    """How many of the pairs each user has with a suspended one."""
    if not suspended:
        return {}
    return Counter(
        user_id
        for first, second in pairs
        for user_id, peer_id in ((first, second), (second, first))
        if peer_id in suspended
    )


def pair_literals(pairs: Collection[tuple[int, int]]) -> dict[str, str]:
    """Pairs as the two arrays that statements take."""
    return {
        "user_a_ids": array_literal(first for first, _ in pairs),
        "user_b_ids": array_literal(second for _, second in pairs),
    }


def moments_literal(moments: Iterable[datetime | None]) -> str:
    """Moments, of which any may be None, as an array literal."""
    return f"{{{','.join('NULL' if each is None else each.isoformat() for each in moments)}}}"
