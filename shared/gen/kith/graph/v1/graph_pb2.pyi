import datetime

from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ConnectionState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONNECTION_STATE_UNSPECIFIED: _ClassVar[ConnectionState]
    CONNECTION_STATE_NONE: _ClassVar[ConnectionState]
    CONNECTION_STATE_REQUEST_SENT: _ClassVar[ConnectionState]
    CONNECTION_STATE_REQUEST_RECEIVED: _ClassVar[ConnectionState]
    CONNECTION_STATE_CONNECTED: _ClassVar[ConnectionState]
    CONNECTION_STATE_BLOCKED: _ClassVar[ConnectionState]

class RequestDirection(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REQUEST_DIRECTION_UNSPECIFIED: _ClassVar[RequestDirection]
    REQUEST_DIRECTION_INCOMING: _ClassVar[RequestDirection]
    REQUEST_DIRECTION_OUTGOING: _ClassVar[RequestDirection]

class ConnectionEventKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONNECTION_EVENT_KIND_UNSPECIFIED: _ClassVar[ConnectionEventKind]
    CONNECTION_EVENT_KIND_REQUESTED: _ClassVar[ConnectionEventKind]
    CONNECTION_EVENT_KIND_CONNECTED: _ClassVar[ConnectionEventKind]
    CONNECTION_EVENT_KIND_DECLINED: _ClassVar[ConnectionEventKind]
    CONNECTION_EVENT_KIND_CANCELLED: _ClassVar[ConnectionEventKind]
    CONNECTION_EVENT_KIND_REMOVED: _ClassVar[ConnectionEventKind]
    CONNECTION_EVENT_KIND_BLOCKED: _ClassVar[ConnectionEventKind]
    CONNECTION_EVENT_KIND_UNBLOCKED: _ClassVar[ConnectionEventKind]
    CONNECTION_EVENT_KIND_IMPORTED: _ClassVar[ConnectionEventKind]
    CONNECTION_EVENT_KIND_USER_DELETED: _ClassVar[ConnectionEventKind]
CONNECTION_STATE_UNSPECIFIED: ConnectionState
CONNECTION_STATE_NONE: ConnectionState
CONNECTION_STATE_REQUEST_SENT: ConnectionState
CONNECTION_STATE_REQUEST_RECEIVED: ConnectionState
CONNECTION_STATE_CONNECTED: ConnectionState
CONNECTION_STATE_BLOCKED: ConnectionState
REQUEST_DIRECTION_UNSPECIFIED: RequestDirection
REQUEST_DIRECTION_INCOMING: RequestDirection
REQUEST_DIRECTION_OUTGOING: RequestDirection
CONNECTION_EVENT_KIND_UNSPECIFIED: ConnectionEventKind
CONNECTION_EVENT_KIND_REQUESTED: ConnectionEventKind
CONNECTION_EVENT_KIND_CONNECTED: ConnectionEventKind
CONNECTION_EVENT_KIND_DECLINED: ConnectionEventKind
CONNECTION_EVENT_KIND_CANCELLED: ConnectionEventKind
CONNECTION_EVENT_KIND_REMOVED: ConnectionEventKind
CONNECTION_EVENT_KIND_BLOCKED: ConnectionEventKind
CONNECTION_EVENT_KIND_UNBLOCKED: ConnectionEventKind
CONNECTION_EVENT_KIND_IMPORTED: ConnectionEventKind
CONNECTION_EVENT_KIND_USER_DELETED: ConnectionEventKind

class Connection(_message.Message):
    __slots__ = ("peer_id", "state", "create_time", "connect_time")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    CONNECT_TIME_FIELD_NUMBER: _ClassVar[int]
    peer_id: int
    state: ConnectionState
    create_time: _timestamp_pb2.Timestamp
    connect_time: _timestamp_pb2.Timestamp
    def __init__(self, peer_id: _Optional[int] = ..., state: _Optional[_Union[ConnectionState, str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., connect_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ConnectionEvent(_message.Message):
    __slots__ = ("sequence", "kind", "actor_id", "peer_id", "actor_revision", "peer_revision", "event_time")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ACTOR_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_REVISION_FIELD_NUMBER: _ClassVar[int]
    PEER_REVISION_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    kind: ConnectionEventKind
    actor_id: int
    peer_id: int
    actor_revision: int
    peer_revision: int
    event_time: _timestamp_pb2.Timestamp
    def __init__(self, sequence: _Optional[int] = ..., kind: _Optional[_Union[ConnectionEventKind, str]] = ..., actor_id: _Optional[int] = ..., peer_id: _Optional[int] = ..., actor_revision: _Optional[int] = ..., peer_revision: _Optional[int] = ..., event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetConnectedUserIdsRequest(_message.Message):
    __slots__ = ("users", "include_self")
    class UserQuery(_message.Message):
        __slots__ = ("user_id", "known_revision")
        USER_ID_FIELD_NUMBER: _ClassVar[int]
        KNOWN_REVISION_FIELD_NUMBER: _ClassVar[int]
        user_id: int
        known_revision: int
        def __init__(self, user_id: _Optional[int] = ..., known_revision: _Optional[int] = ...) -> None: ...
    USERS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_SELF_FIELD_NUMBER: _ClassVar[int]
    users: _containers.RepeatedCompositeFieldContainer[GetConnectedUserIdsRequest.UserQuery]
    include_self: bool
    def __init__(self, users: _Optional[_Iterable[_Union[GetConnectedUserIdsRequest.UserQuery, _Mapping]]] = ..., include_self: _Optional[bool] = ...) -> None: ...

class GetConnectedUserIdsResponse(_message.Message):
    __slots__ = ("users",)
    class ConnectedUsers(_message.Message):
        __slots__ = ("user_id", "revision", "unchanged", "connected_user_ids")
        USER_ID_FIELD_NUMBER: _ClassVar[int]
        REVISION_FIELD_NUMBER: _ClassVar[int]
        UNCHANGED_FIELD_NUMBER: _ClassVar[int]
        CONNECTED_USER_IDS_FIELD_NUMBER: _ClassVar[int]
        user_id: int
        revision: int
        unchanged: bool
        connected_user_ids: _containers.RepeatedScalarFieldContainer[int]
        def __init__(self, user_id: _Optional[int] = ..., revision: _Optional[int] = ..., unchanged: _Optional[bool] = ..., connected_user_ids: _Optional[_Iterable[int]] = ...) -> None: ...
    USERS_FIELD_NUMBER: _ClassVar[int]
    users: _containers.RepeatedCompositeFieldContainer[GetConnectedUserIdsResponse.ConnectedUsers]
    def __init__(self, users: _Optional[_Iterable[_Union[GetConnectedUserIdsResponse.ConnectedUsers, _Mapping]]] = ...) -> None: ...

class CheckConnectionsRequest(_message.Message):
    __slots__ = ("user_id", "peer_ids")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_IDS_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    peer_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, user_id: _Optional[int] = ..., peer_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class CheckConnectionsResponse(_message.Message):
    __slots__ = ("connections", "user_revision")
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    USER_REVISION_FIELD_NUMBER: _ClassVar[int]
    connections: _containers.RepeatedCompositeFieldContainer[Connection]
    user_revision: int
    def __init__(self, connections: _Optional[_Iterable[_Union[Connection, _Mapping]]] = ..., user_revision: _Optional[int] = ...) -> None: ...

class GetConnectionRequest(_message.Message):
    __slots__ = ("user_id", "peer_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    peer_id: int
    def __init__(self, user_id: _Optional[int] = ..., peer_id: _Optional[int] = ...) -> None: ...

class GetConnectionResponse(_message.Message):
    __slots__ = ("connection",)
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    connection: Connection
    def __init__(self, connection: _Optional[_Union[Connection, _Mapping]] = ...) -> None: ...

class ListConnectionsRequest(_message.Message):
    __slots__ = ("user_id", "page_size", "page_token")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    page_size: int
    page_token: str
    def __init__(self, user_id: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListConnectionsResponse(_message.Message):
    __slots__ = ("connections", "next_page_token")
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    connections: _containers.RepeatedCompositeFieldContainer[Connection]
    next_page_token: str
    def __init__(self, connections: _Optional[_Iterable[_Union[Connection, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListConnectionRequestsRequest(_message.Message):
    __slots__ = ("user_id", "direction", "page_size", "page_token")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    direction: RequestDirection
    page_size: int
    page_token: str
    def __init__(self, user_id: _Optional[int] = ..., direction: _Optional[_Union[RequestDirection, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListConnectionRequestsResponse(_message.Message):
    __slots__ = ("connections", "next_page_token")
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    connections: _containers.RepeatedCompositeFieldContainer[Connection]
    next_page_token: str
    def __init__(self, connections: _Optional[_Iterable[_Union[Connection, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListBlockedUsersRequest(_message.Message):
    __slots__ = ("user_id", "page_size", "page_token")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    page_size: int
    page_token: str
    def __init__(self, user_id: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListBlockedUsersResponse(_message.Message):
    __slots__ = ("connections", "next_page_token")
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    connections: _containers.RepeatedCompositeFieldContainer[Connection]
    next_page_token: str
    def __init__(self, connections: _Optional[_Iterable[_Union[Connection, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListMutualConnectionsRequest(_message.Message):
    __slots__ = ("user_id", "peer_id", "page_size", "page_token")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    peer_id: int
    page_size: int
    page_token: str
    def __init__(self, user_id: _Optional[int] = ..., peer_id: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListMutualConnectionsResponse(_message.Message):
    __slots__ = ("mutual_user_ids", "next_page_token")
    MUTUAL_USER_IDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    mutual_user_ids: _containers.RepeatedScalarFieldContainer[int]
    next_page_token: str
    def __init__(self, mutual_user_ids: _Optional[_Iterable[int]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CountConnectionsRequest(_message.Message):
    __slots__ = ("user_ids",)
    USER_IDS_FIELD_NUMBER: _ClassVar[int]
    user_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, user_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class CountConnectionsResponse(_message.Message):
    __slots__ = ("counts",)
    class ConnectionCount(_message.Message):
        __slots__ = ("user_id", "connection_count")
        USER_ID_FIELD_NUMBER: _ClassVar[int]
        CONNECTION_COUNT_FIELD_NUMBER: _ClassVar[int]
        user_id: int
        connection_count: int
        def __init__(self, user_id: _Optional[int] = ..., connection_count: _Optional[int] = ...) -> None: ...
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    counts: _containers.RepeatedCompositeFieldContainer[CountConnectionsResponse.ConnectionCount]
    def __init__(self, counts: _Optional[_Iterable[_Union[CountConnectionsResponse.ConnectionCount, _Mapping]]] = ...) -> None: ...

class SuggestConnectionsRequest(_message.Message):
    __slots__ = ("user_id", "max_suggestions")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_SUGGESTIONS_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    max_suggestions: int
    def __init__(self, user_id: _Optional[int] = ..., max_suggestions: _Optional[int] = ...) -> None: ...

class SuggestConnectionsResponse(_message.Message):
    __slots__ = ("suggestions",)
    class Suggestion(_message.Message):
        __slots__ = ("suggested_user_id", "mutual_count")
        SUGGESTED_USER_ID_FIELD_NUMBER: _ClassVar[int]
        MUTUAL_COUNT_FIELD_NUMBER: _ClassVar[int]
        suggested_user_id: int
        mutual_count: int
        def __init__(self, suggested_user_id: _Optional[int] = ..., mutual_count: _Optional[int] = ...) -> None: ...
    SUGGESTIONS_FIELD_NUMBER: _ClassVar[int]
    suggestions: _containers.RepeatedCompositeFieldContainer[SuggestConnectionsResponse.Suggestion]
    def __init__(self, suggestions: _Optional[_Iterable[_Union[SuggestConnectionsResponse.Suggestion, _Mapping]]] = ...) -> None: ...

class RequestConnectionRequest(_message.Message):
    __slots__ = ("user_id", "peer_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    peer_id: int
    def __init__(self, user_id: _Optional[int] = ..., peer_id: _Optional[int] = ...) -> None: ...

class RequestConnectionResponse(_message.Message):
    __slots__ = ("connection", "user_revision", "peer_revision")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    USER_REVISION_FIELD_NUMBER: _ClassVar[int]
    PEER_REVISION_FIELD_NUMBER: _ClassVar[int]
    connection: Connection
    user_revision: int
    peer_revision: int
    def __init__(self, connection: _Optional[_Union[Connection, _Mapping]] = ..., user_revision: _Optional[int] = ..., peer_revision: _Optional[int] = ...) -> None: ...

class AcceptConnectionRequest(_message.Message):
    __slots__ = ("user_id", "peer_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    peer_id: int
    def __init__(self, user_id: _Optional[int] = ..., peer_id: _Optional[int] = ...) -> None: ...

class AcceptConnectionResponse(_message.Message):
    __slots__ = ("connection", "user_revision", "peer_revision")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    USER_REVISION_FIELD_NUMBER: _ClassVar[int]
    PEER_REVISION_FIELD_NUMBER: _ClassVar[int]
    connection: Connection
    user_revision: int
    peer_revision: int
    def __init__(self, connection: _Optional[_Union[Connection, _Mapping]] = ..., user_revision: _Optional[int] = ..., peer_revision: _Optional[int] = ...) -> None: ...

class DeclineConnectionRequest(_message.Message):
    __slots__ = ("user_id", "peer_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    peer_id: int
    def __init__(self, user_id: _Optional[int] = ..., peer_id: _Optional[int] = ...) -> None: ...

class DeclineConnectionResponse(_message.Message):
    __slots__ = ("connection", "user_revision", "peer_revision")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    USER_REVISION_FIELD_NUMBER: _ClassVar[int]
    PEER_REVISION_FIELD_NUMBER: _ClassVar[int]
    connection: Connection
    user_revision: int
    peer_revision: int
    def __init__(self, connection: _Optional[_Union[Connection, _Mapping]] = ..., user_revision: _Optional[int] = ..., peer_revision: _Optional[int] = ...) -> None: ...

class CancelConnectionRequestRequest(_message.Message):
    __slots__ = ("user_id", "peer_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    peer_id: int
    def __init__(self, user_id: _Optional[int] = ..., peer_id: _Optional[int] = ...) -> None: ...

class CancelConnectionRequestResponse(_message.Message):
    __slots__ = ("connection", "user_revision", "peer_revision")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    USER_REVISION_FIELD_NUMBER: _ClassVar[int]
    PEER_REVISION_FIELD_NUMBER: _ClassVar[int]
    connection: Connection
    user_revision: int
    peer_revision: int
    def __init__(self, connection: _Optional[_Union[Connection, _Mapping]] = ..., user_revision: _Optional[int] = ..., peer_revision: _Optional[int] = ...) -> None: ...

class RemoveConnectionRequest(_message.Message):
    __slots__ = ("user_id", "peer_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    peer_id: int
    def __init__(self, user_id: _Optional[int] = ..., peer_id: _Optional[int] = ...) -> None: ...

class RemoveConnectionResponse(_message.Message):
    __slots__ = ("connection", "user_revision", "peer_revision")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    USER_REVISION_FIELD_NUMBER: _ClassVar[int]
    PEER_REVISION_FIELD_NUMBER: _ClassVar[int]
    connection: Connection
    user_revision: int
    peer_revision: int
    def __init__(self, connection: _Optional[_Union[Connection, _Mapping]] = ..., user_revision: _Optional[int] = ..., peer_revision: _Optional[int] = ...) -> None: ...

class BlockUserRequest(_message.Message):
    __slots__ = ("user_id", "peer_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    peer_id: int
    def __init__(self, user_id: _Optional[int] = ..., peer_id: _Optional[int] = ...) -> None: ...

class BlockUserResponse(_message.Message):
    __slots__ = ("connection", "user_revision", "peer_revision")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    USER_REVISION_FIELD_NUMBER: _ClassVar[int]
    PEER_REVISION_FIELD_NUMBER: _ClassVar[int]
    connection: Connection
    user_revision: int
    peer_revision: int
    def __init__(self, connection: _Optional[_Union[Connection, _Mapping]] = ..., user_revision: _Optional[int] = ..., peer_revision: _Optional[int] = ...) -> None: ...

class UnblockUserRequest(_message.Message):
    __slots__ = ("user_id", "peer_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    peer_id: int
    def __init__(self, user_id: _Optional[int] = ..., peer_id: _Optional[int] = ...) -> None: ...

class UnblockUserResponse(_message.Message):
    __slots__ = ("connection", "user_revision", "peer_revision")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    USER_REVISION_FIELD_NUMBER: _ClassVar[int]
    PEER_REVISION_FIELD_NUMBER: _ClassVar[int]
    connection: Connection
    user_revision: int
    peer_revision: int
    def __init__(self, connection: _Optional[_Union[Connection, _Mapping]] = ..., user_revision: _Optional[int] = ..., peer_revision: _Optional[int] = ...) -> None: ...

class ConnectionPair(_message.Message):
    __slots__ = ("first_user_id", "second_user_id", "connect_time")
    FIRST_USER_ID_FIELD_NUMBER: _ClassVar[int]
    SECOND_USER_ID_FIELD_NUMBER: _ClassVar[int]
    CONNECT_TIME_FIELD_NUMBER: _ClassVar[int]
    first_user_id: int
    second_user_id: int
    connect_time: _timestamp_pb2.Timestamp
    def __init__(self, first_user_id: _Optional[int] = ..., second_user_id: _Optional[int] = ..., connect_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ImportConnectionsRequest(_message.Message):
    __slots__ = ("connections",)
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    connections: _containers.RepeatedCompositeFieldContainer[ConnectionPair]
    def __init__(self, connections: _Optional[_Iterable[_Union[ConnectionPair, _Mapping]]] = ...) -> None: ...

class ImportConnectionsResponse(_message.Message):
    __slots__ = ("imported_count", "existing_count", "blocked_count", "over_limit_count", "committed_chunks")
    IMPORTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    EXISTING_COUNT_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_COUNT_FIELD_NUMBER: _ClassVar[int]
    OVER_LIMIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_CHUNKS_FIELD_NUMBER: _ClassVar[int]
    imported_count: int
    existing_count: int
    blocked_count: int
    over_limit_count: int
    committed_chunks: int
    def __init__(self, imported_count: _Optional[int] = ..., existing_count: _Optional[int] = ..., blocked_count: _Optional[int] = ..., over_limit_count: _Optional[int] = ..., committed_chunks: _Optional[int] = ...) -> None: ...

class ExportConnectionsRequest(_message.Message):
    __slots__ = ("cursor",)
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    cursor: str
    def __init__(self, cursor: _Optional[str] = ...) -> None: ...

class ExportConnectionsResponse(_message.Message):
    __slots__ = ("connections", "cursor")
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    connections: _containers.RepeatedCompositeFieldContainer[ConnectionPair]
    cursor: str
    def __init__(self, connections: _Optional[_Iterable[_Union[ConnectionPair, _Mapping]]] = ..., cursor: _Optional[str] = ...) -> None: ...

class DeleteUserRequest(_message.Message):
    __slots__ = ("user_id",)
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    def __init__(self, user_id: _Optional[int] = ...) -> None: ...

class DeleteUserResponse(_message.Message):
    __slots__ = ("removed_connection_count",)
    REMOVED_CONNECTION_COUNT_FIELD_NUMBER: _ClassVar[int]
    removed_connection_count: int
    def __init__(self, removed_connection_count: _Optional[int] = ...) -> None: ...

class WatchConnectionsRequest(_message.Message):
    __slots__ = ("cursor",)
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    cursor: str
    def __init__(self, cursor: _Optional[str] = ...) -> None: ...

class WatchConnectionsResponse(_message.Message):
    __slots__ = ("events", "cursor")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[ConnectionEvent]
    cursor: str
    def __init__(self, events: _Optional[_Iterable[_Union[ConnectionEvent, _Mapping]]] = ..., cursor: _Optional[str] = ...) -> None: ...
