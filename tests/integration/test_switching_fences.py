"""Fences are switched on and off while both services run, and every read is right meanwhile."""

from dataclasses import replace

import pytest

from graph_service import fence_registrations
from tests.support.pair import Databases, Pair, another_feed, another_graph, running_fenced_pair
from tests.support.people import People
from tests.support.processes import Session, until
from tests.support.redis_server import running_redis


def test_reads_are_right_while_processes_with_and_without_fences_change_connections(
    databases: Databases,
) -> None:
    with running_fenced_pair(databases) as (pair, _):
        first = People(pair)
        [(keeper,)] = _keepers(pair)
        _change_and_read(first)
        until(lambda: not _asks_the_graph(pair))

        with another_graph(pair, keepers="") as without:
            second = People(without)
            until(lambda: not _keepers(pair))
            for people in (first, second):
                _change_and_read(people)
            assert _asks_the_graph(pair)

            with another_graph(pair, keepers=str(keeper)) as fenced:
                until(lambda: _keepers(pair))
                for people in (first, second, People(fenced)):
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


def _keepers(pair: Pair) -> list[tuple[object, ...]]:
    return _rows(pair.graph_url, "SELECT target FROM fence_keepers")


def _open_fences(pair: Pair) -> list[tuple[object, ...]]:
    return _rows(pair.feed_url, "SELECT change_id FROM open_fences")


def _rows(url: str, statement: str) -> list[tuple[object, ...]]:
    with Session(url) as session:
        return session.rows(statement)
