"""The step around every call that continues its caller's trace.

Without a collector the trace is only handed on: to graph_service, to the comments of SQL statements
and to the logs. With one, OTEL_EXPORTER_OTLP_ENDPOINT, each call is a span of it besides, which
takes the dependency group `tracing`: see `otel`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from kith import trace_context
from kith.trace_context import Trace
from shared.server.handlers import Call, Hooks, Method, Step


@dataclass(frozen=True, kw_only=True)
class Tracing:
    """The step, and what has to be done when no call is left."""

    step: Step
    close: Callable[[], None] = lambda: None


def hand_on(_method: Method) -> Hooks:
    """Continue the caller's trace, if there is one, without a span."""

    def begin(call: Call) -> None:
        trace = Trace.read(call.context.invocation_metadata())
        if trace is not None:
            trace_context.current.set(trace)

    return Hooks(begin=begin)


def tracing(collector: str, *, service: str) -> Tracing:
    """Return how a service's calls are traced; `collector` is empty for none."""
    if not collector:
        return Tracing(step=hand_on)
    from shared.server.otel import OpenTelemetry  # noqa: PLC0415 -- what it imports is there with the extra only

    otel = OpenTelemetry(collector, service=service)
    return Tracing(step=otel.step, close=otel.close)
