"""Metrics that both services have: the RED set of every gRPC dashboard, and the database's.

Names and labels of the `grpc_server_*` set are those of go-grpc-prometheus, which existing
dashboards and alerts expect. A registry is made by the composition root and passed on.

Workers count in files, which their supervisor adds up. A gauge has to say by its
`multiprocess_mode` what its values in several workers are together, such as `max` or `livesum`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    values,
)
from prometheus_client.core import Metric, UnknownMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

# A series a metric that says when the process began to count; no dashboard reads it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library does not type it

LATENCY_BUCKETS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
)  # fmt: skip
_STATEMENT_BUCKETS: Final = (0, 1, 2, 3, 4, 5, 6, 8, 10, 20)
FAULTS: Final = ("UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
"""The codes of calls that failed through no fault of their callers."""
_LABELS: Final = ("grpc_type", "grpc_service", "grpc_method")


def count_in_slot(slot: int) -> None:
    """Keep the values of all metrics that are made from now on in files of a slot.

    They go on from what its last holder left. prometheus_client has a single switch for this, and
    names files by process unless told otherwise, so that each restart would leave some behind.
    """
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]  # the library does not type it


def registry_of_workers(directory: str) -> CollectorRegistry:
    """Return a registry with the sums of what all slots have in their files."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=directory)  # type: ignore[no-untyped-call]  # as above
    return registry


def describe_process(registry: CollectorRegistry) -> None:
    """Add the version that runs and the resources of this process."""
    ProcessCollector(registry=registry)
    _describe_build(registry)


def describe_processes(
    registry: CollectorRegistry, processes: Callable[[], Mapping[str, int]]
) -> None:
    """Add the version that runs and the resources of processes, which have names and ids."""
    registry.register(_Processes(processes))
    _describe_build(registry)


def _describe_build(registry: CollectorRegistry) -> None:
    build = Gauge("kith_build_info", "The version that runs.", ["version"], registry=registry)
    build.labels(version("kith")).set(1)


class _Processes(Collector):
    """The metrics of ProcessCollector for several processes, by the label `process`."""

    def __init__(self, processes: Callable[[], Mapping[str, int]]) -> None:
        self._processes = processes

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of those that run now."""
        found: dict[str, Metric] = {}
        for process, pid in self._processes().items():
            for one in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                of_all = found.setdefault(one.name, Metric(one.name, one.documentation, one.type))
                for sample in one.samples:
                    of_all.add_sample(sample.name, {"process": process}, sample.value)
        yield from found.values()


def worker_deaths(registry: CollectorRegistry) -> Counter:
    """Return the counter of workers that ended without being told to; only a supervisor has it."""
    return Counter(
        "worker_deaths_total", "Workers that ended without being told to.", registry=registry
    )


def worker_replacements(registry: CollectorRegistry) -> Counter:
    """Return the counter of workers that made way for new ones; only a supervisor has it."""
    replacements = Counter(
        "worker_replacements_total",
        "Workers that were replaced, by the reason: signal (SIGHUP), or memory.",
        ["reason"],
        registry=registry,
    )
    for reason in ("signal", "memory"):
        replacements.labels(reason)
    return replacements


def forget_gauges(slot: int, directory: str) -> None:
    """Remove the gauges of a slot that are those of a living worker, such as `livesum`."""
    mark_process_dead(slot, directory)  # type: ignore[no-untyped-call]  # as above


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


@dataclass(frozen=True, kw_only=True)
class Usage:
    """How much of a resource is in use now, of at most `limit`, and who waits for it."""

    in_use: int
    idle: int = 0
    waiting: int = 0
    limit: int


class UsageMetrics:
    """What calls wait for: slots and database connections.

    Workers cannot be asked for a gauge when it is scraped, and counting each change would cost
    every call, so the gauges show what `observe` found last.
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
            return Gauge(name, text, [label], registry=registry, multiprocess_mode="livesum")

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
        self._idle = gauge("db_connections_idle", "Open connections that nobody uses.", "pool")
        self.observe()

    def observe(self) -> None:
        """Set the gauges to what is in use now."""
        for weight, usage in self._slots().items():
            _set(self._slot_gauges, weight, usage)
        for pool, read in self._connections.items():
            usage = read()
            _set(self._connection_gauges, pool, usage)
            self._idle.labels(pool).set(usage.idle)


def _set(gauges: tuple[Gauge, Gauge, Gauge], label: str, usage: Usage) -> None:
    for gauge, value in zip(gauges, (usage.limit, usage.in_use, usage.waiting), strict=True):
        gauge.labels(label).set(value)


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


class RedisMetrics:
    """What calls to Redis are measured by, and whether any are made."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.latency = Histogram(
            "redis_operation_latency_seconds",
            "Time of successful Redis operations.",
            ["operation"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.errors = Counter(
            "redis_errors_total",
            "Redis operations without an answer (away) or with an invalid one (unusable).",
            ["operation", "kind"],
            registry=registry,
        )
        self.available = Gauge(
            "redis_available",
            "1 if Redis is used, 0 if it is paused for seconds because it did not answer.",
            registry=registry,
            multiprocess_mode="livemin",
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


def database_latency(registry: CollectorRegistry) -> Histogram:
    """Return the histogram of the time that single SQL statements take."""
    return Histogram(
        "db_query_latency_seconds",
        "Time of one SQL statement, measured by the service.",
        buckets=LATENCY_BUCKETS,
        registry=registry,
    )


def call_threads(registry: CollectorRegistry) -> Gauge:
    """Return the gauge of how many calls a service can work on at once, in all its workers."""
    return Gauge(
        "grpc_server_threads",
        "Calls that can run at once; WatchConnections has threads of its own.",
        registry=registry,
        multiprocess_mode="livesum",
    )


def passing_checks(registry: CollectorRegistry) -> Gauge:
    """Return the gauge of what readiness depends on.

    Workers ask the same things twice a second; what any of them has found out last is the truth.
    """
    return Gauge(
        "readiness_check_passing",
        "1 if the readiness check passed when it ran last, 0 if not.",
        ["check"],
        registry=registry,
        multiprocess_mode="mostrecent",
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
