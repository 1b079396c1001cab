"""What the graph knows, as protobuf messages."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar, cast

from google.protobuf.message import Message

from graph_service.models import ACCEPTED, WITHHELD, EventKind
from graph_service.queries.connected_ids import ConnectedIds
from graph_service.queries.events import EventRow
from graph_service.queries.exports import PairRow
from graph_service.queries.fences import KeeperName
from graph_service.queries.lookups import ListedPeer, PeerRow
from graph_service.queries.pairs import LockedPair
from graph_service.queries.suspensions import SuspensionRow
from kith.graph.v1 import fence_keeper_pb2
from kith.graph.v1 import graph_pb2 as pb
from kith.timestamps import timestamp

M = TypeVar("M", bound=Message)

EVENT_KINDS: Mapping[pb.ConnectionEventKind.ValueType, EventKind] = {
    pb.ConnectionEventKind.Value(f"CONNECTION_EVENT_KIND_{kind.name}"): kind for kind in EventKind
}
_KINDS_OF_EVENTS: Mapping[str, pb.ConnectionEventKind.ValueType] = {
    kind: value for value, kind in EVENT_KINDS.items()
}


def connection(peer: PeerRow) -> pb.Connection:
    """Return a pair as the user sees it. The user's own block goes before everything else.

    A suspended peer looks like a stranger.
    """
    if peer.blocked_at is not None:
        return pb.Connection(
            peer_id=peer.peer_id,
            state=pb.CONNECTION_STATE_BLOCKED,
            create_time=timestamp(peer.blocked_at),
        )
    # The request stays withheld from the asked user also when their block is gone.
    is_withheld = peer.status == WITHHELD and peer.requested_by == peer.peer_id
    is_hidden = peer.is_suspended or is_withheld
    if is_hidden or peer.created_at is None or peer.updated_at is None:
        return pb.Connection(peer_id=peer.peer_id, state=pb.CONNECTION_STATE_NONE)
    if peer.status == ACCEPTED:
        return pb.Connection(
            peer_id=peer.peer_id,
            state=pb.CONNECTION_STATE_CONNECTED,
            create_time=timestamp(peer.created_at),
            connect_time=timestamp(peer.updated_at),
        )
    return pb.Connection(
        peer_id=peer.peer_id,
        state=(
            pb.CONNECTION_STATE_REQUEST_RECEIVED
            if peer.requested_by == peer.peer_id
            else pb.CONNECTION_STATE_REQUEST_SENT
        ),
        create_time=timestamp(peer.created_at),
    )


def changed(pair: LockedPair, answered_by: type[M]) -> M:
    """Return the answer to a change of a pair, of which each kind has the same fields."""
    answer: Any = answered_by()
    answer.connection.CopyFrom(connection(pair.seen))
    answer.user_revision = pair.user.shown_revision
    return cast("M", answer)


def erased(ended: int) -> pb.DeleteUserResponse:
    """Return the answer to an erasure that has ended so many connections."""
    return pb.DeleteUserResponse(removed_connection_count=ended)


def suspended(suspended_at: datetime) -> pb.SuspendUserResponse:
    """Return the answer to a suspension that began at a moment."""
    return pb.SuspendUserResponse(suspend_time=timestamp(suspended_at))


def restored(was_suspended: bool) -> pb.RestoreUserResponse:  # noqa: FBT001 -- it is the result of a call
    """Return the answer to the end of a suspension, if there was one."""
    return pb.RestoreUserResponse(restored=was_suspended)


def suspended_user(row: SuspensionRow) -> pb.ListSuspendedUsersResponse.SuspendedUser:
    """Return a suspended user as an entry of the list."""
    return pb.ListSuspendedUsersResponse.SuspendedUser(
        user_id=row.user_id, reason=row.reason, suspend_time=timestamp(row.suspended_at)
    )


def listed(peer: ListedPeer, state: pb.ConnectionState.ValueType) -> pb.Connection:
    """Return an entry of a list, all of whose entries are in one state."""
    message = pb.Connection(
        peer_id=peer.peer_id, state=state, create_time=timestamp(peer.created_at)
    )
    if state == pb.CONNECTION_STATE_CONNECTED:
        message.connect_time.FromDatetime(peer.listed_at)
    return message


def connected_users(
    answer: ConnectedIds, *, include_self: bool
) -> pb.GetConnectedUserIdsResponse.ConnectedUsers:
    """Return one user's answer of a batch."""
    message = pb.GetConnectedUserIdsResponse.ConnectedUsers(
        user_id=answer.user_id,
        revision=answer.revision,
        unchanged=answer.ids is None,
        suspended=answer.is_suspended,
        connected_user_ids=answer.ids or (),
        reconnections=[
            pb.GetConnectedUserIdsResponse.Reconnection(
                peer_id=reconnection.peer_id,
                user_revision=reconnection.user_revision,
                peer_revision=reconnection.peer_revision,
            )
            for reconnection in answer.reconnections
        ],
        blocked_user_ids=answer.blocked_ids,
        erasures=[
            pb.GetConnectedUserIdsResponse.Erasure(
                user_id=erasure.user_id, revision=erasure.revision
            )
            for erasure in answer.erasures
        ],
    )
    if include_self and answer.ids is not None:
        message.connected_user_ids.append(answer.user_id)
    return message


def pair(row: PairRow) -> pb.ConnectionPair:
    """Return a connected pair as exports hold it."""
    return pb.ConnectionPair(
        first_user_id=row.user_a_id,
        second_user_id=row.user_b_id,
        connect_time=timestamp(row.updated_at),
    )


def event(row: EventRow) -> pb.ConnectionEvent:
    """Return one change of the graph."""
    return pb.ConnectionEvent(
        sequence=row.seq,
        kind=_KINDS_OF_EVENTS[row.kind],
        actor_id=row.actor_id,
        peer_id=row.peer_id or 0,
        actor_revision=row.actor_revision,
        peer_revision=row.peer_revision,
        event_time=timestamp(row.occurred_at),
    )


def keepers(names: Iterable[KeeperName]) -> list[fence_keeper_pb2.FenceKeeperName]:
    """Return the names of keepers of fences."""
    return [
        fence_keeper_pb2.FenceKeeperName(keeper_id=name.keeper_id, history=name.history)
        for name in names
    ]
