"""GetFeed and AcceptConnection with fences, in turns with the same without them and with the floor.

Each is done on a copy of the data of its own, for who keeps fences is written in the databases.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from functools import partial
from operator import attrgetter
from statistics import median
from typing import Final

from benchmarks import dataset as datasets
from benchmarks.dataset import Dataset
from benchmarks.end_to_end import GET_FEED, floor
from benchmarks.processes import PostgresClock, RunningPair, calls_of, cpu_seconds, running_pair
from benchmarks.rounds import Contender, in_turns
from benchmarks.row import Row, Segments, comparison
from benchmarks.stage import Stage
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from shared.processes.ports import reserved

_FENCED: Final = "fenced"
_ASKING: Final = "asking"
_ACCEPT: Final = "/kith.graph.v1.GraphService/AcceptConnection"
_HOST: Final = "127.0.0.1"
_POLL_SECONDS: Final = 0.05
# Target and stretch against the floor.
_OF_PAGES: Final = (
    ("Python CPU", "python_cpu", 0.95, 0.75),
    ("total CPU", "total_cpu", 1.0, 0.9),
    ("p50", "p50", 1.0, 0.9),
)


def fences(stage: Stage) -> list[Row]:
    """What fences save a page of a feed, and what they cost a change of connections."""
    with ExitStack() as stack:
        copies = {name: _copied(stage, name, stack) for name in (_ASKING, _FENCED)}
        pairs = {name: _started(stage, copies[name], stack) for name in copies}
        postgres = stack.enter_context(closing(PostgresClock(copies[_FENCED].feed_url))).seconds
        pages = in_turns(
            stage.effort,
            {
                **{name: _pages(stage, pairs[name], postgres, stack) for name in pairs},
                "floor": floor(stage, stack, postgres),
            },
        )
        changes = in_turns(
            stage.effort, {name: _changes(stage, pairs[name], stack) for name in pairs}
        )
    return [*_of_pages(pages, stage.dataset.usual), _of_changes(changes)]


def fenced_pair(stage: Stage, stack: ExitStack) -> RunningPair:
    """Start the services with fences, on a copy of the data; it ends the pair of the stage."""
    return _started(stage, _copied(stage, _FENCED, stack), stack)


def _copied(stage: Stage, name: str, stack: ExitStack) -> Dataset:
    copy = stage.copied(name)
    stack.callback(datasets.drop, stage.cluster, name)
    return copy


def _started(stage: Stage, dataset: Dataset, stack: ExitStack) -> RunningPair:
    """Start the services on a copy; with fences they are ready once the graph has a keeper."""
    own_logs = stage.logs / dataset.name
    own_logs.mkdir(exist_ok=True)
    pair = stack.enter_context(
        running_pair(dataset, logs=own_logs, settings=_settings(dataset), start=stage.start)
    )
    if dataset.name == _FENCED:
        viewers = dataset.viewer_ids(dataset.usual)[:1]
        users = [graph_pb2.GetConnectedUserIdsRequest.UserQuery(user_id=id_) for id_ in viewers]
        asked = graph_pb2.GetConnectedUserIdsRequest(users=users)
        while not pair.kith.graph.GetConnectedUserIds(asked).fence_keepers:
            time.sleep(_POLL_SECONDS)
    return pair


def _settings(dataset: Dataset) -> Mapping[str, str]:
    if dataset.name != _FENCED:
        return {}
    with reserved(_HOST, 0) as free:
        port = free.getsockname()[1]
    return {"FENCES_PORT": str(port), "FENCE_KEEPERS": f"{_HOST}:{port}"}


def _pages(
    stage: Stage, pair: RunningPair, postgres: Callable[[], float], stack: ExitStack
) -> Contender:
    send = stack.enter_context(calls_of(pair.feed_address, GET_FEED))
    requests = [
        feed_pb2.GetFeedRequest(user_id=viewer).SerializeToString()
        for viewer in stage.dataset.viewer_ids(stage.dataset.usual)
    ]
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
