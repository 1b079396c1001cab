"""The metrics of processes: which version runs, what they use, and what several count together.

Workers count in files of their slots, which their supervisor adds up.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, values
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector


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
