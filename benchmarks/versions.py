"""GetFeed by another checkout of Kith and by this one, in turns, on the same PostgreSQL.

    python -m benchmarks versions CHECKOUT

The checkout needs its packages in `.venv`, and fills databases of its own by its own code. It runs
without fences, which early versions do not have; this one runs with them, as it is deployed.
"""

import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from itertools import chain
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import dataset as datasets
from benchmarks.concurrency import CALLERS, Burst, bursts_in_turns, compared, counted, feed_senders
from benchmarks.dataset import Dataset
from benchmarks.fenced import running_fenced_pair
from benchmarks.processes import (
    MeasuredProcess,
    PostgresClock,
    RunningPair,
    cpu_seconds,
    running_pair,
)
from benchmarks.rounds import Contender, in_turns, ratio
from benchmarks.row import Row, comparison
from benchmarks.stage import PAGE, Stage, feed_page, token_behind

_OTHER: Final = "other"
_THIS: Final = "this"
_TARGET: Final = 1.5
_LOAD: Final = """
import sys
from rich.progress import Progress
from benchmarks.dataset import SEED, load
from benchmarks.world import SMALL, make_world
with Progress(disable=True) as bar:
    load(make_world(SMALL, seed=SEED), graph_url=sys.argv[1], feed_url=sys.argv[2], bar=bar)
"""

Fill = Callable[[str, str], object]
"""Makes the small data set in two empty databases, of the graph and of the feed."""


def fill_by(checkout: Path) -> Fill:
    """Return what fills databases by the code of a checkout. Raises LookupError without `.venv`."""
    interpreter = _interpreter(checkout)
    if not interpreter.exists():
        raise LookupError(f"{checkout} has no packages: there is no {interpreter}")

    def fill(graph_url: str, feed_url: str) -> None:
        subprocess.run([interpreter, "-c", _LOAD, graph_url, feed_url], check=True, cwd=checkout)

    return fill


def started_from(checkout: Path) -> type[MeasuredProcess]:
    """Return how to start the services of a checkout."""

    class Process(MeasuredProcess):
        def __init__(
            self, module: str, *arguments: str, environment: Mapping[str, str], log: Path
        ) -> None:
            command = [f"--chdir={checkout}", str(_interpreter(checkout)), "-m", module, *arguments]
            super().__init__("/usr/bin/env", *command, environment=environment, log=log)

    return Process


def compare(stage: Stage, fill: Fill, start: type[MeasuredProcess]) -> list[Row]:
    """Measure the same pages by both: first ones at several numbers of callers, and deep ones."""
    with ExitStack() as stack:
        data = {_OTHER: _filled(stage, fill), _THIS: stage.small_copy("versions_this")}
        for each in data.values():
            stack.callback(datasets.drop, stage.cluster, each.name)
            (stage.logs / each.name).mkdir(exist_ok=True)
        other = running_pair(data[_OTHER], logs=stage.logs / data[_OTHER].name, start=start)
        this = running_fenced_pair(
            data[_THIS], logs=stage.logs / data[_THIS].name, start=stage.start
        )
        pairs = {_OTHER: stack.enter_context(other), _THIS: stack.enter_context(this)}
        viewers = stage.small.viewer_ids(stage.small.usual)
        _require_same_pages(pairs, viewers)
        postgres = stack.enter_context(closing(PostgresClock(data[_THIS].feed_url))).seconds
        bursts = bursts_in_turns(
            stage.effort,
            {
                name: Contender(
                    calls=feed_senders(pair, viewers, stack), clocks=_clocks(pair, postgres)
                )
                for name, pair in pairs.items()
            },
        )
        deep = in_turns(
            stage.effort,
            {
                name: Contender(
                    calls=list(_deep_pages(pair, viewers)), clocks=_clocks(pair, postgres)
                )
                for name, pair in pairs.items()
            },
        )
    return [
        *chain.from_iterable(
            _rows(callers, bursts[_THIS, callers], bursts[_OTHER, callers]) for callers in CALLERS
        ),
        *(
            comparison(
                f"GetFeed, page {PAGE}: {what} vs the other version",
                deep,
                (_THIS, _OTHER),
                attrgetter(figure),
                target=1 / _TARGET,
            )
            for what, figure in (("p50", "p50"), ("total CPU", "total_cpu"))
        ),
    ]


def _filled(stage: Stage, fill: Fill) -> Dataset:
    name = "versions_other"
    datasets.drop(stage.cluster, name)
    graph_url, feed_url = (stage.cluster.url(f"kith_{which}_{name}") for which in ("graph", "feed"))
    fill(graph_url, feed_url)
    return replace(stage.small, name=name, graph_url=graph_url, feed_url=feed_url)


def _require_same_pages(pairs: Mapping[str, RunningPair], viewers: Sequence[int]) -> None:
    for viewer in viewers:
        this, other = (
            [(post.author_id, post.post_id) for post in feed_page(pairs[name].kith, viewer).posts]
            for name in (_THIS, _OTHER)
        )
        if this != other:
            raise RuntimeError(f"the versions show user {viewer} different posts")


def _clocks(pair: RunningPair, postgres: Callable[[], float]) -> dict[str, Callable[[], float]]:
    processes = {name: partial(cpu_seconds, pid) for name, pid in pair.pids.items()}
    return {**processes, "postgres": postgres}


def _deep_pages(pair: RunningPair, viewers: Iterable[int]) -> Iterator[Callable[[], object]]:
    for viewer in viewers:
        token = token_behind(pair.kith, viewer, pages=PAGE - 1)
        yield partial(feed_page, pair.kith, viewer, page_token=token)


def _rows(callers: int, this: Sequence[Burst], other: Sequence[Burst]) -> list[Row]:
    name = f"GetFeed by {counted(callers)}: {{}} vs the other version"
    these, those = (median(burst.cpu for burst in some) * 1000 for some in (this, other))
    own, others = (median(burst.cores_of_callers for burst in some) for some in (this, other))
    return [
        *compared(name, this, other, rate=(_TARGET, None), times=((50, 1 / _TARGET, None),)),
        Row(
            name=name.format("total CPU"),
            measured=ratio((burst.cpu for burst in this), (burst.cpu for burst in other)),
            target=1 / _TARGET,
            note=f"{these:.2f} / {those:.2f} ms; the callers {own:.2f} / {others:.2f} cores",
        ),
    ]


def _interpreter(checkout: Path) -> Path:
    return checkout / ".venv" / "bin" / "python"
