"""Fences are switched on and off while both services run, and every read is right meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import grpc
import pytest

from graph_service import fence_registrations
from graph_service.__main__ import build as build_graph
from graph_service.settings import GraphSettings
from kith.client.channel_options import client_options
from kith.graph.v1.graph_pb2_grpc import GraphServiceStub
from shared.server.server import RunningServer
from tests.support.pair import (
    ENVIRONMENT,
    Databases,
    Pair,
    another_feed,
    running_fenced_pair,
)
from tests.support.people import People
from tests.support.processes import Session, until
from tests.support.redis_server import running_redis
from tests.support.roles import serving


def test_reads_are_right_while_processes_with_and_without_fences_change_connections(
    databases: Databases,
) -> None:
    with running_fenced_pair(databases) as (pair, _):
        first = People(pair)
        [(keeper,)] = _keepers(pair)
        _change_and_read(first)
        until(lambda: not _asks_the_graph(pair))

        with _another_graph(pair, keepers="") as second:
            until(lambda: not _keepers(pair))
            for people in (first, second):
                _change_and_read(people)
            assert _asks_the_graph(pair)

            with _another_graph(pair, keepers=str(keeper)) as third:
                until(lambda: _keepers(pair))
                for people in (first, second, third):
                    _change_and_read(people)
                until(lambda: not _asks_the_graph(pair))


def test_a_keeper_that_is_forgotten_while_it_answers_trusts_nothing_that_is_cached(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_fenced_pair(databases) as (pair, _):
        people = People(pair)
        [(keeper,)] = _keepers(pair)
        bob, alice = people.connected(2)
        until(lambda: not _open_fences(pair))
        assert [people.feed(bob) for _ in range(2)] == [[], []]
        monkeypatch.setenv("GRAPH_DATABASE_URL", pair.graph_url)

        assert fence_registrations.main(["forget", str(keeper)]) == 0

        assert _keepers(pair) == _open_fences(pair) == []
        # What is cached from now on is not trusted either.
        assert [people.feed(bob) for _ in range(2)] == [[], []]
        people.remove(alice, bob)
        people.post(alice)
        assert people.feed(bob) == []


def test_a_keeper_that_is_forgotten_while_it_is_away_trusts_nothing_that_is_in_redis(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_redis() as server:
        redis = {"REDIS_URL": f"redis://127.0.0.1:{server.port}"}
        with running_fenced_pair(databases, redis) as (pair, _):
            people = People(pair)
            [(keeper,)] = _keepers(pair)
            bob, alice = people.connected(2)
            until(lambda: not _open_fences(pair))
            assert [people.feed(bob) for _ in range(2)] == [[], []]
            pair.feed_server.stop()
            monkeypatch.setenv("GRAPH_DATABASE_URL", pair.graph_url)

            assert fence_registrations.main(["forget", str(keeper)]) == 0

            people.remove(alice, bob)
            port = str(keeper).rpartition(":")[2]
            with another_feed(pair, {**redis, "FENCES_PORT": port}) as (_, stub):
                later = People(replace(pair, feed=stub))
                later.post(alice)
                assert [later.feed(bob) for _ in range(2)] == [[], []]


def _change_and_read(people: People) -> None:
    """Have two people connect and part, and one of them read after each step, also from a cache."""
    bob, alice = people.new(2)
    assert [people.feed(bob) for _ in range(2)] == [[], []]
    people.connect(alice, bob)
    post = people.post(alice)
    assert [people.feed(bob) for _ in range(2)] == [[post], [post]]
    people.remove(alice, bob)
    people.post(alice)
    assert [people.feed(bob) for _ in range(2)] == [[], []]


def _asks_the_graph(pair: Pair) -> bool:
    """Whether a read of connections that are cached asks the graph."""
    people, asked = People(pair), list[str]()
    bob, _ = people.connected(2)
    people.feed(bob)
    until(lambda: not _open_fences(pair))
    people.feed(bob)
    pair.gate.before_call = asked.append
    people.feed(bob)
    pair.gate.before_call = lambda _method: None
    return "GetConnectedUserIds" in asked


@contextmanager
def _another_graph(pair: Pair, *, keepers: str) -> Iterator[People]:
    """Start graph_service once more; yields people who change their connections by it."""
    settings = GraphSettings.read(
        {
            **ENVIRONMENT,
            "GRAPH_DATABASE_URL": serving("graph", pair.graph_url),
            "FENCE_KEEPERS": keepers,
        }
    )
    server = RunningServer(settings.server, build_graph(settings, settings.database.url))
    try:
        with grpc.insecure_channel(server.address, client_options("graph")) as channel:
            yield People(replace(pair, graph=GraphServiceStub(channel)))
    finally:
        server.stop()


def _keepers(pair: Pair) -> list[tuple[object, ...]]:
    return _rows(pair.graph_url, "SELECT target FROM fence_keepers")


def _open_fences(pair: Pair) -> list[tuple[object, ...]]:
    return _rows(pair.feed_url, "SELECT change_id FROM open_fences")


def _rows(url: str, statement: str) -> list[tuple[object, ...]]:
    with Session(url) as session:
        return session.rows(statement)
