"""What an operator meets: outages, stops, wrong settings, faults, logs."""

import logging
import os
import signal
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import grpc
import psycopg2
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from kith.feed.v1 import feed_pb2 as feed
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from kith.graph.v1 import graph_pb2 as graph
from shared.database.embedded_postgres import EmbeddedPostgres
from tests.support.errors import decoded, reason_of
from tests.support.memory import folder_for_postgres
from tests.support.pair import Databases
from tests.support.people import PRIVATE
from tests.support.processes import (
    ProcessPair,
    ServiceProcess,
    Session,
    run,
    running_processes,
    until,
)

_log = logging.getLogger(__name__)

_TIMEOUT = 60

_DRAFT = feed.CreatePostRequest(user_id=1, body="hello", audience=PRIVATE)
_REQUEST = graph.RequestConnectionRequest(user_id=1, peer_id=2)
_CALLS: dict[str, Callable[[ProcessPair], object]] = {
    "a read of the graph": lambda pair: pair.graph.CountConnections(
        graph.CountConnectionsRequest(user_ids=[1]), timeout=_TIMEOUT
    ),
    "a change of the graph": lambda pair: pair.graph.RequestConnection(_REQUEST, timeout=_TIMEOUT),
    "a read of a post": lambda pair: pair.feed.GetPost(
        feed.GetPostRequest(user_id=1, author_id=1, post_id=1), timeout=_TIMEOUT
    ),
    "a new post": lambda pair: pair.feed.CreatePost(_DRAFT, timeout=_TIMEOUT),
}


@pytest.fixture(scope="module")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that may be stopped and broken: only this test uses it."""
    with (
        folder_for_postgres() as directory,
        EmbeddedPostgres(directory / "postgres") as running,
    ):
        yield running


@pytest.fixture(scope="module")
def own_databases(postgres: EmbeddedPostgres) -> Databases:
    return Databases(postgres)


@pytest.fixture(scope="module")
def shared_processes(
    own_databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProcessPair]:
    """Both services, for tests that leave them as they were."""
    with running_processes(
        graph_url=own_databases.new("graph"),
        feed_url=own_databases.new("feed"),
        logs=tmp_path_factory.mktemp("operations"),
    ) as pair:
        yield pair


@pytest.fixture
def processes(own_databases: Databases, tmp_path: Path) -> Iterator[ProcessPair]:
    """Both services, for a test that stops the graph."""
    with running_processes(
        graph_url=own_databases.new("graph"), feed_url=own_databases.new("feed"), logs=tmp_path
    ) as pair:
        yield pair


@pytest.fixture
def with_own_feed(
    shared_processes: ProcessPair, own_databases: Databases, tmp_path: Path
) -> Iterator[ProcessPair]:
    """The shared graph_service, and a feed_service for a test that stops it."""
    graph, feed_url = shared_processes.graph_process, own_databases.new("feed")
    variables = {"FEED_DATABASE_URL": feed_url, "GRAPH_TARGET": graph.address}
    with ServiceProcess("feed_service", variables, tmp_path / "feed.log") as own:
        until(lambda: own.is_serving("ready"))
        # It looks at all posts first, for which a test that locks them would wait in vain.
        until(lambda: own.logged("following the graph"))
        yield ProcessPair(
            graph_process=graph,
            feed_process=own,
            graph_url=shared_processes.graph_url,
            feed_url=feed_url,
        )


def test_an_outage_of_the_database_is_told_and_passes(
    shared_processes: ProcessPair, postgres: EmbeddedPostgres
) -> None:
    both = (shared_processes.graph_process, shared_processes.feed_process)
    for call in (_CALLS["a change of the graph"], _CALLS["a new post"]):
        call(shared_processes)

    postgres.stop()
    until(lambda: not _accepts(shared_processes.graph_url))
    took = until(lambda: not any(process.is_serving("ready") for process in both))
    _log.info("not ready after %.2f s", took)
    assert all(process.is_serving("live") for process in both)
    for call in _CALLS.values():
        with pytest.raises(grpc.RpcError) as caught:
            call(shared_processes)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(caught.value) == "DATABASE_UNAVAILABLE"
        assert decoded(caught.value).retry_after

    postgres.start()
    took = until(lambda: all(process.is_serving("ready") for process in both))
    _log.info("ready after %.2f s", took)
    for call in (_CALLS["a read of the graph"], _CALLS["a new post"]):
        call(shared_processes)


def test_without_the_graph_feeds_are_refused_and_own_posts_are_readable(
    processes: ProcessPair,
) -> None:
    post_id = processes.feed.CreatePost(_DRAFT, timeout=_TIMEOUT).post.post_id

    processes.graph_process.kill()

    with pytest.raises(grpc.RpcError) as caught:
        processes.feed.GetFeed(feed.GetFeedRequest(user_id=1), timeout=_TIMEOUT)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(caught.value) == "GRAPH_UNAVAILABLE"
    assert decoded(caught.value).retry_after
    own = feed.GetPostRequest(user_id=1, author_id=1, post_id=post_id)
    assert processes.feed.GetPost(own, timeout=_TIMEOUT).post.body == "hello"
    until(lambda: not processes.feed_process.is_serving("ready"))
    assert processes.feed_process.is_serving("live")


def test_a_stop_finishes_the_call_in_flight_and_refuses_new_ones(
    with_own_feed: ProcessPair,
) -> None:
    process = with_own_feed.feed_process
    with Session(with_own_feed.feed_url) as session:
        session.rows("LOCK TABLE posts")
        in_flight = with_own_feed.feed.CreatePost.future(_DRAFT, timeout=3 * _TIMEOUT)
        until(lambda: bool(session.waiting()))

        process.terminate()
        until(lambda: _refuses_calls(process.address))
        is_waiting = not in_flight.done()
        session.commit()

        assert is_waiting
        assert in_flight.result().post.body == "hello"
        assert process.wait() == 0
        assert session.rows("SELECT count(*) FROM posts") == [(1,)]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_exits_0_with_watchers_about(
    own_databases: Databases, tmp_path: Path, stop: signal.Signals
) -> None:
    variables = {"GRAPH_DATABASE_URL": own_databases.new("graph")}
    with ServiceProcess("graph_service", variables, tmp_path / "log", by_exec=True) as process:
        watch = health_pb2_grpc.HealthStub(process.channel).Watch(health_pb2.HealthCheckRequest())
        until(lambda: next(watch).status == health_pb2.HealthCheckResponse.SERVING)

        process.terminate(stop)

        statuses = [response.status for response in watch]
        assert statuses == [health_pb2.HealthCheckResponse.NOT_SERVING]
        assert process.wait() == 0
        told = [line["message"] for line in process.logs() if line["logger"] == "kith.server"]
    assert told[-2:] == ["stopping", "stopped"]


@pytest.mark.parametrize(
    ("service", "prefix"), [("graph_service", "GRAPH"), ("feed_service", "FEED")]
)
def test_all_that_is_wrong_with_the_settings_is_told_at_once(service: str, prefix: str) -> None:
    wrong = {
        f"{prefix}_PORT": "the usual",
        f"{prefix}_METRICS_PORT": "70000",
        f"{prefix}_DATABASE_URL": "mysql://localhost/kith",
        "LOG_LEVEL": "LOUD",
        "DRAIN_SECONDS": "-1",
        "PAGE_TOKEN_KEYS": "short",
    }

    ended = run(service, wrong)

    assert ended.returncode == 2
    assert {line.split()[0] for line in ended.stdout.splitlines()} == set(wrong)


def test_a_fault_of_ours_is_an_internal_error_that_only_names_the_request(
    shared_processes: ProcessPair,
) -> None:
    with Session(shared_processes.feed_url) as session:
        session.rows("ALTER TABLE posts RENAME TO lost")
        session.commit()

        with pytest.raises(grpc.RpcError) as caught:
            shared_processes.feed.CreatePost(
                _DRAFT, timeout=_TIMEOUT, metadata=(("x-request-id", "the-broken-one"),)
            )

        session.rows("ALTER TABLE lost RENAME TO posts")
        session.commit()
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    info = _error_info(caught.value)
    assert (info.reason, dict(info.metadata)) == ("INTERNAL", {"request_id": "the-broken-one"})
    assert "posts" not in str(caught.value.details())
    [line] = shared_processes.feed_process.logged("unexpected error")
    assert line["request_id"] == "the-broken-one"
    assert "UndefinedTable" in line["traceback"]


def test_logs_are_json_lines_that_name_the_request(with_own_feed: ProcessPair) -> None:
    metadata = (("x-request-id", "one-of-mine"),)
    with_own_feed.feed.CreatePost(_DRAFT, timeout=_TIMEOUT, metadata=metadata)
    with pytest.raises(grpc.RpcError):
        with_own_feed.feed.CreatePost(feed.CreatePostRequest(), timeout=_TIMEOUT, metadata=metadata)
    with_own_feed.feed.GetFeed(feed.GetFeedRequest(user_id=1), timeout=_TIMEOUT)
    with_own_feed.feed_process.terminate()
    with_own_feed.feed_process.wait()

    calls = with_own_feed.feed_process.logged("call")
    asked = with_own_feed.graph_process.logged("call")

    assert [(call["grpc_method"], call["grpc_code"]) for call in calls] == [
        ("CreatePost", "OK"),
        ("CreatePost", "INVALID_ARGUMENT"),
        ("GetFeed", "OK"),
    ]
    assert [call["request_id"] == "one-of-mine" for call in calls] == [True, True, False]
    assert calls[2]["request_id"]
    assert calls[2]["request_id"] in {call["request_id"] for call in asked}
    for line in with_own_feed.feed_process.logs():
        assert {"time", "level", "service", "logger", "message"} <= line.keys()


def test_a_read_is_repeated_when_its_backend_is_terminated(shared_processes: ProcessPair) -> None:
    post_id = shared_processes.feed.CreatePost(_DRAFT, timeout=_TIMEOUT).post.post_id
    own = feed.GetPostRequest(user_id=1, author_id=1, post_id=post_id)
    with Session(shared_processes.feed_url) as session:
        session.rows("LOCK TABLE posts")
        read = shared_processes.feed.GetPost.future(own, timeout=3 * _TIMEOUT)
        # With it may wait what the service does beside the calls.
        until(lambda: _is_read_by(session, session.waiting()))
        backends = session.waiting()

        for backend in backends:
            session.rows(f"SELECT pg_terminate_backend({backend})")
        until(lambda: _is_read_by(session, {*session.waiting()} - {*backends}))
        session.commit()

    assert read.result().post.body == "hello"


def test_a_read_does_not_show_that_a_backend_was_killed(shared_processes: ProcessPair) -> None:
    post_id = shared_processes.feed.CreatePost(_DRAFT, timeout=_TIMEOUT).post.post_id
    with Session(shared_processes.feed_url) as session:
        backends = session.others()

    # PostgreSQL then closes every connection and recovers, so the pool holds only dead ones.
    os.kill(backends[0], signal.SIGKILL)
    until(lambda: not _is_there(backends[0]))
    until(lambda: _accepts(shared_processes.feed_url))

    own = feed.GetPostRequest(user_id=1, author_id=1, post_id=post_id)
    assert shared_processes.feed.GetPost(own, timeout=_TIMEOUT).post.body == "hello"


def _is_read_by(session: Session, backends: Collection[int]) -> bool:
    """Tell whether one of the backends is executing the statement that reads a post."""
    # Within a transaction it stays what it was at the first look.
    session.rows("SELECT pg_stat_clear_snapshot()")
    activity = session.rows(
        "SELECT pid FROM pg_stat_activity WHERE query LIKE '%visible_posts_of_author%'"
    )
    return any(pid in backends for (pid,) in activity)


def _accepts(url: str) -> bool:
    try:
        with Session(url):
            return True
    except psycopg2.OperationalError:
        return False


def _refuses_calls(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        try:
            FeedServiceStub(channel).ListTags(feed.ListTagsRequest(user_id=1), timeout=_TIMEOUT)
        except grpc.RpcError as error:
            return error.code() is grpc.StatusCode.UNAVAILABLE
        return False


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _error_info(error: Any) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    [detail] = rpc_status.from_call(error).details
    assert detail.Unpack(info)
    return info
