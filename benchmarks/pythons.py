"""GetFeed by several interpreters of Python, in turns, on the same PostgreSQL and the same data.

    python -m benchmarks pythons PYTHON PYTHON [...]

Each is compared with the first. Each needs Kith and the packages of the group `services`, for
instance `python3.14 -m venv NAME && NAME/bin/pip install --editable . --group services`, then named
as NAME/bin/python. The code that runs is that of this folder.
"""

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from operator import attrgetter
from typing import Final

from benchmarks import dataset as datasets
from benchmarks.fenced import running_fenced_pair
from benchmarks.fences import feed_pages
from benchmarks.processes import (
    MeasuredProcess,
    PostgresClock,
    RunningPair,
    resident_bytes,
    running_pair,
)
from benchmarks.rounds import in_turns
from benchmarks.row import Row, Segments, comparison
from benchmarks.stage import Stage

Starts = Mapping[str, type[MeasuredProcess]]
"""How the services are started by each interpreter, by what the interpreter is called."""

_MEBIBYTE: Final = 1024 * 1024
_FIGURES: Final = (
    ("Python CPU", "python_cpu"),
    ("total CPU", "total_cpu"),
    ("p50", "p50"),
)
# One that costs more than the first is no reason to change.
_TARGET: Final = 1.0
_DESCRIBE: Final = """
import platform, sysconfig
free_threaded = " free-threaded" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
print(f"Python {platform.python_version()}{free_threaded}")
"""


def starts_of(interpreters: Sequence[str]) -> Starts:
    """Return how to start services by each interpreter. Raises LookupError if two are the same."""
    starts = {name_of(interpreter): _started_by(interpreter) for interpreter in interpreters}
    if len(starts) < len(interpreters):
        raise LookupError(f"two of {', '.join(interpreters)} are the same version of Python")
    return starts


def name_of(interpreter: str) -> str:
    """Return what an interpreter is called in the table: its version."""
    return subprocess.check_output([interpreter, "-c", _DESCRIBE], text=True).strip()


def compare(stage: Stage, starts: Starts) -> list[Row]:
    """Measure pages that ask the graph, and pages with fences, by every interpreter in turns."""
    with ExitStack() as stack:
        # All copies first: PostgreSQL copies no database that has sessions.
        copies = [stage.small_copy(f"python_{number}") for number in range(len(starts))]
        for copy in copies:
            stack.callback(datasets.drop, stage.cluster, copy.name)
        asking, fenced = dict[str, RunningPair](), dict[str, RunningPair]()
        for copy, (name, start) in zip(copies, starts.items(), strict=True):
            logs = stage.logs / copy.name
            logs.mkdir(exist_ok=True)
            asking[name] = stack.enter_context(running_pair(stage.small, logs=logs, start=start))
            fenced[name] = stack.enter_context(
                running_fenced_pair(copy, logs=logs / "fenced", start=start)
            )
        return [
            *_rows(stage, "GetFeed", asking, stack),
            *_rows(stage, "GetFeed with fences", fenced, stack),
            *_memory(asking),
        ]


def _rows(stage: Stage, what: str, pairs: Mapping[str, RunningPair], stack: ExitStack) -> list[Row]:
    postgres = stack.enter_context(closing(PostgresClock(stage.small.feed_url))).seconds
    viewers = stage.small.viewer_ids(stage.small.usual)
    segments: Segments = in_turns(
        stage.effort,
        {name: feed_pages(pair, viewers, postgres, stack) for name, pair in pairs.items()},
    )
    first, *others = pairs
    return [
        comparison(
            f"{what}, {figure}: {other} vs {first}",
            segments,
            (other, first),
            attrgetter(attribute),
            target=_TARGET,
        )
        for other in others
        for figure, attribute in _FIGURES
    ]


def _memory(pairs: Mapping[str, RunningPair]) -> list[Row]:
    """What both services have in RAM after all those pages."""
    used = {
        name: sum(map(resident_bytes, pair.pids.values())) / _MEBIBYTE
        for name, pair in pairs.items()
    }
    first, *others = used
    return [
        Row(
            name=f"memory of both services: {other} vs {first}",
            measured=used[other] / used[first],
            target=_TARGET,
            note=f"{used[other]:.0f} / {used[first]:.0f} MiB",
        )
        for other in others
    ]


def _started_by(path: str) -> type[MeasuredProcess]:
    class Process(MeasuredProcess):
        interpreter = path

    return Process
