"""Every named metric moves when its event happens, and Prometheus can read them all."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from importlib.metadata import version

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.rpc import code_pb2

from feed_service.layouts import SINGLE
from kith.feed.v1 import feed_pb2 as feed
from kith.graph.v1 import graph_pb2 as graph
from shared.metrics import FAULTS
from tests.support.pair import LAYOUT, Databases, Pair, running_pair
from tests.support.people import ALL, People
from tests.support.processes import until
from tests.support.scrape import scrape

_GRAPH = "kith.graph.v1.GraphService"
_FEED = "kith.feed.v1.FeedService"


@pytest.fixture(scope="module")
def pair(databases: Databases) -> Iterator[Pair]:
    """A pair whose metrics no other test moves."""
    with running_pair(databases) as running:
        # Before it follows, the feed may ask about all users at once.
        until(lambda: _followed_at(running))
        yield running


def _request(pair: Pair, people: People) -> None:
    user, peer = people.new(2)
    pair.graph.RequestConnection(graph.RequestConnectionRequest(user_id=user, peer_id=peer))


def _accept(pair: Pair, people: People) -> None:
    user, peer = people.new(2)
    pair.graph.RequestConnection(graph.RequestConnectionRequest(user_id=user, peer_id=peer))
    pair.graph.AcceptConnection(graph.AcceptConnectionRequest(user_id=peer, peer_id=user))


def _cross(pair: Pair, people: People) -> None:
    user, peer = people.new(2)
    for one, other in ((user, peer), (peer, user)):
        pair.graph.RequestConnection(graph.RequestConnectionRequest(user_id=one, peer_id=other))


def _request_twice(pair: Pair, people: People) -> None:
    user, peer = people.new(2)
    for _ in range(2):
        pair.graph.RequestConnection(graph.RequestConnectionRequest(user_id=user, peer_id=peer))


def _remove(pair: Pair, people: People) -> None:
    user, peer = people.connected(2)
    pair.graph.RemoveConnection(graph.RemoveConnectionRequest(user_id=user, peer_id=peer))


def _connect(_pair: Pair, people: People) -> None:
    people.connected(3)


def _delete_user(pair: Pair, people: People) -> None:
    user, *_ = people.connected(3)
    pair.graph.DeleteUser(graph.DeleteUserRequest(user_id=user))


def _feed(_pair: Pair, people: People) -> None:
    people.feed(people.new(1)[0])


def _digest(pair: Pair, people: People) -> None:
    pair.feed.GetDigest(feed.GetDigestRequest(user_id=people.new(1)[0]))


def _post(_pair: Pair, people: People) -> None:
    people.post(people.new(1)[0])


def _post_twice(pair: Pair, people: People) -> None:
    request = feed.CreatePostRequest(
        user_id=people.new(1)[0],
        body="hello",
        audience=ALL,
        request_id="7a2d6a5e-63a4-4b35-9f6d-2f2f3f6d0d11",
    )
    for _ in range(2):
        pair.feed.CreatePost(request)


def _delete_twice(pair: Pair, people: People) -> None:
    [user] = people.new(1)
    request = feed.DeletePostRequest(user_id=user, post_id=people.post(user))
    for _ in range(2):
        pair.feed.DeletePost(request)


def _suspend(_pair: Pair, people: People) -> None:
    user, _ = people.connected(2)
    for _ in range(2):
        people.suspend(user)


def _restore(pair: Pair, people: People) -> None:
    user, _ = people.connected(2)
    people.suspend(user)
    people.restore(user)
    pair.graph.RestoreUser(graph.RestoreUserRequest(user_id=user))


_EVENTS: dict[str, tuple[Callable[[Pair, People], None], dict[str, float]]] = {
    "a request": (
        _request,
        {
            "connection_requests_total": 1,
            "connection_accepts_total": 0,
            "active_connections_total": 0,
            "users_total": 2,
        },
    ),
    "an accepted request": (
        _accept,
        {
            "connection_requests_total": 1,
            "connection_accepts_total": 1,
            "active_connections_total": 1,
            "users_total": 2,
        },
    ),
    "two requests that cross": (
        _cross,
        {"connection_accepts_total": 1, "active_connections_total": 1},
    ),
    "a repeated request": (_request_twice, {"connection_requests_total": 1}),
    "a removed connection": (_remove, {"active_connections_total": 0, "users_total": 2}),
    "an import": (_connect, {"active_connections_total": 2, "users_total": 3}),
    "an erased user": (_delete_user, {"active_connections_total": 0, "users_total": 2}),
    "a suspended user": (
        _suspend,
        {"suspended_users_total": 1, "active_connections_total": 1, "users_total": 2},
    ),
    "a restored user": (_restore, {"suspended_users_total": 0, "users_total": 2}),
    "a feed": (_feed, {"feed_requests_total": 1, "feed_latency_seconds_count": 1}),
    "a digest": (_digest, {"digest_requests_total": 1, "digest_latency_seconds_count": 1}),
    "a post": (
        _post,
        {
            "post_creations_total": 1,
            "post_creation_latency_seconds_count": 1,
            "post_deletions_total": 0,
            "posts_total": 1,
        },
    ),
    "a post whose request is repeated": (
        _post_twice,
        {
            "post_creations_total": 1,
            "post_creation_latency_seconds_count": 1,
            "posts_total": 1,
        },
    ),
    "a post that is deleted twice": (
        _delete_twice,
        {"post_creations_total": 1, "post_deletions_total": 1, "posts_total": 0},
    ),
}


@pytest.mark.parametrize("event", _EVENTS)
def test_an_event_moves_the_metrics_that_count_it(pair: Pair, people: People, event: str) -> None:
    happen, expected = _EVENTS[event]
    before = _values(pair, expected)

    happen(pair, people)

    after = _values(pair, expected)
    assert {name: after[name] - before[name] for name in expected} == expected


def test_streams_of_changes_and_their_events_are_counted(pair: Pair, people: People) -> None:
    [user] = people.new(1)

    def counted() -> list[float]:
        seen = scrape(pair.feed_server)
        return [seen.value(name) for name in ("watch_streams", "watch_events_total")]

    # The feed learns later that another test has erased somebody, and tells of it as well.
    stream = pair.feed.WatchPosts(feed.WatchPostsRequest(user_ids=[user]))
    next(stream)
    assert counted() == [1, 0]

    people.post(user)
    next(message for message in stream if message.events)
    stream.cancel()

    until(lambda: counted() == [0, 1])
    # The feed follows the graph.
    until(lambda: scrape(pair.graph_server).value("watch_streams") == 1)


def test_tags_that_end_are_counted_and_the_graph_is_seen_to_be_followed(
    pair: Pair, people: People
) -> None:
    def ended() -> float:
        return _values(pair, ["tags_ended_total"])["tags_ended_total"]

    owner, friend = people.connected(2)
    people.tag(owner, "family", friend)
    before, started = ended(), time.time()

    people.remove(friend, owner)

    until(lambda: ended() == before + 1)
    until(lambda: _followed_at(pair) >= started)


def _followed_at(pair: Pair) -> float:
    """Return the time of the last news of the graph, 0 before the first."""
    name = "connections_followed_timestamp_seconds"
    return _values(pair, [name])[name]


def test_a_statement_is_timed_where_it_runs(pair: Pair, people: People) -> None:
    user, _ = people.connected(2)
    people.feed(user)
    before = [scrape(server) for server in (pair.graph_server, pair.feed_server)]

    people.feed(user)

    after = [scrape(server) for server in (pair.graph_server, pair.feed_server)]
    for earlier, later in zip(before, after, strict=True):
        count = "db_query_latency_seconds_count"
        # The readiness checks run statements, too.
        assert later.value(count) > earlier.value(count)
    statements = {"name": "db_statements_per_call_sum", "grpc_method": "GetFeed"}
    # A distributed database is asked first whom the user has muted.
    expected = 1 if LAYOUT is SINGLE else 2
    assert after[1].value(**statements) - before[1].value(**statements) == expected


def test_a_call_is_counted_by_its_method_and_code_on_both_ends(pair: Pair, people: People) -> None:
    [user] = people.new(1)
    people.feed(user)
    labels = {
        "grpc_service": _GRAPH,
        "grpc_method": "GetConnectedUserIds",
        "grpc_type": "unary",
    }
    ends = {"server": pair.graph_server, "client": pair.feed_server}

    def counts(end: str) -> list[float]:
        seen = scrape(ends[end])
        return [
            seen.value(f"grpc_{end}_started_total", **labels),
            seen.value(f"grpc_{end}_handled_total", grpc_code="OK", **labels),
            seen.value(f"grpc_{end}_handling_seconds_count", **labels),
        ]

    before = {end: counts(end) for end in ends}
    people.feed(user)
    after = {end: counts(end) for end in ends}

    for end in ends:
        assert [b - a for a, b in zip(before[end], after[end], strict=True)] == [1, 1, 1]


def test_a_refused_call_is_counted_under_its_code(pair: Pair) -> None:
    labels = {
        "name": "grpc_server_handled_total",
        "grpc_service": _FEED,
        "grpc_method": "GetPost",
        "grpc_code": code_pb2.Code.Name(code_pb2.INVALID_ARGUMENT),
    }
    before = scrape(pair.feed_server).value(**labels)

    with pytest.raises(grpc.RpcError):
        pair.feed.GetPost(feed.GetPostRequest())

    assert scrape(pair.feed_server).value(**labels) - before == 1


def test_the_version_and_the_use_of_the_process_are_told(pair: Pair) -> None:
    seen = scrape(pair.feed_server)

    assert seen.value("kith_build_info", version=version("kith")) == 1
    assert seen.value("process_open_fds") > 0


@pytest.mark.parametrize(("service", "name"), [("graph", _GRAPH), ("feed", _FEED)])
def test_faults_of_every_method_are_counted_from_0(pair: Pair, service: str, name: str) -> None:
    server = {"graph": pair.graph_server, "feed": pair.feed_server}[service]
    contract = descriptor_pool.Default().FindServiceByName(name)

    text = scrape(server).text

    assert [
        (method.name, code)
        for method in contract.methods
        for code in ("OK", *FAULTS)
        if not re.search(
            f'handled_total{{grpc_code="{code}",grpc_method="{method.name}",grpc_service="{name}"',
            text,
        )
    ] == []


def test_a_streaming_call_is_counted_as_one(pair: Pair, people: People) -> None:
    labels = {
        "name": "grpc_server_handled_total",
        "grpc_type": "client_stream",
        "grpc_method": "ImportConnections",
        "grpc_code": "OK",
    }
    before = scrape(pair.graph_server).value(**labels)

    people.connected(2)

    assert scrape(pair.graph_server).value(**labels) - before == 1


@pytest.mark.parametrize("service", ["graph", "feed"])
def test_promtool_finds_nothing_to_object_to(pair: Pair, people: People, service: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    user, _ = people.connected(2)
    people.post(user)
    people.feed(user)
    server = {"graph": pair.graph_server, "feed": pair.feed_server}[service]

    checked = subprocess.run(
        [promtool, "check", "metrics"],
        check=False,
        input=scrape(server).text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    assert (checked.returncode, checked.stdout) == (0, "")


def _values(pair: Pair, names: Collection[str]) -> dict[str, float]:
    """Return what both ports say of some metrics, each of which has to be on one of them."""
    scrapes = [scrape(server) for server in (pair.graph_server, pair.feed_server)]
    for name in names:
        assert sum(seen.has(name) for seen in scrapes) == 1
    return {name: sum(seen.value(name) for seen in scrapes) for name in names}
