"""Many changes at once end in a graph that is as right as if they had come one by one."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import sqlalchemy
from sqlalchemy import text

from kith.graph.v1 import graph_pb2 as pb
from tests.support.errors import reason_of
from tests.support.examples import examples
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import People

_LIMIT = 10
_THREADS = 50
_CHANGES = [
    *["RequestConnection"] * 3,
    *["AcceptConnection"] * 2,
    "DeclineConnection",
    "CancelConnectionRequest",
    "RemoveConnection",
    "BlockUser",
    "UnblockUser",
]
_DOCUMENTED = {
    "ok",
    "ALREADY_CONNECTED",
    "CONNECTION_LIMIT_REACHED",
    "CONNECTION_REQUEST_NOT_FOUND",
    "PEER_BLOCKED",
    "REQUEST_PAUSED",
}
# Each returns the rows that should not be there.
_INVARIANTS = {
    "a user's count is the number of their connections": """
        SELECT u.user_id FROM users AS u
        WHERE u.connection_count <> (
            SELECT count(*) FROM connections
            WHERE status = 'accepted' AND u.user_id IN (user_a_id, user_b_id))""",
    "a user's count of suspended connections is how many they are": """
        SELECT u.user_id FROM users AS u
        WHERE u.suspended_connection_count <> (
            SELECT count(*) FROM connections AS c JOIN suspensions AS s
              ON s.user_id IN (c.user_a_id, c.user_b_id) AND s.user_id <> u.user_id
            WHERE status = 'accepted' AND u.user_id IN (user_a_id, user_b_id))""",
    "everybody in a pair has a row": """
        SELECT c.id FROM connections AS c
        WHERE (SELECT count(*) FROM users WHERE user_id IN (c.user_a_id, c.user_b_id)) <> 2""",
    "nobody is connected with someone blocked": """
        SELECT c.id FROM connections AS c
        JOIN blocks AS b ON least(b.blocker_id, b.blocked_id) = c.user_a_id
                        AND greatest(b.blocker_id, b.blocked_id) = c.user_b_id
        WHERE c.status <> 'withheld'""",
    "a request is withheld while who was asked blocks who asked, and then alone": """
        SELECT c.id FROM connections AS c
        WHERE (status = 'withheld') <> EXISTS (
            SELECT FROM blocks WHERE blocker_id = addressee_id AND blocked_id = requested_by)""",
    "the totals are what there is": """
        SELECT name FROM totals GROUP BY name HAVING sum(value) <> CASE name
            WHEN 'users_total' THEN (SELECT count(*) FROM users)
            WHEN 'suspended_users_total' THEN (SELECT count(*) FROM suspensions)
            ELSE (SELECT count(*) FROM connections WHERE status = 'accepted') END""",
    "no connection ends without a trace": """
        SELECT e.seq FROM connection_events AS e LEFT JOIN endings AS n
            ON n.user_a_id = least(actor_id, peer_id) AND n.user_b_id = greatest(actor_id, peer_id)
        WHERE kind = 'removed' AND (n.user_a_id IS NULL OR e.actor_revision >
            CASE WHEN actor_id = n.user_a_id THEN user_a_revision ELSE user_b_revision END)""",
    "connecting and ending alternate in the events of a pair": """
        SELECT pair FROM (
            SELECT ARRAY[least(actor_id, peer_id), greatest(actor_id, peer_id)] AS pair,
                   sum(CASE kind WHEN 'connected' THEN 1 WHEN 'removed' THEN -1 END)
                       OVER (PARTITION BY least(actor_id, peer_id), greatest(actor_id, peer_id)
                             ORDER BY seq) AS open
            FROM connection_events WHERE kind IN ('connected', 'removed')
              AND NOT EXISTS (SELECT FROM connection_events WHERE kind = 'blocked')) AS story
        WHERE open NOT IN (0, 1)""",
}


@pytest.fixture(scope="module")
def graph(databases: Databases) -> Iterator[Pair]:
    """A pair of its own, where a user may have ten connections."""
    with running_pair(databases, {"MAX_CONNECTIONS": str(_LIMIT)}) as running:
        yield running


@pytest.fixture(autouse=True)
def invariants(graph: Pair) -> Iterator[None]:
    """Holds the database to what is always true, after each test."""
    yield
    engine = sqlalchemy.create_engine(graph.graph_url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        for sentence, query in _INVARIANTS.items():
            assert not connection.execute(text(query)).all(), sentence


def _outcome(graph: Pair, method: str, user_id: int, peer_id: int) -> str:
    request = getattr(pb, f"{method}Request")(user_id=user_id, peer_id=peer_id)
    try:
        getattr(graph.graph, method)(request)
    except grpc.RpcError as error:
        return reason_of(error)
    return "ok"


def _at_once(work: Callable[[int], set[str]]) -> set[str]:
    with ThreadPoolExecutor(_THREADS) as threads:
        return set().union(*threads.map(work, range(_THREADS)))


def _connection_count(graph: Pair, user_id: int) -> int:
    [count] = graph.graph.CountConnections(pb.CountConnectionsRequest(user_ids=[user_id])).counts
    return count.connection_count


@pytest.mark.parametrize("number", [2, 15])
def test_random_changes_by_fifty_callers_meet_only_documented_errors(
    graph: Pair, number: int
) -> None:
    ids = People(graph).new(number)

    def work(seed: int) -> set[str]:
        chance = random.Random(seed)
        return {
            _outcome(graph, chance.choice(_CHANGES), *chance.sample(ids, 2))
            for _ in range(examples(6))
        }

    assert _at_once(work) <= _DOCUMENTED


def test_simultaneous_requests_for_one_pair_are_one_request(graph: Pair) -> None:
    user, peer = People(graph).new(2)

    outcomes = _at_once(lambda _: {_outcome(graph, "RequestConnection", user, peer)})

    assert outcomes == {"ok"}
    answer = graph.graph.GetConnection(pb.GetConnectionRequest(user_id=user, peer_id=peer))
    assert answer.connection.state == pb.CONNECTION_STATE_REQUEST_SENT


def test_crossing_requests_connect(graph: Pair) -> None:
    pairs = [People(graph).new(2) for _ in range(_THREADS // 2)]

    def work(number: int) -> set[str]:
        user, peer = pairs[number // 2][:: 1 if number % 2 else -1]
        return {_outcome(graph, "RequestConnection", user, peer)}

    assert _at_once(work) == {"ok"}
    assert [_connection_count(graph, user) for user, _ in pairs] == [1] * len(pairs)


def test_a_hub_takes_as_many_connections_as_the_limit_and_no_more(graph: Pair) -> None:
    hub, *others = People(graph).new(_THREADS + 1)
    for other in others:
        _outcome(graph, "RequestConnection", other, hub)

    outcomes = _at_once(lambda number: {_outcome(graph, "AcceptConnection", hub, others[number])})

    assert outcomes == {"ok", "CONNECTION_LIMIT_REACHED"}
    assert _connection_count(graph, hub) == _LIMIT


def test_the_limit_holds_for_the_side_that_asked_as_well(graph: Pair) -> None:
    hub, *others = People(graph).new(_THREADS + 1)
    for other in others:
        _outcome(graph, "RequestConnection", hub, other)

    outcomes = _at_once(lambda number: {_outcome(graph, "AcceptConnection", others[number], hub)})

    assert outcomes == {"ok", "CONNECTION_LIMIT_REACHED"}
    assert _connection_count(graph, hub) == _LIMIT


def test_people_can_be_erased_while_others_connect_with_them(graph: Pair) -> None:
    ids = People(graph).new(12)

    def work(seed: int) -> set[str]:
        chance = random.Random(seed)
        if seed % 10 == 0:
            for _ in range(6):
                graph.graph.DeleteUser(pb.DeleteUserRequest(user_id=chance.choice(ids)))
            return {"ok"}
        return {_outcome(graph, chance.choice(_CHANGES), *chance.sample(ids, 2)) for _ in range(8)}

    assert _at_once(work) <= _DOCUMENTED


def test_people_can_be_suspended_and_restored_while_others_connect_with_them(graph: Pair) -> None:
    people = People(graph)
    ids = people.new(12)

    def work(seed: int) -> set[str]:
        chance = random.Random(seed)
        if seed % 5 == 0:
            for _ in range(4):
                chance.choice([people.suspend, people.restore])(chance.choice(ids))
            return {"ok"}
        return {_outcome(graph, chance.choice(_CHANGES), *chance.sample(ids, 2)) for _ in range(8)}

    assert _at_once(work) <= {*_DOCUMENTED, "CONNECTION_NOT_ALLOWED", "USER_SUSPENDED"}
