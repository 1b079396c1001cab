"""Spans of every call that a service answers, sent to an OpenTelemetry collector.

Below the span of a call are those of the statements and calls that it makes, where the sampler
wants them: `kith.trace_context.asking` begins them. OpenTelemetry's own instrumentations would not
do: most statements go past SQLAlchemy, several in a message, and a statement's comment has to name
its span, as calls do. The SDK's own variables apply, such as OTEL_TRACES_SAMPLER and
OTEL_EXPORTER_OTLP_HEADERS.
"""

from collections.abc import Mapping
from functools import partial
from threading import Thread
from typing import Final

import grpc
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from kith import trace_context
from kith.trace_context import Trace
from shared.server.handlers import Call, Hooks, Method

# Of a server's answers those that are its own fault, as OpenTelemetry's conventions have it.
_FAULTS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
_LAST_SECONDS: Final = 2.0
_propagator: Final = TraceContextTextMapPropagator()


class OpenTelemetry:
    """Makes and sends the spans of one service. Thread-safe."""

    def __init__(self, collector: str, *, service: str) -> None:
        self._exporter = OTLPSpanExporter(endpoint=collector)
        self._provider = TracerProvider(
            resource=Resource.create({SERVICE_NAME: service}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("kith")

    def step(self, method: Method) -> Hooks:
        """Continue the caller's trace, or begin one, with a span."""
        attributes = {
            "rpc.system": "grpc",
            "rpc.service": method.service,
            "rpc.method": method.name,
        }
        # By the identity of the call: an abandoned call may end in the context of another.
        under_way: dict[int, Span] = {}

        def begin(call: Call) -> None:
            span = self._tracer.start_span(
                f"{method.service}/{method.name}",
                _context(Trace.read(call.context.invocation_metadata())),
                SpanKind.SERVER,
                {**attributes, "kith.request_id": call.request_id},
            )
            under_way[id(call)] = span
            trace_context.current.set(self._trace(span))

        def end(call: Call) -> None:
            if (span := under_way.pop(id(call), None)) is not None:
                _finish(span, call)

        return Hooks(begin=begin, end=end)

    def _trace(self, span: Span) -> Trace:
        """Return what is asked for a span has to say, and what begins spans below it."""
        here = span.get_span_context()
        trace_id = f"{here.trace_id:032x}"
        return Trace(
            id=trace_id,
            parent=f"00-{trace_id}-{here.span_id:016x}-{here.trace_flags:02x}",
            state=here.trace_state.to_header(),
            begin_below=partial(self._begin_below, span) if span.is_recording() else None,
        )

    def _begin_below(self, above: Span, name: str, attributes: Mapping[str, str]) -> "_Below":
        context = set_span_in_context(above, Context())
        span = self._tracer.start_span(name, context, SpanKind.CLIENT, attributes)
        return _Below(span, self._trace(span))

    def close(self) -> None:
        """Send what has not been sent yet, and stop."""
        # The SDK would wait for half a minute for a collector that does not answer.
        last = Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        last.start()
        last.join(_LAST_SECONDS)
        if last.is_alive():
            self._exporter.shutdown()


def _context(caller: Trace | None) -> Context:
    # An empty one, so that nothing is taken from where the server was started.
    return Context() if caller is None else _propagator.extract(dict(caller.metadata()), Context())


def _finish(span: Span, call: Call) -> None:
    span.set_attribute("rpc.grpc.status_code", grpc.StatusCode[call.code].value[0])
    span.set_attribute("kith.sql_statements", call.statements[0])
    if call.code in _FAULTS:
        span.set_status(StatusCode.ERROR)
    span.end()


class _Below:
    """A span of what a call asks."""

    __slots__ = ("_span", "trace")

    def __init__(self, span: Span, trace: Trace) -> None:
        self._span = span
        self.trace = trace

    def end(self, error: BaseException | None = None) -> None:
        """End it. What an error says stays out of it, for it may quote people's data."""
        if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call):
            self._span.set_attribute("rpc.grpc.status_code", error.code().value[0])
        if error is not None:
            self._span.set_attribute("error.type", type(error).__name__)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()
