"""Metrics that both services have: the RED set of every gRPC dashboard, and the database's.

Names and labels of the `grpc_server_*` set are those of go-grpc-prometheus, which existing
dashboards and alerts expect. A registry is made by the composition root and passed on.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import Metric, UnknownMetricFamily
from prometheus_client.registry import Collector

# A series a metric that says when the process began to count; no dashboard reads it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library does not type it

LATENCY_BUCKETS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
)  # fmt: skip
_STATEMENT_BUCKETS: Final = (0, 1, 2, 3, 4, 5, 6, 8, 10, 20)
_LABELS: Final = ("grpc_type", "grpc_service", "grpc_method")


class ServerMetrics:
    """What every call is measured by."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.started = Counter(
            "grpc_server_started_total", "RPCs started on the server.", _LABELS, registry=registry
        )
        self.handled = Counter(
            "grpc_server_handled_total",
            "RPCs completed on the server, whatever their code.",
            (*_LABELS, "grpc_code"),
            registry=registry,
        )
        self.handling = Histogram(
            "grpc_server_handling_seconds",
            "Time from the start of an RPC's handler to its end.",
            _LABELS,
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.statements = Histogram(
            "db_statements_per_call",
            "SQL statements that one RPC sent to the database.",
            ("grpc_service", "grpc_method"),
            buckets=_STATEMENT_BUCKETS,
            registry=registry,
        )


class ClientMetrics:
    """What every call to another service is measured by."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.started = Counter(
            "grpc_client_started_total", "RPCs started by the client.", _LABELS, registry=registry
        )
        self.handled = Counter(
            "grpc_client_handled_total",
            "RPCs completed by the client, whatever their code.",
            (*_LABELS, "grpc_code"),
            registry=registry,
        )
        self.handling = Histogram(
            "grpc_client_handling_seconds",
            "Time from the start of an RPC to its answer.",
            _LABELS,
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )


def database_latency(registry: CollectorRegistry) -> Histogram:
    """Return the histogram of the time that single SQL statements take."""
    return Histogram(
        "db_query_latency_seconds",
        "Time of one SQL statement, as the service sees it.",
        buckets=LATENCY_BUCKETS,
        registry=registry,
    )


class StoredTotals(Collector):
    """Gauges whose values the database maintains; read when they are scraped.

    They are exposed as untyped: their names, which dashboards of the predecessor use, end in
    `_total`, and that Prometheus's own linter forbids to a gauge.

    Without the database they are absent from the scrape, which a dashboard can tell from zero.
    """

    def __init__(self, *, gauges: Mapping[str, str], read: Callable[[], Mapping[str, int]]) -> None:
        self._gauges = gauges
        self._read = read

    def describe(self) -> list[Metric]:
        """Return the gauges without values, so that registering them reads nothing."""
        return [UnknownMetricFamily(name, text) for name, text in self._gauges.items()]

    def collect(self) -> Iterator[Metric]:
        """Read the totals and return the gauges."""
        try:
            totals = self._read()
        except Exception:  # noqa: BLE001 -- a scrape must show the other metrics whatever fails here
            return
        for name, text in self._gauges.items():
            yield UnknownMetricFamily(name, text, value=totals.get(name, 0))
