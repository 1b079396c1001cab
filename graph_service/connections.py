"""The rules of a pair: who may request, accept, decline, cancel, remove, block and unblock.

Every change runs in one transaction that first locks both users, so the pair, its blocks and both
counts hold still while the rule is decided. A change that has already taken effect is a success
without a second effect.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from graph_service import queries
from graph_service.metrics import ACTIVE_CONNECTIONS, USERS, GraphMetrics
from graph_service.models import ACCEPTED, PENDING, EventKind
from graph_service.queries import Event, PairRow, PeerRow, UserRow
from shared.database import Database
from shared.errors import AbortedError, PreconditionError, ResourceNotFoundError, UnauthorizedError
from shared.gen.kith.errors.v1 import errors_pb2
from shared.totals import add_to_totals


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The pair as the user sees it after a change, and both users' revisions."""

    peer: PeerRow
    user_revision: int
    peer_revision: int


@dataclass(frozen=True, kw_only=True)
class _Locked:
    """A pair that holds still until the end of the transaction."""

    connection: Connection
    user: UserRow
    peer: UserRow
    pair: PairRow | None
    user_blocks: bool
    peer_blocks: bool

    @property
    def is_connected(self) -> bool:
        return self.pair is not None and self.pair.status == ACCEPTED

    @property
    def is_asked(self) -> bool:
        """The peer has an open request to the user."""
        return self._has_request_by(self.peer.user_id)

    @property
    def has_asked(self) -> bool:
        """The user has an open request to the peer."""
        return self._has_request_by(self.user.user_id)

    @property
    def key(self) -> tuple[int, int]:
        return ordered(self.user.user_id, self.peer.user_id)

    def _has_request_by(self, user_id: int) -> bool:
        pair = self.pair
        return pair is not None and pair.status == PENDING and pair.requested_by == user_id


class Connections:
    """The changes that a user can make to a pair."""

    def __init__(self, database: Database, *, max_connections: int, metrics: GraphMetrics) -> None:
        self._database = database
        self._max_connections = max_connections
        self._metrics = metrics

    def request(self, user_id: int, peer_id: int) -> Outcome:
        """Ask the peer, or connect at once when the peer has asked already."""
        return self._change(user_id, peer_id, self._request, creates_users=True)

    def accept(self, user_id: int, peer_id: int) -> Outcome:
        """Accept the peer's open request."""
        return self._change(user_id, peer_id, self._accept)

    def decline(self, user_id: int, peer_id: int) -> Outcome:
        """Turn the peer's open request down."""
        return self._change(user_id, peer_id, _decline)

    def cancel(self, user_id: int, peer_id: int) -> Outcome:
        """Withdraw the user's own open request."""
        return self._change(user_id, peer_id, _cancel)

    def remove(self, user_id: int, peer_id: int) -> Outcome:
        """End the connection."""
        return self._change(user_id, peer_id, _remove)

    def block(self, user_id: int, peer_id: int) -> Outcome:
        """Block the peer and end whatever is between the two."""
        return self._change(user_id, peer_id, _block, creates_users=True)

    def unblock(self, user_id: int, peer_id: int) -> Outcome:
        """Lift the user's block of the peer."""
        return self._change(user_id, peer_id, _unblock)

    def _change(
        self,
        user_id: int,
        peer_id: int,
        rule: Callable[[_Locked], EventKind | None],
        *,
        creates_users: bool = False,
    ) -> Outcome:
        def work(connection: Connection) -> tuple[Outcome, EventKind | None]:
            ids = [user_id, peer_id]
            created = ensure_users(connection, ids) if creates_users else 0
            locked = _lock(connection, user_id, peer_id)
            kind = rule(locked)
            if kind is not None:
                locked = _recorded(locked, kind, created_users=created)
            [peer], _ = queries.peers_at_revision(connection, user_id=user_id, peer_ids=[peer_id])
            outcome = Outcome(
                peer=peer,
                user_revision=locked.user.revision,
                peer_revision=locked.peer.revision,
            )
            return outcome, kind

        outcome, kind = self._database.write(work)
        if kind == EventKind.REQUESTED:
            self._metrics.connection_requests.inc()
        if kind == EventKind.CONNECTED:
            self._metrics.connection_accepts.inc()
        return outcome

    def _request(self, locked: _Locked) -> EventKind | None:
        if locked.user_blocks:
            raise PreconditionError(
                "unblock this user first", reason=errors_pb2.ERROR_REASON_PEER_BLOCKED
            )
        if locked.peer_blocks:
            raise UnauthorizedError(
                "a connection with this user is not allowed",
                reason=errors_pb2.ERROR_REASON_CONNECTION_NOT_ALLOWED,
            )
        if locked.is_connected or locked.has_asked:
            return None
        if locked.is_asked:
            return self._connect(locked)
        queries.insert_pending(locked.connection, pair=locked.key, requested_by=locked.user.user_id)
        return EventKind.REQUESTED

    def _accept(self, locked: _Locked) -> EventKind | None:
        if locked.is_connected:
            return None
        if not locked.is_asked:
            raise ResourceNotFoundError(
                "this user has no open request to you",
                reason=errors_pb2.ERROR_REASON_CONNECTION_REQUEST_NOT_FOUND,
            )
        return self._connect(locked)

    def _connect(self, locked: _Locked) -> EventKind:
        if max(locked.user.connection_count, locked.peer.connection_count) >= self._max_connections:
            raise PreconditionError(
                f"one of the two has {self._max_connections:,} connections, the most there can be",
                reason=errors_pb2.ERROR_REASON_CONNECTION_LIMIT_REACHED,
                metadata={"limit": str(self._max_connections)},
            )
        queries.accept(locked.connection, pair=locked.key)
        return EventKind.CONNECTED


def _decline(locked: _Locked) -> EventKind | None:
    _refuse_if_connected(locked)
    if not locked.is_asked:
        return None
    queries.delete_pair(locked.connection, pair=locked.key)
    return EventKind.DECLINED


def _cancel(locked: _Locked) -> EventKind | None:
    _refuse_if_connected(locked)
    if not locked.has_asked:
        return None
    queries.delete_pair(locked.connection, pair=locked.key)
    return EventKind.CANCELLED


def _remove(locked: _Locked) -> EventKind | None:
    if not locked.is_connected:
        return None
    queries.delete_pair(locked.connection, pair=locked.key)
    return EventKind.REMOVED


def _block(locked: _Locked) -> EventKind | None:
    if locked.user_blocks:
        return None
    queries.insert_block(
        locked.connection, blocker_id=locked.user.user_id, blocked_id=locked.peer.user_id
    )
    queries.delete_pair(locked.connection, pair=locked.key)
    return EventKind.BLOCKED


def _unblock(locked: _Locked) -> EventKind | None:
    if not locked.user_blocks:
        return None
    queries.delete_block(
        locked.connection, blocker_id=locked.user.user_id, blocked_id=locked.peer.user_id
    )
    return EventKind.UNBLOCKED


def ordered(first_id: int, second_id: int) -> tuple[int, int]:
    """Return a pair as it is stored, the lower id first."""
    return (min(first_id, second_id), max(first_id, second_id))


def ensure_users(connection: Connection, user_ids: Collection[int]) -> int:
    """Make sure that all users have a row and keep it, locked; returns how many are new.

    Raises AbortedError, for the transaction to be repeated, when one of them is erased meanwhile.
    """
    created = queries.create_users(connection, user_ids=user_ids)
    if len(queries.lock_users(connection, user_ids=user_ids)) < len(user_ids):
        raise AbortedError("a user was erased meanwhile; repeat the call")
    return created


def _lock(connection: Connection, user_id: int, peer_id: int) -> _Locked:
    key = ordered(user_id, peer_id)
    users = queries.lock_users(connection, user_ids=key)
    blocks = queries.blocks(connection, asked=[key])
    return _Locked(
        connection=connection,
        user=users.get(user_id, UserRow(user_id=user_id)),
        peer=users.get(peer_id, UserRow(user_id=peer_id)),
        pair=queries.pairs(connection, asked=[key]).get(key),
        user_blocks=(user_id, peer_id) in blocks,
        peer_blocks=(peer_id, user_id) in blocks,
    )


def _refuse_if_connected(locked: _Locked) -> None:
    if locked.is_connected:
        raise PreconditionError(
            "the two are connected already; remove the connection instead",
            reason=errors_pb2.ERROR_REASON_ALREADY_CONNECTED,
        )


def _recorded(locked: _Locked, kind: EventKind, *, created_users: int) -> _Locked:
    """Count and record a change of a pair that was connected before or is now, or neither."""
    amount = 1 if kind == EventKind.CONNECTED else -1 if locked.is_connected else 0
    if amount:
        locked = _recounted(locked, amount)
    event = Event(
        actor_id=locked.user.user_id,
        peer_id=locked.peer.user_id,
        actor_revision=locked.user.revision,
        peer_revision=locked.peer.revision,
    )
    queries.insert_events(locked.connection, kind=kind, events=[event])
    add_to_totals(
        locked.connection,
        amounts={ACTIVE_CONNECTIONS: amount, USERS: created_users},
    )
    return locked


def _recounted(locked: _Locked, amount: int) -> _Locked:
    user_id, peer_id = locked.user.user_id, locked.peer.user_id
    revisions = queries.change_counts(locked.connection, amounts={user_id: amount, peer_id: amount})
    if amount < 0:
        queries.record_ending(locked.connection, pair=locked.key, revisions=revisions)
    return replace(
        locked,
        user=replace(locked.user, revision=revisions[user_id]),
        peer=replace(locked.peer, revision=revisions[peer_id]),
    )
