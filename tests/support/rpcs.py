"""The calls of both services, as their contracts name them."""

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from kith.feed.v1 import feed_pb2
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from kith.graph.v1 import graph_pb2
from kith.graph.v1.graph_pb2_grpc import GraphServiceStub

Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]


class Stubs(Protocol):
    """An object with clients of both services."""

    @property
    def graph(self) -> GraphServiceStub: ...

    @property
    def feed(self) -> FeedServiceStub: ...


@dataclass(frozen=True, kw_only=True)
class Rpc:
    """A call of one of the services."""

    service: str
    method: MethodDescriptor

    @property
    def name(self) -> str:
        return self.method.name

    def __str__(self) -> str:
        return f"{self.service} {self.name}"

    def request(self) -> Any:
        """Return an empty request."""
        return GetMessageClass(self.method.input_type)()

    def send(
        self,
        stubs: Stubs,
        request: Message,
        *,
        metadata: Metadata = (),
        messages: int | None = None,
    ) -> None:
        """Call, and read the whole answer, or so many messages of it."""
        stub = getattr(getattr(stubs, self.service), self.name)
        sent = iter([request]) if self.method.client_streaming else request
        answer = stub(sent, timeout=30, metadata=metadata)
        if not self.method.server_streaming:
            return
        for number, _ in enumerate(answer, 1):
            if number == messages:
                answer.cancel()
                return


RPCS = [
    Rpc(service=service, method=method)
    for service, file, name in (
        ("graph", graph_pb2, "GraphService"),
        ("feed", feed_pb2, "FeedService"),
    )
    for method in file.DESCRIPTOR.services_by_name[name].methods
]
