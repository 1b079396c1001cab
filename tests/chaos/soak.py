"""A very long load without any fault: what grows, grows without end."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Final

from benchmarks.row import Row
from tests.chaos.fault import Effort, kept, no_failure, within
from tests.chaos.load import Load
from tests.chaos.stage import Scene, Stage, resident_bytes
from tests.support.processes import Session

CALLS: Final = int(os.environ.get("KITH_SOAK_CALLS") or 1_000_000)
_LOOK_SECONDS: Final = 2
_CLIENTS: Final = 12
# More than can be served: each client waits for its answer and goes on.
_RATE: Final = 100_000
_GROWTH_PERCENT: Final = 3


def soak(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Call on and on, and compare the last third with the one before."""
    calls = effort.of(CALLS)
    with stage.scene() as scene:
        looks: list[Mapping[str, float]] = []
        with Load(replace(scene.traffic(clients=_CLIENTS), rate=_RATE)) as load:
            while _made(scene) < calls:
                looks.append({name: look(scene) for name, look in _LOOKS.items()})
                time.sleep(_LOOK_SECONDS)
        for name in _LOOKS:
            yield _slope(name, [look[name] for look in looks])
        yield from no_failure(load.history)
        yield from kept(load.history, scene.compared(load.history))


def _slope(name: str, values: list[float]) -> Row:
    """How much more there was in the last third than in the one before it."""
    third = max(1, len(values) // 3)
    before, after = mean(values[-2 * third : -third] or values), mean(values[-third:])
    note = f"{before:,.1f}, then {after:,.1f}"
    return within(name, max(0.0, (after / before - 1) * 100), _GROWTH_PERCENT, "%", note=note)


def _made(scene: Scene) -> float:
    return sum(process.total("grpc_server_handled_total") for process in (scene.graph, scene.feed))


def _memory(scene: Scene) -> float:
    return resident_bytes(scene.processes) / 1024 / 1024


def _descriptors(scene: Scene) -> float:
    return sum(len([*Path(f"/proc/{pid}/fd").iterdir()]) for pid in scene.processes)


def _connections(scene: Scene) -> float:
    with Session(scene.graph_url) as graph, Session(scene.feed_url) as feed:
        return len(graph.others()) + len(feed.others())


def _metric_files(scene: Scene) -> float:
    return sum(
        len([*process.metrics_directory().iterdir()]) for process in (scene.graph, scene.feed)
    )


_LOOKS: Final[Mapping[str, Callable[[Scene], float]]] = {
    "MiB of memory": _memory,
    "descriptors": _descriptors,
    "database sessions": _connections,
    "metric files": _metric_files,
}
