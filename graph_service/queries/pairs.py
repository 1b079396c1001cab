"""One pair: locked and read, and changed by one of the two.

A change of a pair is two messages: one that locks and reads, and one that changes and commits. What
the change leaves is known from what was read, so that nothing is read again. Only where keepers of
fences have to be told, the change is a message before the one that commits. A message has several
statements and costs one round trip; PostgreSQL runs them in their order, each with a snapshot of
its own, and what comes back are the rows of the last.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import Connection

from graph_service.models import ACCEPTED, PENDING, WITHHELD, EventKind
from graph_service.queries.fences import FENCED, READ_FENCED_BY
from graph_service.queries.lookups import PeerRow
from graph_service.queries.users import (
    CHANGE_USERS,
    CREATE_USERS,
    LOCK_USERS,
    NO_SHOWN_REVISION,
    UserRow,
    amount_literals,
    shown_steps,
)
from shared.database.arrays import array_literal
from shared.database.database import run, send_with_commit
from shared.database.statement import Statement
from shared.database.totals import ADD, total_parameters


@dataclass(frozen=True, kw_only=True)
class LookedAt:
    """What a change that makes people users has to know of the first beside the pair.

    Up to so many of the user's blocks and open requests are counted. `pause` is for how long the
    user cannot ask the peer again who has declined.
    """

    blocks: int = 0
    open_requests: int = 0
    pause: timedelta = timedelta(0)

    @property
    def parameters(self) -> dict[str, object]:
        """The parameters of a statement that looks at it."""
        return {
            "counted_blocks": self.blocks,
            "counted_requests": self.open_requests,
            "pause": self.pause,
        }


@dataclass(frozen=True, kw_only=True)
class LockedPair:
    """Two users who are locked, and the state between them as one of the two sees it.

    `are_users` says whether both have a row, `created_users` how many have it only since this
    transaction. `block_count` and `open_request_count` are how many the user blocks and has asked,
    as far as that was to be counted; `is_paused` says whether the peer has declined so lately that
    the user cannot ask. A change leaves all of these as they were before it. The state is the
    stored one: code that shows it leaves out what is between the user and a suspended peer.
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
    user_is_suspended: bool
    read_at: datetime
    """The time that the transaction stores."""
    fenced_by: str | None = None
    """After a told change of both users: who has to be told of it; see `queries.fences`."""

    @property
    def peer_is_suspended(self) -> bool:
        """The peer is out of the user's sight."""
        return self.seen.is_suspended

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
        """What is between the two is a request that is not shown to the asked user."""
        return self.seen.status == WITHHELD

    @property
    def user_blocks(self) -> bool:
        """The user blocks the peer."""
        return self.seen.blocked_at is not None


class _Row(NamedTuple):
    user_revision: int | None
    user_connection_count: int | None
    peer_revision: int | None
    peer_connection_count: int | None
    status: str | None
    requested_by: int | None
    created_at: datetime | None
    updated_at: datetime | None
    blocked_at: datetime | None
    peer_blocks: bool
    user_is_suspended: bool
    is_suspended: bool
    read_at: datetime
    block_count: int = 0
    open_request_count: int = 0
    is_paused: bool = False
    created_users: int = 0


# The users that a transaction has created are those whose rows are its own, until it changes any.
_LOOKED_AT: Final = """,
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
              AND xmin = CAST(pg_current_xact_id_if_assigned() AS xid)) AS created_users"""


def _reading(name: str, *, looked_at: str) -> Statement:
    return Statement(
        name,
        f"""
    SELECT me.shown_revision AS user_revision, me.connection_count AS user_connection_count,
           them.shown_revision AS peer_revision, them.connection_count AS peer_connection_count,
           c.status, c.requested_by, c.created_at, c.updated_at, mine.created_at AS blocked_at,
           theirs.blocker_id IS NOT NULL AS peer_blocks,
           EXISTS (SELECT FROM suspensions WHERE user_id = :user_id) AS user_is_suspended,
           EXISTS (SELECT FROM suspensions WHERE user_id = :peer_id) AS is_suspended,
           now() AS read_at{looked_at}
    FROM (VALUES (CAST(:user_id AS bigint), CAST(:peer_id AS bigint)))
         AS asked (user_id, peer_id)
    LEFT JOIN users AS me ON me.user_id = asked.user_id
    LEFT JOIN users AS them ON them.user_id = asked.peer_id
    LEFT JOIN connections AS c ON c.user_a_id = :user_a_id AND c.user_b_id = :user_b_id
    LEFT JOIN blocks AS mine
           ON mine.blocker_id = asked.user_id AND mine.blocked_id = asked.peer_id
    LEFT JOIN blocks AS theirs
           ON theirs.blocker_id = asked.peer_id AND theirs.blocked_id = asked.user_id
""",
    )


# What is counted costs as much as the rest, and most changes do not look at it.
_PAIR: Final = _reading("pair", looked_at="")
_PAIR_WITH_COUNTS: Final = _reading("pair_with_counts", looked_at=_LOOKED_AT)

_FENCED: Final = Statement("fenced", FENCED)
_CREATE_USERS: Final = Statement("create_users", CREATE_USERS)
_LOCK_USERS: Final = Statement("lock_users", LOCK_USERS)
_CHANGE_USERS: Final = Statement("change_users", CHANGE_USERS)


def lock_pair(
    connection: Connection, *, user_id: int, peer_id: int, looked_at: LookedAt | None = None
) -> LockedPair:
    """The pair as the user sees it, both being locked.

    Where it is `looked_at` more than the pair, both are made users first. They may be gone again,
    erased between the two.
    """
    creating = () if looked_at is None else (_CREATE_USERS,)
    counted = {} if looked_at is None else looked_at.parameters
    # Read by a statement after that of the lock, which may have waited for changes.
    [found] = run(
        connection,
        *creating,
        _LOCK_USERS,
        _PAIR if looked_at is None else _PAIR_WITH_COUNTS,
        parameters={**_pair_parameters(user_id, peer_id), **counted},
    )
    row = _Row(*found)
    return LockedPair(
        user=UserRow(
            user_id=user_id,
            shown_revision=row.user_revision or NO_SHOWN_REVISION,
            connection_count=row.user_connection_count or 0,
        ),
        peer=UserRow(
            user_id=peer_id,
            shown_revision=row.peer_revision or NO_SHOWN_REVISION,
            connection_count=row.peer_connection_count or 0,
        ),
        seen=PeerRow(
            peer_id=peer_id,
            status=row.status,
            requested_by=row.requested_by,
            created_at=row.created_at,
            updated_at=row.updated_at,
            blocked_at=row.blocked_at,
            is_suspended=row.is_suspended,
        ),
        peer_blocks=row.peer_blocks,
        block_count=row.block_count,
        open_request_count=row.open_request_count,
        is_paused=row.is_paused,
        are_users=None not in {row.user_revision, row.peer_revision},
        created_users=row.created_users,
        user_is_suspended=row.user_is_suspended,
        read_at=row.read_at,
    )


# A withheld request whose block is gone counts for nothing: the version before may have lifted it.
_INSERT_REQUEST: Final = Statement(
    "insert_request",
    """
    INSERT INTO connections AS c (user_a_id, user_b_id, status, requested_by)
    VALUES (:user_a_id, :user_b_id, :status, :user_id)
    ON CONFLICT (user_a_id, user_b_id) DO UPDATE
    SET status = excluded.status, requested_by = excluded.requested_by,
        created_at = excluded.created_at, updated_at = excluded.updated_at
    WHERE c.status = 'withheld'
""",
)

_ACCEPT: Final = Statement(
    "accept_request",
    """
    UPDATE connections SET status = 'accepted', updated_at = now()
    WHERE user_a_id = :user_a_id AND user_b_id = :user_b_id
""",
)

_OF_PAIR: Final = "DELETE FROM connections WHERE user_a_id = :user_a_id AND user_b_id = :user_b_id"

_DELETE_PAIR: Final = Statement("delete_pair", _OF_PAIR)

_INSERT_BLOCK: Final = Statement(
    "insert_block",
    """
    INSERT INTO blocks (blocker_id, blocked_id) VALUES (:user_id, :peer_id)
""",
)

_DELETE_BLOCK: Final = Statement(
    "delete_block",
    """
    DELETE FROM blocks WHERE blocker_id = :user_id AND blocked_id = :peer_id
""",
)

# A block, and the end of one, remove the peer's request as if the user had declined it.
_RECORD_DECLINE: Final = Statement(
    "record_decline",
    """
    INSERT INTO declines (requester_id, decliner_id)
    SELECT requested_by, CAST(:user_id AS bigint) FROM connections
    WHERE user_a_id = :user_a_id AND user_b_id = :user_b_id AND requested_by = :peer_id
      AND status IN ('pending', 'withheld')
    ON CONFLICT (requester_id, decliner_id) DO UPDATE SET declined_at = excluded.declined_at
""",
)

_DELETE_WITHHELD: Final = Statement("delete_withheld", f"{_OF_PAIR} AND status = 'withheld'")

_CHANGES = {
    EventKind.REQUESTED: (_INSERT_REQUEST,),
    EventKind.CONNECTED: (_ACCEPT,),
    EventKind.DECLINED: (_RECORD_DECLINE, _DELETE_PAIR),
    EventKind.CANCELLED: (_DELETE_PAIR,),
    EventKind.REMOVED: (_DELETE_PAIR,),
    EventKind.BLOCKED: (_INSERT_BLOCK, _RECORD_DECLINE, _DELETE_PAIR),
    EventKind.UNBLOCKED: (_DELETE_BLOCK, _RECORD_DECLINE, _DELETE_WITHHELD),
}

OF_BLOCKS: Final = frozenset({EventKind.BLOCKED, EventKind.UNBLOCKED})
"""Those who cache connections cache blocks with them, so a block is a change of both users."""

_RECORD_ENDING: Final = Statement(
    "record_ending",
    """
    INSERT INTO endings (user_a_id, user_b_id, user_a_revision, user_b_revision)
    SELECT a.user_id, b.user_id, a.revision, b.revision
    FROM users AS a CROSS JOIN users AS b
    WHERE a.user_id = :user_a_id AND b.user_id = :user_b_id
    ON CONFLICT (user_a_id, user_b_id) DO UPDATE
    SET user_a_revision = excluded.user_a_revision,
        user_b_revision = excluded.user_b_revision,
        ended_at = excluded.ended_at
""",
)

# With the revisions that the users have when it is recorded.
_INSERT_EVENT: Final = Statement(
    "insert_event",
    """
    INSERT INTO connection_events (kind, actor_id, peer_id, actor_revision, peer_revision)
    VALUES (:kind, :user_id, :peer_id,
            coalesce((SELECT revision FROM users WHERE user_id = :user_id), 0),
            coalesce((SELECT revision FROM users WHERE user_id = :peer_id), 0))
""",
)

_READ_FENCED_BY: Final = Statement("read_fenced_by", READ_FENCED_BY)


def change_pair(
    connection: Connection,
    pair: LockedPair,
    *,
    kind: EventKind,
    amount: int,
    is_withheld: bool,
    tells: bool,
    totals: Mapping[str, int],
) -> LockedPair:
    """The locked pair after a change by the user, which is made, counted and recorded.

    It is counted as a connection more, one less, or none; of the user also as one with a suspended
    peer. The totals change with it. A request that is withheld from the peer is recorded nowhere
    else, for readers of the events would tell them. Unless this `tells` keepers of fences, a change
    of both users fails while any is registered.
    """
    user_id, peer_id = pair.user.user_id, pair.peer.user_id
    amounts = dict.fromkeys(sorted((user_id, peer_id)), amount)
    suspended_amounts = {user_id: amount} if pair.peer_is_suspended else {}
    steps = shown_steps(amounts, suspended_amounts)
    parameters = {
        **_pair_parameters(user_id, peer_id),
        **total_parameters(totals),
        **amount_literals(amounts, suspended_amounts),
        "shown_steps": array_literal(steps.values()),
        "kind": kind,
        "status": WITHHELD if is_withheld else PENDING,
    }
    is_of_both = bool(amount) or kind in OF_BLOCKS
    statements = (
        *_CHANGES[kind],
        *((_CHANGE_USERS,) if is_of_both else ()),
        *((_RECORD_ENDING,) if amount < 0 else ()),
        *(() if is_withheld else (_INSERT_EVENT,)),
        *((ADD,) if any(totals.values()) else ()),
    )
    fenced_by = None
    if is_of_both and tells:
        [(fenced_by,)] = run(
            connection, _FENCED, *statements, _READ_FENCED_BY, parameters=parameters
        )
    else:
        for statement in statements:
            send_with_commit(connection, statement, parameters)
    return replace(
        pair,
        user=replace(pair.user, shown_revision=pair.user.shown_revision + steps[user_id]),
        seen=_seen_after(pair, kind, is_withheld=is_withheld),
        fenced_by=fenced_by,
    )


def _seen_after(pair: LockedPair, kind: EventKind, *, is_withheld: bool) -> PeerRow:
    """What the user sees after the statements of _CHANGES; they store the time of the transaction.

    No other request is in the way of the one that is stored: see `Connections`.
    """
    seen, now = pair.seen, pair.read_at
    if kind == EventKind.REQUESTED:
        return replace(
            seen,
            status=WITHHELD if is_withheld else PENDING,
            requested_by=pair.user.user_id,
            created_at=now,
            updated_at=now,
        )
    if kind == EventKind.CONNECTED:
        return replace(seen, status=ACCEPTED, updated_at=now)
    if kind in OF_BLOCKS:
        seen = replace(seen, blocked_at=now if kind == EventKind.BLOCKED else None)
    if kind == EventKind.UNBLOCKED and not pair.is_withheld:
        return seen
    return replace(seen, status=None, requested_by=None, created_at=None, updated_at=None)


def _pair_parameters(user_id: int, peer_id: int) -> dict[str, object]:
    ids = sorted((user_id, peer_id))
    return {
        "user_id": user_id,
        "peer_id": peer_id,
        "user_ids": array_literal(ids),
        "user_a_id": ids[0],
        "user_b_id": ids[1],
    }
