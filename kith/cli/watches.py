"""Changes of either service as they happen."""

from collections.abc import Callable, Sequence
from typing import TextIO, TypeVar

from google.protobuf.json_format import MessageToJson

from kith.client import resumed
from kith.client.streams import Resumable, Stream
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2

_CONNECTION_KIND = "CONNECTION_EVENT_KIND_"
_CONTENT_KIND = "CONTENT_EVENT_KIND_"


def _names(kinds: Sequence[str], prefix: str) -> list[str]:
    """Return the names of kinds as arguments have them, but for the one that is not used."""
    return [
        kind.removeprefix(prefix).lower() for kind in kinds if not kind.endswith("_UNSPECIFIED")
    ]


CONNECTION_KINDS = _names(graph_pb2.ConnectionEventKind.keys(), _CONNECTION_KIND)
CONTENT_KINDS = _names(feed_pb2.ContentEventKind.keys(), _CONTENT_KIND)


Asked = TypeVar("Asked", bound=Resumable)
Told = TypeVar("Told", graph_pb2.WatchConnectionsResponse, feed_pb2.WatchPostsResponse)


def connection_kinds(names: Sequence[str]) -> list[graph_pb2.ConnectionEventKind.ValueType]:
    """Return kinds of changes of the graph by their names as arguments."""
    return [
        graph_pb2.ConnectionEventKind.Value(f"{_CONNECTION_KIND}{name.upper()}") for name in names
    ]


def content_kinds(names: Sequence[str]) -> list[feed_pb2.ContentEventKind.ValueType]:
    """Return kinds of changes of posts and comments by their names as arguments."""
    return [feed_pb2.ContentEventKind.Value(f"{_CONTENT_KIND}{name.upper()}") for name in names]


def write_changes(
    call: Callable[[Asked], Stream[Told]], request: Asked, out: TextIO, *, count: int | None
) -> None:
    """Write each message with events as a JSON object in a line, until there were `count` events.

    The stream is resumed when it breaks off. The cursor of a line is that behind its events.
    """
    written = 0
    for message in resumed(call, request):
        if message.events:
            out.write(f"{MessageToJson(message, indent=None)}\n")
            out.flush()
            written += len(message.events)
        if count is not None and written >= count:
            return
