"""GetFeed and AcceptConnection with fences, in turns with the same without them."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from operator import attrgetter
from statistics import median
from typing import Final

from benchmarks import dataset as datasets
from benchmarks.end_to_end import GET_FEED, floor
from benchmarks.fenced import running_fenced_pair
from benchmarks.processes import PostgresClock, RunningPair, calls_of, cpu_seconds, running_pair
from benchmarks.rounds import Contender, in_turns
from benchmarks.row import Row, Segments, comparison
from benchmarks.stage import Stage
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2

_FENCED: Final = "fenced"
_ASKING: Final = "asking"
_ACCEPT: Final = "/kith.graph.v1.GraphService/AcceptConnection"
# Target and stretch against the floor.
_OF_PAGES: Final = (
    ("Python CPU", "python_cpu", 0.95, 0.75),
    ("total CPU", "total_cpu", 1.0, 0.9),
    ("p50", "p50", 1.0, 0.9),
)


def changes(stage: Stage) -> list[Row]:
    """What fences add to a change of connections, on copies of the small data set.

    A change is about two people, whose pair is found by its key: it costs as much on much data, of
    which two copies would not fit on many a disk.
    """
    with ExitStack() as stack:
        copies = {name: stage.small_copy(name) for name in (_ASKING, _FENCED)}
        for name in copies:
            stack.callback(datasets.drop, stage.cluster, name)
        pairs = {
            _ASKING: stack.enter_context(
                running_pair(copies[_ASKING], logs=stage.logs, start=stage.start)
            ),
            _FENCED: stack.enter_context(
                running_fenced_pair(copies[_FENCED], logs=stage.logs / _FENCED, start=stage.start)
            ),
        }
        contenders = {name: _changes(stage, pairs[name], stack) for name in pairs}
        return [_of_changes(in_turns(stage.effort, contenders))]


def pages(stage: Stage) -> list[Row]:
    """What fences save a page of a feed, against the floor and against asking the graph."""
    with ExitStack() as stack:
        postgres = stack.enter_context(closing(PostgresClock(stage.dataset.feed_url))).seconds
        viewers = stage.dataset.viewer_ids(stage.dataset.usual)
        segments = in_turns(
            stage.effort,
            {
                _FENCED: feed_pages(stage.fenced, viewers, postgres, stack),
                _ASKING: feed_pages(stage.pair, viewers, postgres, stack),
                "floor": floor(stage, stack, postgres),
            },
        )
    return _of_pages(segments, stage.dataset.usual)


def feed_pages(
    pair: RunningPair, viewers: Sequence[int], postgres: Callable[[], float], stack: ExitStack
) -> Contender:
    """Return pages of these viewers' feeds by a pair, with its clocks and that of PostgreSQL."""
    send = stack.enter_context(calls_of(pair.feed_address, GET_FEED))
    requests = [feed_pb2.GetFeedRequest(user_id=viewer).SerializeToString() for viewer in viewers]
    return Contender(
        calls=[partial(send, request) for request in requests],
        clocks={
            **{name: partial(cpu_seconds, pid) for name, pid in pair.pids.items()},
            "postgres": postgres,
        },
    )


def _changes(stage: Stage, pair: RunningPair, stack: ExitStack) -> Contender:
    """Return acceptances of requests between people whom the graph does not know otherwise."""
    send = stack.enter_context(calls_of(pair.graph_address, _ACCEPT))
    # Once more than there are rounds, for all are warmed first.
    number = stage.effort.calls * (stage.effort.rounds + 1)
    first = stage.dataset.people + 1_000_000
    people = [(first + 2 * each, first + 2 * each + 1) for each in range(number)]
    for user_id, peer_id in people:
        pair.kith.graph.RequestConnection(
            graph_pb2.RequestConnectionRequest(user_id=user_id, peer_id=peer_id)
        )
    messages = iter(
        graph_pb2.AcceptConnectionRequest(user_id=peer_id, peer_id=user_id).SerializeToString()
        for user_id, peer_id in people
    )
    return Contender(calls=[lambda: send(next(messages))] * stage.effort.calls)


def _of_pages(segments: Segments, degree: int) -> list[Row]:
    rows = [
        comparison(
            f"GetFeed with fences, degree {degree:,}: {what} vs floor",
            segments,
            (_FENCED, "floor"),
            attrgetter(figure),
            target=target,
            stretch=stretch,
        )
        for what, figure, target, stretch in _OF_PAGES
    ]
    return [
        *rows,
        comparison(
            f"GetFeed, degree {degree:,}: with fences vs without, total CPU",
            segments,
            (_FENCED, _ASKING),
            attrgetter("total_cpu"),
            target=0.75,
            stretch=0.65,
        ),
    ]


def _of_changes(segments: Segments) -> Row:
    fenced, asking = (
        median(segment.p50 for segment in segments[name]) * 1_000 for name in (_FENCED, _ASKING)
    )
    return Row(
        name="AcceptConnection: added p50 with fences",
        measured=fenced - asking,
        target=5,
        stretch=2,
        unit=" ms",
        note=f"{fenced:.1f} / {asking:.1f} ms",
    )
