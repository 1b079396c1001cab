"""The same feed by lists in Redis that are filled when a post is written, as Stream Framework did.

    python -m benchmarks.fan_out read|write SOCKET

serves its GetFeed or CreatePost. A post is stored once, and its id is pushed onto the list of each
connection of its author; a page is the front of a list and the posts named there.

In its favour: a page is a process and two requests of Redis, in place of a process and PostgreSQL;
nothing is on a disk, repeated or counted; photos have no signed URLs; all of a fan-out is one
message. What it cannot do: a list says who saw a post when it was written. A tag that is given or
taken, an exclusion, a changed audience, an ended connection or a block do not change it, unless
each of them goes through the lists of all concerned. Nor does it have pages behind the end of a
list, or a feed of only some connections.

The targets are bounds a little above what was measured first, for no goal is set against it.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any, Final

import redis

from benchmarks.baselines import CALL, Handler, serve
from benchmarks.end_to_end import GET_FEED
from benchmarks.processes import Calls, PostgresClock, calls_of, cpu_seconds
from benchmarks.redis_server import RunningRedis, running_redis
from benchmarks.rounds import Contender, in_turns, ratio
from benchmarks.row import Row, Segments, comparison
from benchmarks.stage import Stage, feed_page
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2

_CREATE_POST: Final = "/kith.feed.v1.FeedService/CreatePost"
_PAGE: Final = 20
_LARGEST_PAGE: Final = 100
# Stream Framework's own default.
_LIST_LENGTH: Final = 100
_FIRST_NEW_ID: Final = 10**12
_BODY: Final = "Good morning from a benchmark."
_PEER: Final = "lists"
_KITH: Final = "kith"


def fan_out(stage: Stage) -> list[Row]:
    """What reading and posting cost against lists in Redis, both with all that they need."""
    dataset = stage.dataset
    with ExitStack() as stack:
        server = stack.enter_context(running_redis())
        _fill(stage, server)
        peer = _Peer(stage, server, stack)
        kith = _Kith(stage, stack)
        viewers = dataset.viewer_ids(dataset.usual)
        reads = in_turns(
            stage.effort,
            {_KITH: kith.reads(viewers), _PEER: peer.reads(viewers)},
        )
        posts = {
            degree: in_turns(
                stage.effort,
                {each.name: each.posts(dataset.viewer_ids(degree)) for each in (kith, peer)},
            )
            for degree in (dataset.usual, dataset.hub)
        }
    return [
        _row("GetFeed with fences", reads, target=8),
        *(
            _row(f"CreatePost with {degree:,} connections", segments, target=target)
            for (degree, segments), target in zip(posts.items(), (1.5, 0.1), strict=True)
        ),
    ]


def _row(name: str, segments: Segments, *, target: float) -> Row:
    row = comparison(
        f"{name} vs lists in Redis: total CPU",
        segments,
        (_KITH, _PEER),
        attrgetter("total_cpu"),
        target=target,
    )
    p50 = ratio(
        (segment.p50 for segment in segments[_KITH]), (segment.p50 for segment in segments[_PEER])
    )
    return replace(row, note=f"{row.note}; p50 {p50:.2f}×; the lists apply no audience")


def _fill(stage: Stage, server: RunningRedis) -> None:
    """Store the newest posts that Kith shows to usual viewers, and who hears from all viewers."""
    dataset, kith = stage.dataset, stage.fenced.kith
    usual, hubs = (dataset.viewer_ids(degree) for degree in (dataset.usual, dataset.hub))
    with redis.Redis(unix_socket_path=server.socket) as client:
        client.set("posts", _FIRST_NEW_ID)
        for viewer_id in usual:
            posts = feed_page(kith, viewer_id, page_size=_LARGEST_PAGE).posts
            for post in posts:
                client.set(_post_key(post.post_id), post.SerializeToString())
                client.rpush(f"feed:{viewer_id}", _post_key(post.post_id))
        for author_id in {*usual, *hubs}:
            asked = graph_pb2.GetConnectedUserIdsRequest.UserQuery(user_id=author_id)
            [answer] = kith.graph.GetConnectedUserIds(
                graph_pb2.GetConnectedUserIdsRequest(users=[asked])
            ).users
            client.sadd(f"connections:{author_id}", *answer.connected_user_ids)


def _post_key(post_id: int) -> str:
    return f"post:{post_id}"


class _Kith:
    """Both services with fences and PostgreSQL."""

    name = _KITH

    def __init__(self, stage: Stage, stack: ExitStack) -> None:
        address = stage.fenced.feed_address
        self._read, self._write = (
            stack.enter_context(calls_of(address, method)) for method in (GET_FEED, _CREATE_POST)
        )
        postgres = PostgresClock(stage.dataset.feed_url)
        stack.callback(postgres.close)
        self._clocks: Mapping[str, Callable[[], float]] = {
            **{name: partial(cpu_seconds, pid) for name, pid in stage.fenced.pids.items()},
            "postgres": postgres.seconds,
        }

    def reads(self, viewer_ids: Sequence[int]) -> Contender:
        """Return what reads first pages."""
        return Contender(calls=_reading(self._read, viewer_ids), clocks=self._clocks)

    def posts(self, author_ids: Sequence[int]) -> Contender:
        """Return what writes posts for all connections of their authors."""
        return Contender(calls=_posting(self._write, author_ids), clocks=self._clocks)


class _Peer:
    """A process that reads lists, one that fills them, and Redis."""

    name = _PEER

    def __init__(self, stage: Stage, server: RunningRedis, stack: ExitStack) -> None:
        self._calls = dict[str, Calls]()
        self._clocks = dict[str, Mapping[str, Callable[[], float]]]()
        for way in _WAYS:
            process = stack.enter_context(
                stage.start(
                    "benchmarks.fan_out",
                    way,
                    server.socket,
                    environment={},
                    log=stage.logs / f"fan-out-{way}.log",
                )
            )
            self._calls[way] = stack.enter_context(calls_of(process.address(), CALL))
            self._clocks[way] = {
                "server": partial(cpu_seconds, process.pid),
                "redis": partial(cpu_seconds, server.pid),
            }

    def reads(self, viewer_ids: Sequence[int]) -> Contender:
        """Return what reads first pages."""
        return Contender(
            calls=_reading(self._calls["read"], viewer_ids), clocks=self._clocks["read"]
        )

    def posts(self, author_ids: Sequence[int]) -> Contender:
        """Return what writes posts and pushes them onto lists."""
        return Contender(
            calls=_posting(self._calls["write"], author_ids), clocks=self._clocks["write"]
        )


def _reading(call: Calls, viewer_ids: Sequence[int]) -> Sequence[Callable[[], object]]:
    requests = [feed_pb2.GetFeedRequest(user_id=viewer_id) for viewer_id in viewer_ids]
    return [partial(call, request.SerializeToString()) for request in requests]


def _posting(call: Calls, author_ids: Sequence[int]) -> Sequence[Callable[[], object]]:
    audience = feed_pb2.Audience(kind=feed_pb2.AUDIENCE_KIND_ALL)
    requests = [
        feed_pb2.CreatePostRequest(user_id=author_id, body=_BODY, audience=audience)
        for author_id in author_ids
    ]
    return [partial(call, request.SerializeToString()) for request in requests]


def _reader(client: Any) -> Handler:
    def answer(request: bytes) -> bytes:
        viewer_id = feed_pb2.GetFeedRequest.FromString(request).user_id
        keys = client.lrange(f"feed:{viewer_id}", 0, _PAGE - 1)
        response = feed_pb2.GetFeedResponse()
        for stored in client.mget(keys) if keys else ():
            if stored is not None:
                response.posts.add().MergeFromString(stored)
        return response.SerializeToString()

    return answer


def _writer(client: Any) -> Handler:
    def answer(request: bytes) -> bytes:
        asked = feed_pb2.CreatePostRequest.FromString(request)
        post = feed_pb2.Post(author_id=asked.user_id, post_id=client.incr("posts"), body=asked.body)
        post.create_time.GetCurrentTime()
        key = _post_key(post.post_id)
        listeners = client.smembers(f"connections:{asked.user_id}")
        with client.pipeline(transaction=False) as pipeline:
            pipeline.set(key, post.SerializeToString())
            for listener in listeners:
                pipeline.lpush(b"feed:" + listener, key)
                pipeline.ltrim(b"feed:" + listener, 0, _LIST_LENGTH - 1)
            pipeline.execute()
        return feed_pb2.CreatePostResponse(post=post).SerializeToString()

    return answer


# By type a client of Redis may be one that is awaited.
_WAYS: Final[Mapping[str, Callable[[Any], Handler]]] = {
    "read": _reader,
    "write": _writer,
}


def way(name: str, socket: str) -> Handler:
    """Return what answers the calls of one way to use the lists."""
    return _WAYS[name](redis.Redis(unix_socket_path=socket))


def main() -> None:
    """Serve one way until killed."""
    serve(way(*sys.argv[1:]))


if __name__ == "__main__":
    main()
