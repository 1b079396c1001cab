"""Whole calls of GetFeed, in turns with the same work done in other ways."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Final

from benchmarks.baselines import CALL, Script, viewer_message
from benchmarks.processes import (
    MeasuredProcess,
    PostgresClock,
    calls_of,
    cpu_seconds,
)
from benchmarks.rounds import Contender, in_turns
from benchmarks.row import Row, Segments, comparison
from benchmarks.stage import Stage
from kith.feed.v1 import feed_pb2

GET_FEED: Final = "/kith.feed.v1.FeedService/GetFeed"

_FLOOR: Final = ("floor-graph", "floor-feed")
# Target and stretch of what is usual, many and a hub's, against few.
_BY_DEGREE: Final = ((1.6, 1.4), (1.8, 1.6), (3, 2))


def feed(stage: Stage) -> list[Row]:
    """What GetFeed costs through everything, in turns with the baselines."""
    with ExitStack() as stack:
        segments = in_turns(stage.effort, _feed_contenders(stage, stack))
    return [
        *_vs_floor(segments, stage.dataset.usual),
        *_p50_by_degree(segments, stage.dataset.degrees),
        _vs_plain(segments, stage.dataset.usual),
        _vs_n_plus_one(segments, stage.dataset.usual),
    ]


def _vs_floor(segments: Segments, degree: int) -> list[Row]:
    """What GetFeed costs against the least that is possible."""
    return [
        comparison(
            f"GetFeed, degree {degree:,}: {what} vs floor",
            segments,
            (f"kith {degree}", "floor"),
            figure,
            target=target,
            stretch=stretch,
        )
        for what, figure, target, stretch in (
            ("Python CPU", attrgetter("python_cpu"), 1.35, 1.2),
            ("total CPU", attrgetter("total_cpu"), 1.15, 1.05),
            ("p50", attrgetter("p50"), 1.15, 1.05),
        )
    ]


def _p50_by_degree(segments: Segments, degrees: Sequence[int]) -> list[Row]:
    """How GetFeed grows with the number of connections."""
    few, *others = degrees
    return [
        comparison(
            f"GetFeed p50: degree {degree:,} vs {few:,}",
            segments,
            (f"kith {degree}", f"kith {few}"),
            attrgetter("p50"),
            target=target,
            stretch=stretch,
        )
        for degree, (target, stretch) in zip(others, _BY_DEGREE, strict=True)
    ]


def _vs_plain(segments: Segments, degree: int) -> Row:
    """How much more Python the same SQL costs in a plain program."""
    return comparison(
        f"plain vs GetFeed, degree {degree:,}: Python CPU",
        segments,
        ("plain", f"kith {degree}"),
        attrgetter("python_cpu"),
        target=4,
        at_least=True,
    )


def _vs_n_plus_one(segments: Segments, degree: int) -> Row:
    """How much longer the predecessor's way takes."""
    return comparison(
        f"N+1 vs GetFeed, degree {degree:,}: p50",
        segments,
        ("n+1", f"kith {degree}"),
        attrgetter("p50"),
        target=5,
        at_least=True,
    )


def _feed_contenders(stage: Stage, stack: ExitStack) -> dict[str, Contender]:
    postgres = stack.enter_context(closing(PostgresClock(stage.dataset.feed_url))).seconds
    viewers = stage.dataset.viewer_ids(stage.dataset.usual)
    kith = stack.enter_context(calls_of(stage.pair.feed_address, GET_FEED))
    feed_requests = {
        viewer.user_id: feed_pb2.GetFeedRequest(user_id=viewer.user_id).SerializeToString()
        for viewer in stage.dataset.viewers
    }
    contenders = {
        f"kith {degree}": Contender(
            calls=[
                partial(kith, feed_requests[viewer]) for viewer in stage.dataset.viewer_ids(degree)
            ],
            clocks={**_clocks(stage.pair.pids), "postgres": postgres},
        )
        for degree in stage.dataset.degrees
    }
    baselines = {
        "plain": (("plain-graph", "plain-feed"), feed_requests),
        "n+1": (("n-plus-one",), feed_requests),
    }
    for name, (modes, requests) in baselines.items():
        address, pids = _start_baseline(stage, stack, modes)
        call = stack.enter_context(calls_of(address, CALL))
        contenders[name] = Contender(
            calls=[partial(call, requests[viewer]) for viewer in viewers],
            clocks={**_clocks(pids), "postgres": postgres},
        )
    contenders["floor"] = floor(stage, stack, postgres)
    return contenders


def floor(stage: Stage, stack: ExitStack, postgres: Callable[[], float]) -> Contender:
    """Return the least that a page of the usual degree can be, with its clocks."""
    address, pids = _start_baseline(stage, stack, _FLOOR)
    call = stack.enter_context(calls_of(address, CALL))
    return Contender(
        calls=[
            partial(call, viewer_message(id_))
            for id_ in stage.dataset.viewer_ids(stage.dataset.usual)
        ],
        clocks={**_clocks(pids), "postgres": postgres},
    )


def start_floor(stage: Stage, stack: ExitStack) -> str:
    """Start the processes of the floor; return the address to call."""
    address, _ = _start_baseline(stage, stack, _FLOOR)
    return address


def _start_baseline(
    stage: Stage, stack: ExitStack, modes: Sequence[str]
) -> tuple[str, dict[str, int]]:
    """Start the processes of a baseline, each calling the one before; return the one to call."""
    captured, pids = stage.captured, dict[str, int]()
    sent = {id_: captured.feed_page[id_] for id_ in stage.dataset.viewer_ids(stage.dataset.usual)}
    graph_script = Script(
        sessions=captured.graph_sessions,
        statements={id_: some.graph for id_, some in sent.items()},
    )
    feed_script = Script(
        sessions=captured.feed_sessions,
        statements={id_: some.feed for id_, some in sent.items()},
    )
    address = stage.dataset.graph_url if modes == ("n-plus-one",) else ""
    for mode in modes:
        script = graph_script if mode.endswith("graph") else feed_script
        path = script.write(stage.directory / f"{mode}.json")
        process = stack.enter_context(_baseline(stage, mode, path, address))
        address, pids[mode] = process.address(), process.pid
    return address, pids


@contextmanager
def _baseline(stage: Stage, mode: str, script: Path, upstream: str) -> Iterator[MeasuredProcess]:
    arguments = [mode, str(script), *([upstream] if upstream else [])]
    log = stage.logs / f"{mode}.log"
    with stage.start("benchmarks.baselines", *arguments, environment={}, log=log) as process:
        yield process


def _clocks(pids: Mapping[str, int]) -> dict[str, Callable[[], float]]:
    return {name: partial(cpu_seconds, pid) for name, pid in pids.items()}
