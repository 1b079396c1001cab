"""Clients of both services that tell of every call they make."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from google.protobuf.message import Message

from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from kith.graph.v1.graph_pb2_grpc import GraphServiceStub
from tests.support.rpcs import Stubs

Observer = Callable[["Made"], None]


@dataclass(frozen=True, kw_only=True)
class Made:
    """A call that was made, whether it was answered or refused."""

    method: str
    request: Any
    began_at: float

    def __str__(self) -> str:
        said = str(self.request) if isinstance(self.request, Message) else "a stream"
        return f"{self.method} {{ {' '.join(said.split())} }}"


@dataclass(frozen=True)
class Observed:
    """Clients of both services, and what is to be told of their calls."""

    stubs: Stubs
    observer: Observer

    @property
    def graph(self) -> GraphServiceStub:
        """Return the client of graph_service."""
        return cast("GraphServiceStub", _Stub(self.stubs.graph, self.observer))

    @property
    def feed(self) -> FeedServiceStub:
        """Return the client of feed_service."""
        return cast("FeedServiceStub", _Stub(self.stubs.feed, self.observer))


@dataclass(frozen=True)
class _Stub:
    stub: object
    observer: Observer

    def __getattr__(self, method: str) -> Callable[[Any], Any]:
        call = getattr(self.stub, method)

        def made(request: Any) -> Any:
            began_at = time.monotonic()
            try:
                return call(request)
            finally:
                self.observer(Made(method=method, request=request, began_at=began_at))

        return made
