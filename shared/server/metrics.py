"""The metrics of a gRPC server: its calls, what they wait for, and its readiness."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from shared.metrics import CallMetrics, Usage

_STATEMENT_BUCKETS: Final = (0, 1, 2, 3, 4, 5, 6, 8, 10, 20)


class ServerMetrics(CallMetrics):
    """What a server measures its calls by."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry, end="server")
        self.statements = Histogram(
            "db_statements_per_call",
            "SQL statements that one RPC sent to the database.",
            ("grpc_service", "grpc_method"),
            buckets=_STATEMENT_BUCKETS,
            registry=registry,
        )
        self.rejected = Counter(
            "calls_rejected_total",
            "Refused RPCs, by the reason in their error.",
            ("grpc_service", "grpc_method", "reason"),
            registry=registry,
        )


class UsageMetrics(Collector):
    """What calls wait for: slots and database connections.

    They are looked at when they are scraped, for counting each change would cost every call.
    Workers cannot be asked then, so theirs show what `observe` found last.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        slots: Callable[[], Mapping[str, Usage]],
        connections: Mapping[str, Callable[[], Usage]],
    ) -> None:
        self._slots = slots
        self._connections = connections

        def gauge(name: str, text: str, label: str) -> Gauge:
            return Gauge(name, text, [label], registry=None, multiprocess_mode="livesum")

        self._slot_gauges = (
            gauge("call_slots", "Calls of a weight that can be worked on at once.", "weight"),
            gauge("call_slots_in_use", "Calls of a weight that are worked on.", "weight"),
            gauge("call_slots_waiting", "Calls of a weight that wait for a slot.", "weight"),
        )
        self._connection_gauges = (
            gauge("db_connections_limit", "Connections that a pool may have.", "pool"),
            gauge("db_connections_in_use", "Connections of a pool that are in use.", "pool"),
            gauge("db_connections_waiting", "Calls that wait for a connection of a pool.", "pool"),
        )
        self._idle = gauge("db_connections_idle", "Open connections that are not in use.", "pool")
        self._shown: tuple[Mapping[str, Usage], Mapping[str, Usage]] = ({}, {})
        self.observe()
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Return the gauges as of now."""
        self.observe()
        for gauge in (*self._slot_gauges, *self._connection_gauges, self._idle):
            yield from gauge.collect()

    def observe(self) -> None:
        """Set the gauges to what is in use now, if that has changed."""
        slots = self._slots()
        connections = {pool: read() for pool, read in self._connections.items()}
        if (slots, connections) == self._shown:
            return
        for weight, usage in slots.items():
            _set(self._slot_gauges, weight, usage)
        for pool, usage in connections.items():
            _set(self._connection_gauges, pool, usage)
            self._idle.labels(pool).set(usage.idle)
        self._shown = (slots, connections)


def _set(gauges: tuple[Gauge, Gauge, Gauge], label: str, usage: Usage) -> None:
    for gauge, value in zip(gauges, (usage.limit, usage.in_use, usage.waiting), strict=True):
        gauge.labels(label).set(value)


def call_threads(registry: CollectorRegistry) -> Gauge:
    """Return the gauge of how many calls a service can work on at once, in all its workers."""
    return Gauge(
        "grpc_server_threads",
        "Calls that can run at once; streams of changes have threads of their own.",
        registry=registry,
        multiprocess_mode="livesum",
    )


def passing_checks(registry: CollectorRegistry) -> Gauge:
    """Return the gauge of what readiness depends on.

    Workers ask the same things every second; what any of them has found out last is the truth.
    """
    return Gauge(
        "readiness_check_passing",
        "1 if the readiness check passed when it ran last, 0 if not.",
        ["check"],
        registry=registry,
        multiprocess_mode="mostrecent",
    )
