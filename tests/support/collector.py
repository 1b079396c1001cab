"""An OpenTelemetry collector in this process, which receives spans by gRPC."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True, kw_only=True)
class Received:
    """A span, and the process that has sent it."""

    service: str
    span: Span

    @property
    def title(self) -> str:
        """The process and the name of the span."""
        return f"{self.service} {self.span.name}"

    @property
    def attributes(self) -> dict[str, Any]:
        """Its attributes by their keys."""
        return {
            attribute.key: getattr(attribute.value, str(attribute.value.WhichOneof("value")))
            for attribute in self.span.attributes
        }


@dataclass(frozen=True, kw_only=True)
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Stores the spans that it is sent."""

    spans: list[Received] = field(default_factory=list)

    def Export(  # noqa: N802 -- so it is called in the contract
        self, request: trace_service_pb2.ExportTraceServiceRequest, _context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Store some."""
        for sent in request.resource_spans:
            [service] = [
                attribute.value.string_value
                for attribute in sent.resource.attributes
                if attribute.key == "service.name"
            ]
            for scope in sent.scope_spans:
                self.spans.extend(Received(service=service, span=span) for span in scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()

    def below(self, above: Received) -> list[Received]:
        """Return the spans that have a span as their parent, in the order in which they began."""
        found = [
            each
            for each in self.spans
            if (each.span.trace_id, each.span.parent_span_id)
            == (above.span.trace_id, above.span.span_id)
        ]
        return sorted(found, key=lambda each: each.span.start_time_unix_nano)

    def of_service(self, name: str) -> list[Received]:
        """Return the spans of a process."""
        return [each for each in self.spans if each.service == name]

    def of_trace(self, trace_id: str) -> list[Received]:
        """Return the spans of a trace."""
        return [each for each in self.spans if each.span.trace_id.hex() == trace_id]


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    """Start a collector; yields it and its URL."""
    collector = Collector()
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield collector, f"http://127.0.0.1:{port}"
        server.stop(None).wait()
