"""What metrics have in common; each room has its own beside what they measure, in `metrics`.

Here are the RED set of every gRPC dashboard, on either end of a call, and the usage of what calls
wait for. Names and labels of the `grpc_server_*` set are those of go-grpc-prometheus, which
existing dashboards and alerts expect. A composition root makes a registry and passes it on.

Workers count in files, which their supervisor adds up. A gauge has to say by its
`multiprocess_mode` what its values in several workers are together, such as `max` or `livesum`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
)

# A series a metric that says when the process began to count; no dashboard reads it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library does not type it

LATENCY_BUCKETS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
)  # fmt: skip
FAULTS: Final = ("UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
"""The codes of calls that failed through no fault of their callers."""
_LABELS: Final = ("grpc_type", "grpc_service", "grpc_method")


@dataclass(frozen=True, kw_only=True)
class MethodMetrics:
    """What the calls of one method are measured by, looked up once for all of them."""

    started: Counter
    handled: Mapping[str, Counter]
    handling: Histogram


class CallMetrics:
    """What every call is measured by on one end of it, `server` or `client`."""

    def __init__(self, registry: CollectorRegistry, *, end: str) -> None:
        self._started = Counter(
            f"grpc_{end}_started_total", f"RPCs started on the {end}.", _LABELS, registry=registry
        )
        self._handled = Counter(
            f"grpc_{end}_handled_total",
            f"RPCs completed on the {end}, by code.",
            (*_LABELS, "grpc_code"),
            registry=registry,
        )
        self._handling = Histogram(
            f"grpc_{end}_handling_seconds",
            f"Time from the start of an RPC to its end on the {end}.",
            _LABELS,
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )

    def of(self, kind: str, service: str, method: str) -> MethodMetrics:
        """Return the metrics of one method.

        The counters of OK and of faults are there from the start: Prometheus sees no increase in a
        series that begins with 1, and no share of faults where there is no series of any.
        """
        labels = (kind, service, method)
        handled = _ByCode(self._handled, labels)
        for code in ("OK", *FAULTS):
            handled[code].inc(0)
        return MethodMetrics(
            started=self._started.labels(*labels),
            handled=handled,
            handling=self._handling.labels(*labels),
        )


@dataclass(frozen=True, kw_only=True)
class Usage:
    """How much of a resource is in use now, of at most `limit`, and who waits for it."""

    in_use: int
    idle: int = 0
    waiting: int = 0
    limit: int


class ClientMetrics(CallMetrics):
    """What calls to another service are measured by."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry, end="client")


class _ByCode(dict[str, Counter]):
    """A method's counters of completed calls, each made when its code first occurs."""

    def __init__(self, counter: Counter, labels: Sequence[str]) -> None:
        super().__init__()
        self._counter = counter
        self._labels = labels

    def __missing__(self, code: str) -> Counter:
        counter = self[code] = self._counter.labels(*self._labels, code)
        return counter
