"""The metrics of a database: its statements, its replicas, and the totals that it stores."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import Metric, UnknownMetricFamily
from prometheus_client.registry import Collector

from shared.metrics import LATENCY_BUCKETS


def database_latency(registry: CollectorRegistry) -> Histogram:
    """Return the histogram of the time that single SQL statements take."""
    return Histogram(
        "db_query_latency_seconds",
        "Time of one SQL statement, measured by the service.",
        buckets=LATENCY_BUCKETS,
        registry=registry,
    )


class ReplicaMetrics:
    """What replicas are watched by, and who answers reads.

    All workers look at the same replicas; what any of them has seen last is the truth.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lag = Gauge(
            "replica_lag_seconds",
            "Seconds that a replica is behind the primary; NaN for the primary or if unknown.",
            ["replica"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self.in_rotation = Gauge(
            "replica_in_rotation",
            "1 if the replica is in rotation, 0 if not; NaN for the current primary.",
            ["replica"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        reads = Counter(
            "replica_reads_total",
            "Reads that a replica may answer, by outcome: replica if it answered, else why the "
            "primary did: the caller wanted it or no replica was in rotation (primary), the "
            "replica was too far behind (behind), or it failed (failed).",
            ["outcome"],
            registry=registry,
        )
        self.answered = reads.labels("replica")
        self.primary = reads.labels("primary")
        self.behind = reads.labels("behind")
        self.failed = reads.labels("failed")


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
        except Exception:  # noqa: BLE001 -- a scrape must show the other metrics after any error here
            return
        for name, text in self._gauges.items():
            yield UnknownMetricFamily(name, text, value=totals.get(name, 0))
