"""Whole calls that write, in turns with the least that a write can be.

    python -m benchmarks.writes URL

serves the floor: a gRPC call with nothing in it but a transaction by bare psycopg2, which reads a
row and stores one. It claims no request id, stores no answer, records no event and adds to no
total, all of which Kith does; nothing that writes in Python over gRPC can be below.
"""

import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from itertools import count, cycle, islice
from operator import attrgetter
from typing import Final

from google.protobuf.message import Message

from benchmarks import dataset as datasets
from benchmarks.baselines import CALL, Handler, serve, viewer_message
from benchmarks.dataset import Dataset, connect
from benchmarks.fenced import running_fenced_pair
from benchmarks.processes import (
    PostgresClock,
    RunningPair,
    calls_of,
    cpu_seconds,
    running_pair,
)
from benchmarks.rounds import Contender, in_turns, ratio
from benchmarks.row import Row, Segments, comparison
from benchmarks.stage import Stage, feed_page
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2

_FEED: Final = ("/kith.feed.v1.FeedService", attrgetter("feed_address"))
_GRAPH: Final = ("/kith.graph.v1.GraphService", attrgetter("graph_address"))
_SERVICES: Final = {
    "CreatePost": _FEED,
    "CreateComment": _FEED,
    "RequestConnection": _GRAPH,
    "AcceptConnection": _GRAPH,
}
_FLOOR: Final = "floor"
_BODY: Final = "Good morning from a benchmark."
_TARGETS: Final = {
    "CreatePost": (3, 2.5),
    "CreateComment": (4, 3),
    "RequestConnection": (3, 2.5),
    "AcceptConnection": (3, 2.5),
}


def writes(stage: Stage) -> list[Row]:
    """What the frequent writes cost against the floor, each with a request id.

    Afterwards with fences what asks the graph without them. On the same copy: a second one of the
    full data set would not fit on many a disk.
    """
    copy = stage.copied("writes")
    with ExitStack() as stack:
        postgres = stack.enter_context(closing(PostgresClock(copy.feed_url))).seconds
        floor = _floor_contender(stage, copy, postgres, stack)
        with running_pair(copy, logs=stage.logs, start=stage.start) as pair:
            # Once more than there are rounds, for all are warmed first.
            number = stage.effort.calls * (stage.effort.rounds + 1)
            messages = _Requests(pair, copy).by_call(number)
            rows = _rows(stage, pair, messages, floor)
        with running_fenced_pair(copy, logs=stage.logs, start=stage.start) as pair:
            comments = {"CreateComment": messages["CreateComment"]}
            rows += _rows(stage, pair, comments, floor, " with fences")
    datasets.drop(stage.cluster, "writes")
    return rows


def _rows(
    stage: Stage,
    pair: RunningPair,
    messages: Mapping[str, Iterator[Message]],
    floor: Contender,
    label: str = "",
) -> list[Row]:
    clocks: dict[str, Callable[[], float]] = {
        **{name: partial(cpu_seconds, pid) for name, pid in pair.pids.items()},
        "postgres": floor.clocks["postgres"],
    }
    contenders = {_FLOOR: floor}
    with ExitStack() as stack:
        for name, some in messages.items():
            service, address_of = _SERVICES[name]
            send = stack.enter_context(calls_of(address_of(pair), f"{service}/{name}"))
            contenders[name] = Contender(
                calls=[partial(_send_next, send, some)] * stage.effort.calls, clocks=clocks
            )
        segments = in_turns(stage.effort, contenders)
    return [_row(name, label, segments) for name in messages]


def _row(name: str, label: str, segments: Segments) -> Row:
    target, stretch = _TARGETS[name]
    row = comparison(
        f"{name}{label}: total CPU vs floor of a write",
        segments,
        (name, _FLOOR),
        attrgetter("total_cpu"),
        target=target,
        stretch=stretch,
    )
    python, p50 = (
        ratio(map(figure, segments[name]), map(figure, segments[_FLOOR]))
        for figure in (attrgetter("python_cpu"), attrgetter("p50"))
    )
    return replace(row, note=f"{row.note}; Python CPU {python:.2f}×, p50 {p50:.2f}×")


def _send_next(send: Callable[[bytes], bytes], messages: Iterator[Message]) -> bytes:
    return send(next(messages).SerializeToString())


def _floor_contender(
    stage: Stage, dataset: Dataset, postgres: Callable[[], float], stack: ExitStack
) -> Contender:
    process = stack.enter_context(
        stage.start(
            "benchmarks.writes",
            dataset.feed_url,
            environment={},
            log=stage.logs / "floor-write.log",
        )
    )
    call = stack.enter_context(calls_of(process.address(), CALL))
    viewers = [viewer_message(viewer_id) for viewer_id in dataset.viewer_ids(dataset.usual)]
    return Contender(
        calls=[partial(call, viewer) for viewer in viewers],
        clocks={_FLOOR: partial(cpu_seconds, process.pid), "postgres": postgres},
    )


class _Requests:
    """Requests by people of the usual degree and by new people; each has an id of its own."""

    def __init__(self, pair: RunningPair, dataset: Dataset) -> None:
        self._pair = pair
        self._viewers = dataset.viewer_ids(dataset.usual)
        self._new_ids = count(dataset.people + 1_000_000)

    def by_call(self, number: int) -> dict[str, Iterator[Message]]:
        """Return requests of each call, of which so many may be made."""
        return {
            "CreatePost": self.posts(),
            "CreateComment": self.comments(),
            "RequestConnection": self.strangers(),
            "AcceptConnection": iter(self.asked(number)),
        }

    def posts(self) -> Iterator[feed_pb2.CreatePostRequest]:
        """Return posts for all connections of their authors."""
        for viewer_id in cycle(self._viewers):
            yield feed_pb2.CreatePostRequest(
                user_id=viewer_id,
                body=_BODY,
                audience=feed_pb2.Audience(kind=feed_pb2.AUDIENCE_KIND_ALL),
                request_id=str(uuid.uuid4()),
            )

    def comments(self) -> Iterator[feed_pb2.CreateCommentRequest]:
        """Return comments on the newest posts by connections, as they are now."""
        seen = [
            (viewer_id, feed_pb2.PostName(author_id=post.author_id, post_id=post.post_id))
            for viewer_id in self._viewers
            for post in feed_page(self._pair.kith, viewer_id).posts
            if post.author_id != viewer_id
        ]
        return (
            feed_pb2.CreateCommentRequest(
                user_id=viewer_id, post=post, body=_BODY, request_id=str(uuid.uuid4())
            )
            for viewer_id, post in cycle(seen)
        )

    def strangers(self) -> Iterator[graph_pb2.RequestConnectionRequest]:
        """Return requests of people whom the graph does not know to others of those."""
        while True:
            yield graph_pb2.RequestConnectionRequest(
                user_id=next(self._new_ids),
                peer_id=next(self._new_ids),
                request_id=str(uuid.uuid4()),
            )

    def asked(self, number: int) -> list[graph_pb2.AcceptConnectionRequest]:
        """Let strangers ask each other, and return what accepts so many of these requests."""
        asked = list(islice(self.strangers(), number))
        for request in asked:
            self._pair.kith.graph.RequestConnection(request)
        return [
            graph_pb2.AcceptConnectionRequest(
                user_id=request.peer_id, peer_id=request.user_id, request_id=str(uuid.uuid4())
            )
            for request in asked
        ]


def floor(url: str) -> Handler:
    """Return what answers the calls of the floor, in a database that it adds a table to."""
    cursor = connect(url).cursor()
    cursor.execute("""
        CREATE TABLE floor_of_writes (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now())""")
    last_id = 0

    def answer(_request: bytes) -> bytes:
        nonlocal last_id
        cursor.execute("BEGIN; SELECT body FROM floor_of_writes WHERE id = %s", (last_id,))
        cursor.fetchall()
        cursor.execute("INSERT INTO floor_of_writes (body) VALUES (%s) RETURNING id", (_BODY,))
        [(last_id,)] = cursor.fetchall()
        cursor.execute("COMMIT")
        return b""

    return answer


def main() -> None:
    """Serve the floor until killed."""
    serve(floor(sys.argv[1]))


if __name__ == "__main__":
    main()
