"""The rules of a pair: who may request, accept, decline, cancel, remove, block and unblock.

Every change runs in one transaction that first locks both users, so the pair, its blocks and both
counts do not change while the rule is decided. A rule says what happens to the pair, if anything;
`queries.pairs` stores it. A change that has already taken effect is a success without a second
effect; one that is repeated by its request id is answered as it was.

To a user, a suspended peer looks like a stranger who cannot be asked. What ends something between
the two still takes effect, so that nothing comes back that was ended.
"""

from collections.abc import Callable

from sqlalchemy import Connection

from graph_service.conflicts import erased_meanwhile
from graph_service.fences import Fences
from graph_service.metrics import ACTIVE_CONNECTIONS, USERS, GraphMetrics
from graph_service.models import EventKind
from graph_service.queries import pairs
from graph_service.queries.pairs import LockedPair, LookedAt
from graph_service.settings import PairLimits
from kith.errors.v1 import errors_pb2
from kith.exceptions import PreconditionError, ResourceNotFoundError, UnavailableError
from shared.access.suspended import user_suspended
from shared.api.idempotency import Call, M, once
from shared.database.database import Database


class Connections:
    """The changes that a user can make to a pair."""

    def __init__(
        self, database: Database, limits: PairLimits, metrics: GraphMetrics, fences: Fences
    ) -> None:
        self._database = database
        self._fences = fences
        self._limits = limits
        self._metrics = metrics

    def request(self, call: Call[LockedPair, M], peer_id: int) -> M:
        """Ask the peer, or connect at once when the peer has asked already.

        A peer who blocks the user is asked like any other, and never told.
        """
        looked_at = LookedAt(
            open_requests=self._limits.max_open_requests, pause=self._limits.request_pause
        )
        return self._change(call, peer_id, self._request, looked_at=looked_at)

    def accept(self, call: Call[LockedPair, M], peer_id: int) -> M:
        """Accept the peer's open request."""
        return self._change(call, peer_id, self._accept)

    def decline(self, call: Call[LockedPair, M], peer_id: int) -> M:
        """Turn the peer's open request down."""
        return self._change(call, peer_id, _decline)

    def cancel(self, call: Call[LockedPair, M], peer_id: int) -> M:
        """Withdraw the user's own open request."""
        return self._change(call, peer_id, _cancel)

    def remove(self, call: Call[LockedPair, M], peer_id: int) -> M:
        """End the connection."""
        return self._change(call, peer_id, _remove)

    def block(self, call: Call[LockedPair, M], peer_id: int) -> M:
        """Block the peer, and end the connection and the requests of the two."""
        looked_at = LookedAt(blocks=self._limits.max_blocks)
        return self._change(call, peer_id, self._block, looked_at=looked_at)

    def unblock(self, call: Call[LockedPair, M], peer_id: int) -> M:
        """Lift the user's block of the peer."""
        return self._change(call, peer_id, _unblock)

    def _change(
        self,
        call: Call[LockedPair, M],
        peer_id: int,
        rule: Callable[[LockedPair], EventKind | None],
        *,
        looked_at: LookedAt | None = None,
    ) -> M:
        kind: EventKind | None = None

        def work(connection: Connection) -> LockedPair:
            nonlocal kind
            pair = pairs.lock_pair(
                connection, user_id=call.user_id, peer_id=peer_id, looked_at=looked_at
            )
            if looked_at is not None and not pair.are_users:
                raise erased_meanwhile()
            if pair.user_is_suspended:
                raise user_suspended()
            kind = rule(pair)
            if kind is not None:
                pair = self._changed(connection, pair, kind)
            return pair

        try:
            response, is_new = once(self._database, call, work)
        except UnavailableError as error:
            if not self._fences.learns_from(error):
                raise
            response, is_new = once(self._database, call, work)
        if is_new and kind == EventKind.REQUESTED:
            self._metrics.connection_requests.inc()
        if is_new and kind == EventKind.CONNECTED:
            self._metrics.connection_accepts.inc()
        return response

    def _changed(self, connection: Connection, pair: LockedPair, kind: EventKind) -> LockedPair:
        """Make a change of a pair that was connected before or is now, or neither."""
        amount = 1 if kind == EventKind.CONNECTED else -1 if pair.is_connected else 0
        is_withheld = (kind == EventKind.REQUESTED and pair.peer_blocks) or (
            kind == EventKind.CANCELLED and pair.is_withheld
        )
        # Read once: it may change meanwhile.
        tells = self._fences.tells
        changed = pairs.change_pair(
            connection,
            pair,
            kind=kind,
            amount=amount,
            is_withheld=is_withheld,
            tells=tells,
            totals={ACTIVE_CONNECTIONS: amount, USERS: pair.created_users},
        )
        if tells and (amount or kind in pairs.OF_BLOCKS):
            user_ids = (pair.user.user_id, pair.peer.user_id)
            self._fences.before_commit(connection, changed.fenced_by, user_ids)
        return changed

    def _request(self, pair: LockedPair) -> EventKind | None:
        if pair.user_blocks:
            raise PreconditionError(
                "unblock this user first", reason=errors_pb2.ERROR_REASON_PEER_BLOCKED
            )
        # Before all that tells what is between the two.
        if pair.peer_is_suspended:
            raise PreconditionError(
                "this user cannot be asked", reason=errors_pb2.ERROR_REASON_CONNECTION_NOT_ALLOWED
            )
        if pair.is_connected or pair.has_asked:
            return None
        if pair.is_asked:
            return self._connect(pair)
        # Neither may depend on a block by the peer, of which the user must not learn.
        if pair.is_paused:
            raise PreconditionError(
                "this user has declined; a new request is possible "
                f"{self._limits.request_pause.days} days after the decline",
                reason=errors_pb2.ERROR_REASON_REQUEST_PAUSED,
                metadata={"limit": str(self._limits.request_pause.days)},
            )
        if pair.open_request_count >= self._limits.max_open_requests:
            raise PreconditionError(
                f"the user has {self._limits.max_open_requests:,} open requests, the limit",
                reason=errors_pb2.ERROR_REASON_OPEN_REQUEST_LIMIT_REACHED,
                metadata={"limit": str(self._limits.max_open_requests)},
            )
        return EventKind.REQUESTED

    def _accept(self, pair: LockedPair) -> EventKind | None:
        if pair.is_connected and not pair.peer_is_suspended:
            return None
        if not pair.is_asked or pair.peer_is_suspended:
            raise ResourceNotFoundError(
                "this user has no open request to the user",
                reason=errors_pb2.ERROR_REASON_CONNECTION_REQUEST_NOT_FOUND,
            )
        return self._connect(pair)

    def _connect(self, pair: LockedPair) -> EventKind:
        limit = self._limits.max_connections
        if max(pair.user.connection_count, pair.peer.connection_count) >= limit:
            raise PreconditionError(
                f"one of the two users has {limit:,} connections, the limit",
                reason=errors_pb2.ERROR_REASON_CONNECTION_LIMIT_REACHED,
                metadata={"limit": str(limit)},
            )
        return EventKind.CONNECTED

    def _block(self, pair: LockedPair) -> EventKind | None:
        if pair.user_blocks:
            return None
        if pair.block_count >= self._limits.max_blocks:
            raise PreconditionError(
                f"the user blocks {self._limits.max_blocks:,} users, the limit",
                reason=errors_pb2.ERROR_REASON_BLOCK_LIMIT_REACHED,
                metadata={"limit": str(self._limits.max_blocks)},
            )
        return EventKind.BLOCKED


def _decline(pair: LockedPair) -> EventKind | None:
    _refuse_if_connected(pair)
    return EventKind.DECLINED if pair.is_asked else None


def _cancel(pair: LockedPair) -> EventKind | None:
    _refuse_if_connected(pair)
    return EventKind.CANCELLED if pair.has_asked else None


def _remove(pair: LockedPair) -> EventKind | None:
    return EventKind.REMOVED if pair.is_connected else None


def _unblock(pair: LockedPair) -> EventKind | None:
    return EventKind.UNBLOCKED if pair.user_blocks else None


def _refuse_if_connected(pair: LockedPair) -> None:
    if pair.is_connected and not pair.peer_is_suspended:
        raise PreconditionError(
            "the two users are already connected; use RemoveConnection",
            reason=errors_pb2.ERROR_REASON_ALREADY_CONNECTED,
        )
