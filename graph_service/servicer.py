"""GraphService: every RPC in the order of the proto. Decodes, calls, encodes."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import TypeAlias

import grpc

from graph_service import messages
from graph_service.connections import Connections
from graph_service.erasure import Erasure
from graph_service.exports import Exports
from graph_service.imports import (
    Chunk,
    ImportedBlock,
    ImportedPair,
    ImportedRequest,
    Imports,
)
from graph_service.lookups import AskedUser, Lookups
from graph_service.queries.events import EventFilter
from graph_service.queries.pairs import LockedPair
from graph_service.suspensions import Suspensions
from graph_service.watches import ConnectionWatches
from kith.errors.v1 import errors_pb2
from kith.exceptions import RateLimitError
from kith.graph.v1 import graph_pb2 as pb
from kith.graph.v1 import graph_pb2_grpc
from shared.api.fields import Fields
from shared.api.idempotency import NOBODY, Call, M
from shared.api.limits import limits

_Change: TypeAlias = (
    pb.RequestConnectionRequest
    | pb.AcceptConnectionRequest
    | pb.DeclineConnectionRequest
    | pb.CancelConnectionRequestRequest
    | pb.RemoveConnectionRequest
    | pb.BlockUserRequest
    | pb.UnblockUserRequest
)

_Directed: TypeAlias = pb.ImportConnectionsRequest.OpenRequest | pb.ImportConnectionsRequest.Block
_REQUEST_FIELDS = ("requester_id", "addressee_id")
_BLOCK_FIELDS = ("blocker_id", "blocked_id")

_MAX_BATCH = limits(pb.GetConnectedUserIdsRequest, "users").max_items
_MAX_SUSPENDED_AMONG = limits(pb.GetConnectedUserIdsRequest, "suspended_among").max_items
_MAX_PEERS = limits(pb.CheckConnectionsRequest, "peer_ids").max_items
_MAX_COUNTED = limits(pb.CountConnectionsRequest, "user_ids").max_items
_MAX_IMPORT_CHUNK = limits(pb.ImportConnectionsRequest, "connections").max_items
_MAX_KINDS = limits(pb.WatchConnectionsRequest, "kinds").max_items
_MAX_WATCHED = limits(pb.WatchConnectionsRequest, "user_ids").max_items
_MAX_REASON = limits(pb.SuspendUserRequest, "reason").max_length
_PAGE = {"default": 50, "maximum": 500}
_DIRECTIONS = {
    pb.REQUEST_DIRECTION_INCOMING: ("incoming", pb.CONNECTION_STATE_REQUEST_RECEIVED),
    pb.REQUEST_DIRECTION_OUTGOING: ("outgoing", pb.CONNECTION_STATE_REQUEST_SENT),
}


class GraphServicer(graph_pb2_grpc.GraphServiceServicer):
    """The service of protos/kith/graph/v1/graph.proto, which documents every call."""

    def __init__(
        self,
        *,
        lookups: Lookups,
        connections: Connections,
        imports: Imports,
        exports: Exports,
        watches: ConnectionWatches,
        erasure: Erasure,
        suspensions: Suspensions,
        max_message_bytes: int,
    ) -> None:
        self._lookups = lookups
        self._connections = connections
        self._imports = imports
        self._exports = exports
        self._watches = watches
        self._erasure = erasure
        self._suspensions = suspensions
        self._max_message_bytes = max_message_bytes

    def GetConnectedUserIds(
        self, request: pb.GetConnectedUserIdsRequest, context: grpc.ServicerContext
    ) -> pb.GetConnectedUserIdsResponse:
        with Fields() as fields:
            user_ids = fields.identifiers(
                "users",
                [user.user_id for user in request.users],
                min_items=1,
                max_items=_MAX_BATCH,
                within=".user_id",
            )
            suspended_among = fields.identifiers(
                "suspended_among", request.suspended_among, max_items=_MAX_SUSPENDED_AMONG
            )
        asked = [
            AskedUser(known_revision=user.known_revision, min_revision=user.min_revision)
            for user in request.users
        ]
        answer = self._lookups.connected_ids(
            dict(zip(user_ids, asked, strict=True)),
            with_blocked=request.include_blocked,
            with_suspended=request.include_suspended,
            suspended_among=suspended_among,
        )
        response = pb.GetConnectedUserIdsResponse(
            users=[
                messages.connected_users(user, include_self=request.include_self)
                for user in answer.users
            ],
            suspended_user_ids=answer.suspended_ids,
            fence_keepers=messages.keepers(answer.keepers),
        )
        self._refuse_if_too_large(response, advice="send fewer users at once")
        return response

    def CheckConnections(
        self, request: pb.CheckConnectionsRequest, context: grpc.ServicerContext
    ) -> pb.CheckConnectionsResponse:
        with Fields() as fields:
            user_id = fields.identifier("user_id", request.user_id)
            peer_ids = fields.identifiers(
                "peer_ids", request.peer_ids, min_items=1, max_items=_MAX_PEERS
            )
            for index, peer_id in enumerate(peer_ids):
                if peer_id == user_id:
                    fields.reject(f"peer_ids[{index}]", "must not be the user")
        peers, revision = self._lookups.peers_at_revision(user_id, peer_ids)
        return pb.CheckConnectionsResponse(
            connections=[messages.connection(peer) for peer in peers], user_revision=revision
        )

    def GetConnection(
        self, request: pb.GetConnectionRequest, context: grpc.ServicerContext
    ) -> pb.GetConnectionResponse:
        user_id, peer_id = _pair(request.user_id, request.peer_id)
        peers, _ = self._lookups.peers_at_revision(user_id, [peer_id])
        return pb.GetConnectionResponse(connection=messages.connection(peers[0]))

    def ListConnections(
        self, request: pb.ListConnectionsRequest, context: grpc.ServicerContext
    ) -> pb.ListConnectionsResponse:
        with Fields() as fields:
            user_id = fields.identifier("user_id", request.user_id)
            page_size = fields.page_size("page_size", request.page_size, **_PAGE)
        page = self._lookups.page(
            user_id, "connected", page_size=page_size, page_token=request.page_token
        )
        return pb.ListConnectionsResponse(
            connections=[
                messages.listed(peer, pb.CONNECTION_STATE_CONNECTED) for peer in page.items
            ],
            next_page_token=page.next_page_token,
        )

    def ListConnectionRequests(
        self, request: pb.ListConnectionRequestsRequest, context: grpc.ServicerContext
    ) -> pb.ListConnectionRequestsResponse:
        with Fields() as fields:
            user_id = fields.identifier("user_id", request.user_id)
            listing, state = fields.choice("direction", request.direction, choices=_DIRECTIONS)
            page_size = fields.page_size("page_size", request.page_size, **_PAGE)
        page = self._lookups.page(
            user_id, listing, page_size=page_size, page_token=request.page_token
        )
        return pb.ListConnectionRequestsResponse(
            connections=[messages.listed(peer, state) for peer in page.items],
            next_page_token=page.next_page_token,
        )

    def ListBlockedUsers(
        self, request: pb.ListBlockedUsersRequest, context: grpc.ServicerContext
    ) -> pb.ListBlockedUsersResponse:
        with Fields() as fields:
            user_id = fields.identifier("user_id", request.user_id)
            page_size = fields.page_size("page_size", request.page_size, **_PAGE)
        page = self._lookups.page(
            user_id, "blocked", page_size=page_size, page_token=request.page_token
        )
        return pb.ListBlockedUsersResponse(
            connections=[messages.listed(peer, pb.CONNECTION_STATE_BLOCKED) for peer in page.items],
            next_page_token=page.next_page_token,
        )

    def ListMutualConnections(
        self, request: pb.ListMutualConnectionsRequest, context: grpc.ServicerContext
    ) -> pb.ListMutualConnectionsResponse:
        user_id, peer_id = _pair(request.user_id, request.peer_id)
        with Fields() as fields:
            page_size = fields.page_size("page_size", request.page_size, **_PAGE)
        page = self._lookups.mutual(
            user_id, peer_id, page_size=page_size, page_token=request.page_token
        )
        return pb.ListMutualConnectionsResponse(
            mutual_user_ids=page.items, next_page_token=page.next_page_token
        )

    def CountConnections(
        self, request: pb.CountConnectionsRequest, context: grpc.ServicerContext
    ) -> pb.CountConnectionsResponse:
        with Fields() as fields:
            # Only services get here without a user.
            user_id = fields.identifier("user_id", request.user_id) if request.user_id else 0
            user_ids = fields.identifiers(
                "user_ids", request.user_ids, min_items=1, max_items=_MAX_COUNTED
            )
        return pb.CountConnectionsResponse(
            counts=[
                pb.CountConnectionsResponse.ConnectionCount(
                    user_id=row.user_id, connection_count=row.connection_count
                )
                for row in self._lookups.counts(user_id, user_ids)
            ]
        )

    def SuggestConnections(
        self, request: pb.SuggestConnectionsRequest, context: grpc.ServicerContext
    ) -> pb.SuggestConnectionsResponse:
        with Fields() as fields:
            user_id = fields.identifier("user_id", request.user_id)
            limit = fields.page_size(
                "max_suggestions", request.max_suggestions, default=20, maximum=100
            )
        return pb.SuggestConnectionsResponse(
            suggestions=[
                pb.SuggestConnectionsResponse.Suggestion(
                    suggested_user_id=suggested_id, mutual_count=mutual_count
                )
                for suggested_id, mutual_count in self._lookups.suggestions(user_id, limit=limit)
            ]
        )

    def RequestConnection(
        self, request: pb.RequestConnectionRequest, context: grpc.ServicerContext
    ) -> pb.RequestConnectionResponse:
        return self._connections.request(*_change(request, pb.RequestConnectionResponse))

    def AcceptConnection(
        self, request: pb.AcceptConnectionRequest, context: grpc.ServicerContext
    ) -> pb.AcceptConnectionResponse:
        return self._connections.accept(*_change(request, pb.AcceptConnectionResponse))

    def DeclineConnection(
        self, request: pb.DeclineConnectionRequest, context: grpc.ServicerContext
    ) -> pb.DeclineConnectionResponse:
        return self._connections.decline(*_change(request, pb.DeclineConnectionResponse))

    def CancelConnectionRequest(
        self, request: pb.CancelConnectionRequestRequest, context: grpc.ServicerContext
    ) -> pb.CancelConnectionRequestResponse:
        return self._connections.cancel(*_change(request, pb.CancelConnectionRequestResponse))

    def RemoveConnection(
        self, request: pb.RemoveConnectionRequest, context: grpc.ServicerContext
    ) -> pb.RemoveConnectionResponse:
        return self._connections.remove(*_change(request, pb.RemoveConnectionResponse))

    def BlockUser(
        self, request: pb.BlockUserRequest, context: grpc.ServicerContext
    ) -> pb.BlockUserResponse:
        return self._connections.block(*_change(request, pb.BlockUserResponse))

    def UnblockUser(
        self, request: pb.UnblockUserRequest, context: grpc.ServicerContext
    ) -> pb.UnblockUserResponse:
        return self._connections.unblock(*_change(request, pb.UnblockUserResponse))

    def ImportConnections(
        self,
        request_iterator: Iterator[pb.ImportConnectionsRequest],
        context: grpc.ServicerContext,
    ) -> pb.ImportConnectionsResponse:
        result = self._imports.import_chunks(_chunk(request) for request in request_iterator)
        return pb.ImportConnectionsResponse(
            imported_count=result.imported,
            existing_count=result.existing,
            blocked_count=result.blocked,
            over_limit_count=result.over_limit,
            committed_chunks=result.committed_chunks,
            imported_request_count=result.imported_requests,
            imported_block_count=result.imported_blocks,
        )

    def ExportConnections(
        self, request: pb.ExportConnectionsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ExportConnectionsResponse]:
        for chunk in self._exports.export(request.cursor):
            yield pb.ExportConnectionsResponse(
                connections=[messages.pair(row) for row in chunk.pairs], cursor=chunk.cursor
            )

    def ExportUser(
        self, request: pb.ExportUserRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ExportUserResponse]:
        with Fields() as fields:
            user_id = fields.identifier("user_id", request.user_id)
        for chunk in self._exports.export_user(user_id, request.cursor):
            yield pb.ExportUserResponse(
                connections=[messages.connection(peer) for peer in chunk.peers],
                cursor=chunk.cursor,
            )

    def WatchConnections(
        self, request: pb.WatchConnectionsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchConnectionsResponse]:
        with Fields() as fields:
            wanted = EventFilter(
                kinds=fields.choices(
                    "kinds", request.kinds, choices=messages.EVENT_KINDS, max_items=_MAX_KINDS
                ),
                user_ids=fields.identifiers("user_ids", request.user_ids, max_items=_MAX_WATCHED),
            )
        for changes in self._watches.follow(request.cursor, context, wanted):
            yield pb.WatchConnectionsResponse(
                events=[messages.event(row) for row in changes.events], cursor=changes.cursor
            )

    def DeleteUser(
        self, request: pb.DeleteUserRequest, context: grpc.ServicerContext
    ) -> pb.DeleteUserResponse:
        with Fields() as fields:
            user_id = fields.identifier("user_id", request.user_id)
            call = Call(
                message=request,
                user_id=NOBODY,
                request_id=fields.request_id("request_id", request.request_id),
                answered_by=pb.DeleteUserResponse,
                answer=messages.erased,
            )
        return self._erasure.delete_user(call, user_id)

    def SuspendUser(
        self, request: pb.SuspendUserRequest, context: grpc.ServicerContext
    ) -> pb.SuspendUserResponse:
        with Fields() as fields:
            user_id = fields.identifier("user_id", request.user_id)
            reason = fields.text(
                "reason", request.reason, max_length=_MAX_REASON, may_be_empty=True
            )
            call = Call(
                message=request,
                user_id=NOBODY,
                request_id=fields.request_id("request_id", request.request_id),
                answered_by=pb.SuspendUserResponse,
                answer=messages.suspended,
            )
        return self._suspensions.suspend(call, user_id, reason=reason)

    def RestoreUser(
        self, request: pb.RestoreUserRequest, context: grpc.ServicerContext
    ) -> pb.RestoreUserResponse:
        with Fields() as fields:
            user_id = fields.identifier("user_id", request.user_id)
            call = Call(
                message=request,
                user_id=NOBODY,
                request_id=fields.request_id("request_id", request.request_id),
                answered_by=pb.RestoreUserResponse,
                answer=messages.restored,
            )
        return self._suspensions.restore(call, user_id)

    def ListSuspendedUsers(
        self, request: pb.ListSuspendedUsersRequest, context: grpc.ServicerContext
    ) -> pb.ListSuspendedUsersResponse:
        with Fields() as fields:
            page_size = fields.page_size("page_size", request.page_size, **_PAGE)
        page = self._suspensions.page(page_size=page_size, page_token=request.page_token)
        return pb.ListSuspendedUsersResponse(
            suspended_users=[messages.suspended_user(row) for row in page.items],
            next_page_token=page.next_page_token,
        )

    def GetSuspendedUserIds(
        self, request: pb.GetSuspendedUserIdsRequest, context: grpc.ServicerContext
    ) -> pb.GetSuspendedUserIdsResponse:
        suspended, keepers = self._suspensions.ids(known_revision=request.known_revision)
        response = pb.GetSuspendedUserIdsResponse(
            revision=suspended.revision,
            unchanged=suspended.ids is None,
            suspended_user_ids=suspended.ids or (),
            fence_keepers=messages.keepers(keepers),
        )
        self._refuse_if_too_large(response, advice="too many users are suspended")
        return response

    def _refuse_if_too_large(
        self,
        response: pb.GetConnectedUserIdsResponse | pb.GetSuspendedUserIdsResponse,
        *,
        advice: str,
    ) -> None:
        if response.ByteSize() > self._max_message_bytes:
            raise RateLimitError(
                f"the answer would be larger than {self._max_message_bytes:,} bytes; {advice}",
                reason=errors_pb2.ERROR_REASON_RESPONSE_TOO_LARGE,
                metadata={"limit_bytes": str(self._max_message_bytes)},
            )


def _pair(user_id: int, peer_id: int) -> tuple[int, int]:
    with Fields() as fields:
        fields.identifier("user_id", user_id)
        fields.other("peer_id", peer_id, than=user_id)
    return user_id, peer_id


def _change(request: _Change, answered_by: type[M]) -> tuple[Call[LockedPair, M], int]:
    """Return a change of a pair, and the peer."""
    with Fields() as fields:
        user_id = fields.identifier("user_id", request.user_id)
        peer_id = fields.other("peer_id", request.peer_id, than=request.user_id)
        call = Call(
            message=request,
            user_id=user_id,
            request_id=fields.request_id("request_id", request.request_id),
            answered_by=answered_by,
            answer=partial(messages.changed, answered_by=answered_by),
            about_user_id=peer_id,
        )
    return call, peer_id


def _chunk(request: pb.ImportConnectionsRequest) -> Chunk:
    now = datetime.now(UTC)
    with Fields() as fields:
        for name in ("connections", "requests", "blocks"):
            items = getattr(request, name)
            fields.count(name, len(items), min_items=0, max_items=_MAX_IMPORT_CHUNK)
        return Chunk(
            pairs=[
                _imported_pair(fields, index, pair, now=now)
                for index, pair in enumerate(request.connections[:_MAX_IMPORT_CHUNK])
            ],
            requests=[
                ImportedRequest(
                    *_directed(fields, f"requests[{index}]", each, *_REQUEST_FIELDS),
                    _time(fields, f"requests[{index}].create_time", each, now=now),
                )
                for index, each in enumerate(request.requests[:_MAX_IMPORT_CHUNK])
            ],
            blocks=[
                ImportedBlock(
                    *_directed(fields, f"blocks[{index}]", block, *_BLOCK_FIELDS),
                    _time(fields, f"blocks[{index}].create_time", block, now=now),
                )
                for index, block in enumerate(request.blocks[:_MAX_IMPORT_CHUNK])
            ],
        )


def _imported_pair(
    fields: Fields, index: int, pair: pb.ConnectionPair, *, now: datetime
) -> ImportedPair:
    first_id, second_id = pair.first_user_id, pair.second_user_id
    connected_at, requested_at = None, None
    # A field is named only when there is something to say about it: names cost more than checks.
    if not 0 < first_id != second_id > 0:
        fields.identifier(f"connections[{index}].first_user_id", first_id)
        fields.other(f"connections[{index}].second_user_id", second_id, than=first_id)
    if pair.HasField("connect_time"):
        connected_at = fields.past(f"connections[{index}].connect_time", pair.connect_time, now=now)
    if pair.HasField("request_time"):
        requested_at = fields.past(f"connections[{index}].request_time", pair.request_time, now=now)
    return ImportedPair(first_id, second_id, connected_at, requested_at)


def _directed(fields: Fields, at: str, item: _Directed, first: str, second: str) -> tuple[int, int]:
    """Read the user who asks or blocks, and the other."""
    first_id = fields.identifier(f"{at}.{first}", getattr(item, first))
    return first_id, fields.other(f"{at}.{second}", getattr(item, second), than=first_id)


def _time(fields: Fields, field: str, item: _Directed, *, now: datetime) -> datetime | None:
    if not item.HasField("create_time"):
        return None
    return fields.past(field, item.create_time, now=now)
