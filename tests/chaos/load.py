"""A mixed load of reads and writes, by clients in a process of their own.

Each client is a person who posts, comments, asks strangers to connect, connects with a friend and
ends that over and over, and reads feeds and posts. A write that was not acknowledged is made again,
with the same request_id, until it is. What a client knows to be there has to be in what it reads,
and the friend is shown posts only while connected.
"""

import json
import multiprocessing
import random
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any, Final, Literal, Self, TypeAlias

import grpc
from google.protobuf.message import Message

from kith.client.channel_options import client_options
from kith.client.channels import open_channel
from kith.client.settings import TargetSettings
from kith.environment import Environment
from kith.feed.v1 import feed_pb2
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from kith.graph.v1 import graph_pb2
from kith.graph.v1.graph_pb2_grpc import GraphServiceStub
from kith.positions import ANY_WORD, KEY
from tests.chaos.history import OK, History, Outcome
from tests.support.people import ALL

FEED_READS: Final = frozenset({"GetFeed", "ListComments"})
OWN_READS: Final = frozenset({"GetPost", "ListPosts"})
FRIEND_CALLS: Final = frozenset({"AcceptConnection", "RemoveConnection"})
GRAPH_CALLS: Final = FRIEND_CALLS | {"CheckConnections", "CountConnections", "RequestConnection"}
READS: Final = FEED_READS | OWN_READS | {"CheckConnections", "CountConnections"}
WRITES: Final = frozenset({"CreatePost", "CreateComment", "RequestConnection"})

_FIRST_USER = 1_000
_FIRST_STRANGER = 1_000_000
_STRANGERS = 100_000
_FIRST_FRIEND = 2_000_000
_MOST_DETAILS = 20
_FRIENDS_SHARE = 0.3
_ANY = ((KEY, ANY_WORD),)
_START_SECONDS = 240
_STOP_SECONDS = 60
# The service config of the clients: the one that is shipped, this without its retries, or none.
Config: TypeAlias = Literal["shipped", "unretried", "none"]
_MIX: Final[Mapping[str, int]] = {
    "GetFeed": 30,
    "GetPost": 15,
    "ListPosts": 10,
    "ListComments": 5,
    "CheckConnections": 10,
    "CountConnections": 5,
    "CreatePost": 15,
    "CreateComment": 5,
    "RequestConnection": 5,
    "AcceptConnection": 5,
}


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """The clients, the services they call, their rate and their timeouts.

    Without `timeout` the service config limits a call. `environment` has the credentials of the
    clients. Channels are opened anew after `calls_a_channel`. With `brings_positions` replicas may
    answer, once they have what the client has written.
    """

    graph: str
    feed: str
    clients: int = 8
    rate: float = 320
    timeout: float | None = None
    config: Config = "shipped"
    mix: Mapping[str, int] = field(default_factory=lambda: _MIX)
    environment: Mapping[str, str] = field(default_factory=dict)
    calls_a_channel: int = 500
    brings_positions: bool = False

    @property
    def users(self) -> Sequence[int]:
        """Who the clients are."""
        return range(_FIRST_USER, _FIRST_USER + self.clients)

    def pairs(self) -> list[graph_pb2.ConnectionPair]:
        """Return their connections: each knows two others."""
        users = [*self.users]
        neighbours = {
            tuple(sorted(pair)) for pair in zip(users, users[1:] + users[:1], strict=True)
        }
        return [
            graph_pb2.ConnectionPair(first_user_id=first, second_user_id=second)
            for first, second in neighbours
            if first != second
        ]

    def only(self, methods: Collection[str]) -> "Traffic":
        """Return the same with these calls alone."""
        return replace(self, mix={method: _MIX[method] for method in _MIX if method in methods})

    def without(self, methods: Collection[str]) -> "Traffic":
        """Return the same without these calls."""
        return self.only(_MIX.keys() - methods)


class Load:
    """Calls inside the block; `history` is complete after it."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._ear, mouth = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_run, args=(traffic, mouth), daemon=True)
        self.history = History()

    def __enter__(self) -> Self:
        self._process.start()
        if not self._ear.poll(_START_SECONDS):
            raise TimeoutError("the load does not begin")
        self._ear.recv()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.stop()

    def stop(self) -> History:
        """End with the calls under way, and return what was done."""
        if self._process.is_alive():
            self._ear.send(None)
            if not self._ear.poll(_STOP_SECONDS):
                self._process.kill()
                raise TimeoutError("the load does not end")
            self.history = self._ear.recv()
            self._process.join()
        return self.history


def channel_to(traffic: Traffic, service: str) -> grpc.Channel:
    """Open a channel as the clients of a traffic do."""
    target = traffic.graph if service == "graph" else traffic.feed
    access = TargetSettings.read(Environment(traffic.environment), target)
    return open_channel(target, access, _options(service, traffic.config))


def connect(traffic: Traffic) -> None:
    """Let the clients of a traffic know each other."""
    request = graph_pb2.ImportConnectionsRequest(connections=traffic.pairs())
    with channel_to(traffic, "graph") as channel:
        GraphServiceStub(channel).ImportConnections(iter([request]), timeout=30)


def _options(service: str, config: Config) -> list[tuple[str, Any]]:
    options = dict(client_options(service))
    if config == "none":
        del options["grpc.service_config"]
    if config == "unretried":
        # gRPC still repeats by itself what no server has looked at.
        shipped = json.loads(options["grpc.service_config"])
        for methods in shipped["methodConfig"]:
            del methods["retryPolicy"]
        options["grpc.service_config"] = json.dumps(shipped)
    return [*options.items()]


def _run(traffic: Traffic, pipe: Connection) -> None:
    history, stopping = History(), threading.Event()
    people = [_Person(user, traffic, history, stopping) for user in traffic.users]
    threads = [threading.Thread(target=person.live) for person in people]
    for thread in threads:
        thread.start()
    pipe.send(None)
    pipe.recv()
    stopping.set()
    for thread in threads:
        thread.join()
    pipe.send(history)


@dataclass(frozen=True, kw_only=True)
class _Write:
    """A write, and what it leaves behind; empty if another write may take that away."""

    method: str
    request: Message
    left_behind: str = ""


class _Person:
    """A client. Adding to a list or a set is atomic, so all share the history."""

    def __init__(
        self, user: int, traffic: Traffic, history: History, stopping: threading.Event
    ) -> None:
        self._user = user
        self._traffic = traffic
        self._history = history
        self._stopping = stopping
        self._random = random.Random(user)
        # Another load may have had the same people.
        self._life = f"{user}/{uuid.uuid4()}"
        self._number = 0
        self._posts: list[tuple[int, str]] = []
        self._positions: dict[str, Any] = {}
        # What has to be acknowledged before anything else is done.
        self._pending: _Write | None = None
        self._friend = _FIRST_FRIEND + user
        # The last change of the connection with the friend; another load may have left anything.
        self._friendship = ""

    def live(self) -> None:
        """Call until told to stop."""
        while not self._stopping.is_set():
            with ExitStack() as stack:
                graph = stack.enter_context(channel_to(self._traffic, "graph"))
                feed = stack.enter_context(channel_to(self._traffic, "feed"))
                self._stubs = {"graph": GraphServiceStub(graph), "feed": FeedServiceStub(feed)}
                self._live_on_these_channels()

    def _live_on_these_channels(self) -> None:
        interval = self._traffic.clients / self._traffic.rate
        methods, weights = [*self._traffic.mix], [*self._traffic.mix.values()]
        due = time.monotonic() + self._random.uniform(0, interval)
        for _ in range(self._traffic.calls_a_channel):
            if self._stopping.wait(max(0.0, due - time.monotonic())):
                return
            # A late client does not make up for more than one call.
            due = max(due, time.monotonic() - interval) + interval
            if self._pending is not None:
                self._write(self._pending)
            else:
                [method] = self._random.choices(methods, weights)
                _TURNS[method](self)

    def _call(self, method: str, request: Message) -> Any:
        """Make a call and note how it ended; returns its answer, or None."""
        service = "graph" if method in GRAPH_CALLS else "feed"
        started = time.monotonic()
        answer, code = None, OK
        try:
            answer, call = getattr(self._stubs[service], method).with_call(
                request, timeout=self._traffic.timeout, metadata=self._positions.get(service)
            )
            self._learn(service, call)
        except grpc.RpcError as error:
            code = error.code().name if isinstance(error, grpc.Call) else repr(error)
            if len(self._history.details) < _MOST_DETAILS:
                self._history.details.append(f"{time.time():.3f} {method} {error}")
        self._history.outcomes.append(Outcome(started, time.monotonic() - started, method, code))
        return answer

    def _learn(self, service: str, call: grpc.Call) -> None:
        """Remember the position that a write is answered with."""
        if self._traffic.brings_positions:
            told = tuple(pair for pair in call.initial_metadata() if pair[0] == KEY)
            self._positions[service] = told or self._positions.get(service) or _ANY

    def _write(self, write: _Write) -> None:
        if write.left_behind:
            self._history.attempted.add((write.method, write.left_behind))
        answer = self._call(write.method, write.request)
        self._pending = write if answer is None else None
        if answer is None:
            return
        if write.left_behind:
            self._history.acknowledged.append((write.method, write.left_behind))
        else:
            self._friendship = write.method
        if write.method == "CreatePost":
            self._posts.append((answer.post.post_id, write.left_behind))
            self._require("CreatePost", answer.post.body == write.left_behind)

    def _require(self, method: str, is_right: bool) -> None:  # noqa: FBT001 -- what is required
        if not is_right:
            self._history.wrong.append(f"{method} of {self._user} after {self._posts[-1:]}")

    @property
    def _last_post(self) -> int:
        return self._posts[-1][0] if self._posts else 0

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def create_post(self) -> None:
        body = f"{self._life}/{self._next_number()}"
        request = feed_pb2.CreatePostRequest(
            user_id=self._user, body=body, audience=ALL, request_id=str(uuid.uuid4())
        )
        self._write(_Write(method="CreatePost", request=request, left_behind=body))

    def create_comment(self) -> None:
        if not self._posts:
            return
        body = f"{self._life}/{self._next_number()}"
        request = feed_pb2.CreateCommentRequest(
            user_id=self._user,
            post=feed_pb2.PostName(author_id=self._user, post_id=self._last_post),
            body=body,
            request_id=str(uuid.uuid4()),
        )
        self._write(_Write(method="CreateComment", request=request, left_behind=body))

    def request_connection(self) -> None:
        stranger = _FIRST_STRANGER + self._user * _STRANGERS + self._next_number()
        request = graph_pb2.RequestConnectionRequest(user_id=self._user, peer_id=stranger)
        pair = f"{self._user} {stranger}"
        self._write(_Write(method="RequestConnection", request=request, left_behind=pair))

    def change_friendship(self) -> None:
        """Request, accept or end the connection with the friend, whichever is next."""
        user, friend, request_id = self._user, self._friend, str(uuid.uuid4())
        request: Message
        if self._friendship == "RequestConnection":
            method = "AcceptConnection"
            request = graph_pb2.AcceptConnectionRequest(
                user_id=user, peer_id=friend, request_id=request_id
            )
        elif self._friendship == "RemoveConnection":
            method = "RequestConnection"
            request = graph_pb2.RequestConnectionRequest(
                user_id=friend, peer_id=user, request_id=request_id
            )
        else:
            method = "RemoveConnection"
            request = graph_pb2.RemoveConnectionRequest(
                user_id=user, peer_id=friend, request_id=request_id
            )
        self._write(_Write(method=method, request=request))

    def get_feed(self) -> None:
        if self._friendship and self._random.random() < _FRIENDS_SHARE:
            self._get_friends_feed()
        else:
            self._get_own_feed()

    def _get_friends_feed(self) -> None:
        """Read what the friend is shown, who is connected with nobody else."""
        request = feed_pb2.GetFeedRequest(user_id=self._friend, page_size=1)
        answer = self._call("GetFeed", request)
        if answer is not None and self._last_post:
            is_connected = self._friendship == "AcceptConnection"
            shown = [post.post_id for post in answer.posts]
            self._require("GetFeed", shown == ([self._last_post] if is_connected else []))

    def _get_own_feed(self) -> None:
        known = self._last_post
        request = feed_pb2.GetFeedRequest(user_id=self._user, page_size=20)
        if (answer := self._call("GetFeed", request)) and known:
            ids = [post.post_id for post in answer.posts]
            is_past = len(ids) == request.page_size and min(ids) > known
            self._require("GetFeed", known in ids or is_past)

    def get_post(self) -> None:
        if not self._posts:
            return
        post_id, body = self._random.choice(self._posts[-20:])
        request = feed_pb2.GetPostRequest(user_id=self._user, author_id=self._user, post_id=post_id)
        if answer := self._call("GetPost", request):
            self._require("GetPost", answer.post.body == body)

    def list_posts(self) -> None:
        request = feed_pb2.ListPostsRequest(user_id=self._user, author_id=self._user, page_size=5)
        answer = self._call("ListPosts", request)
        if answer is not None and self._last_post:
            ids = [post.post_id for post in answer.posts]
            self._require("ListPosts", ids[:1] == [self._last_post])

    def list_comments(self) -> None:
        if self._posts:
            post = feed_pb2.PostName(author_id=self._user, post_id=self._last_post)
            self._call("ListComments", feed_pb2.ListCommentsRequest(user_id=self._user, post=post))

    def check_connections(self) -> None:
        peers = [user for user in self._traffic.users if user != self._user]
        request = graph_pb2.CheckConnectionsRequest(user_id=self._user, peer_ids=peers)
        if answer := self._call("CheckConnections", request):
            connected = graph_pb2.CONNECTION_STATE_CONNECTED
            known = sum(each.state == connected for each in answer.connections)
            self._require("CheckConnections", known == min(2, len(peers)))

    def count_connections(self) -> None:
        request = graph_pb2.CountConnectionsRequest(user_ids=[self._user])
        self._call("CountConnections", request)


_TURNS: Final[Mapping[str, Callable[[_Person], None]]] = {
    "GetFeed": _Person.get_feed,
    "GetPost": _Person.get_post,
    "ListPosts": _Person.list_posts,
    "ListComments": _Person.list_comments,
    "CheckConnections": _Person.check_connections,
    "CountConnections": _Person.count_connections,
    "CreatePost": _Person.create_post,
    "CreateComment": _Person.create_comment,
    "RequestConnection": _Person.request_connection,
    "AcceptConnection": _Person.change_friendship,
}
