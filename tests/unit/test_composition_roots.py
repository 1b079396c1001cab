"""Building a service starts nothing, and what was built or started is closed in reverse order."""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, event
from sqlalchemy.exc import ArgumentError

from feed_service import __main__ as feed
from feed_service.settings import FeedSettings
from graph_service import __main__ as graph
from graph_service.settings import GraphSettings
from shared.processes.ports import ListenError
from shared.server.server import RunningServer
from shared.server.service import Service

_ENVIRONMENT = {
    "PAGE_TOKEN_KEYS": "a key for tests that is long enough to be taken",
    "DATABASE_POOL_SIZE": "8",
    "GRAPH_DATABASE_URL": "postgresql://127.0.0.1:1/graph",
    "FEED_DATABASE_URL": "postgresql://127.0.0.1:1/feed",
    "GRAPH_METRICS_PORT": "0",
    "S3_BUCKET": "photos",
    "AWS_ACCESS_KEY_ID": "someone",
    "AWS_SECRET_ACCESS_KEY": "secret",
}
# What cannot be found out before the replicas of the graph and the object store are built.
_MIXED_HOSTS = {"GRAPH_REPLICA_URLS": "postgresql:///graph?host=a:1&host=b:2&port=3&port=4"}
_NO_URL = {"S3_ENDPOINT_URL": "http://["}


def _graph(environment: Mapping[str, str]) -> Service:
    settings = GraphSettings.read({**_ENVIRONMENT, **environment})
    return graph.build(settings, settings.database.url)


def _feed(environment: Mapping[str, str]) -> Service:
    settings = FeedSettings.read({**_ENVIRONMENT, **environment})
    return feed.build(settings, settings.database.url)


_BUILDS = pytest.mark.parametrize("build", [_graph, _feed])


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port that takes connections for all that a service needs, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        yield listening


@pytest.fixture
def closed_pools() -> Iterator[list[int]]:
    """The sizes of the pools of connections that were closed, in their order."""
    sizes: list[int] = []

    def note(engine: Engine) -> None:
        pool: Any = engine.pool
        sizes.append(pool.size())

    event.listen(Engine, "engine_disposed", note)
    yield sizes
    event.remove(Engine, "engine_disposed", note)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads that the test starts: services of other tests may run, and start some, beside."""
    threads, here = list[threading.Thread](), threading.current_thread()
    start = threading.Thread.start

    def note(thread: threading.Thread) -> None:
        if threading.current_thread() is here:
            threads.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", note)
    return threads


@_BUILDS
def test_building_starts_no_thread_and_opens_no_connection(
    build: Callable[[Mapping[str, str]], Service],
    listener: socket.socket,
    started: list[threading.Thread],
) -> None:
    host, port = listener.getsockname()

    service = build(
        {
            "GRAPH_DATABASE_URL": f"postgresql://{host}:{port}/graph",
            "GRAPH_REPLICA_URLS": f"postgresql://{host}:{port}/graph",
            "FEED_DATABASE_URL": f"postgresql://{host}:{port}/feed",
            "FEED_REPLICA_URLS": f"postgresql://{host}:{port}/feed",
            "REDIS_URL": f"redis://{host}:{port}",
            "S3_ENDPOINT_URL": f"http://{host}:{port}",
            "GRAPH_TARGET": f"{host}:{port}",
        }
    )

    with closing(service):
        assert started == []
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize(
    ("build", "environment", "error"),
    [(_graph, _MIXED_HOSTS, ArgumentError), (_feed, _NO_URL, ValueError)],
)
def test_a_build_that_fails_closes_what_it_has_built(
    build: Callable[[Mapping[str, str]], Service],
    environment: Mapping[str, str],
    error: type[Exception],
    closed_pools: list[int],
) -> None:
    with pytest.raises(error):
        build(environment)

    # The one of the work in the background was built after the one of the calls.
    assert closed_pools == [1, 8]


def test_a_server_that_cannot_listen_closes_its_service_and_starts_nothing(
    listener: socket.socket, closed_pools: list[int], started: list[threading.Thread]
) -> None:
    settings = GraphSettings.read(
        {**_ENVIRONMENT, "GRAPH_METRICS_PORT": str(listener.getsockname()[1])}
    )

    with pytest.raises(ListenError):
        RunningServer(settings.server, graph.build(settings, settings.database.url))

    assert closed_pools == [1, 8]
    assert [thread for thread in started if thread.is_alive()] == []


class _Work:
    def __init__(self, name: str, told: list[str], *, starts: bool = True) -> None:
        self._name = name
        self._told = told
        self._starts = starts

    def start(self) -> None:
        if not self._starts:
            raise RuntimeError(self._name)
        self._told.append(f"{self._name} starts")

    def stop(self) -> None:
        self._told.append(f"{self._name} stops")


def _service(told: list[str], *work: _Work) -> Service:
    service = Service(
        name="kith.graph.v1.GraphService",
        add_to=lambda _server: None,
        access={},
        registry=CollectorRegistry(),
        checks={},
        background=work,
    )
    for name in ("database", "reader"):
        service.resources.callback(told.append, f"{name} closes")
    return service


def test_closing_goes_in_reverse_order_and_stops_work_before_what_it_uses() -> None:
    told: list[str] = []
    service = _service(told, _Work("upkeep", told), _Work("follower", told))

    service.start()
    service.close()

    assert told == [
        "upkeep starts",
        "follower starts",
        "follower stops",
        "upkeep stops",
        "reader closes",
        "database closes",
    ]


def test_what_did_not_start_is_not_stopped_and_all_else_is_closed() -> None:
    told: list[str] = []
    service = _service(told, _Work("upkeep", told), _Work("follower", told, starts=False))

    with closing(service), suppress(RuntimeError):
        service.start()

    assert told == ["upkeep starts", "upkeep stops", "reader closes", "database closes"]
