"""Suggestions to a user whose connections have more connections than a call may look at."""

import json
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Connection, event, text

from graph_service.queries import suggestions
from kith.graph.v1 import graph_pb2 as pb
from tests.support.graph_oracle import GraphOracle
from tests.support.pair import Databases, Pair, running_pair

_HUB, _FRIENDS, _CANDIDATES = 1, 300, 2_000
# Of the contract of SuggestConnections.
_MOST_ROWS = 50_000
_LOAD = [
    f"""INSERT INTO connections (user_a_id, user_b_id, status, requested_by)
        SELECT {_HUB}, {_HUB} + friend, 'accepted', {_HUB}
        FROM generate_series(1, {_FRIENDS}) AS friend""",
    # Friends have some 250 to 350 connections each, 90,000 together.
    f"""INSERT INTO connections (user_a_id, user_b_id, status, requested_by)
        SELECT DISTINCT {_HUB} + friend, 1000 + (friend * 7 + n * 3) % {_CANDIDATES},
               'accepted', {_HUB} + friend
        FROM generate_series(1, {_FRIENDS}) AS friend,
             generate_series(1, 250 + friend * 37 % 101) AS n""",
    """INSERT INTO users (user_id, connection_count)
        SELECT id, count(*)
        FROM (SELECT user_a_id AS id FROM connections
              UNION ALL SELECT user_b_id FROM connections) AS ends GROUP BY id""",
    "ANALYZE",
]


@pytest.fixture(scope="module")
def pair(databases: Databases) -> Iterator[Pair]:
    """Services whose graph has a hub."""
    with running_pair(databases) as running:
        with _connected(running) as connection:
            for statement in _LOAD:
                connection.execute(text(statement))
        yield running


def _connected(pair: Pair) -> Connection:
    engine = sqlalchemy.create_engine(
        pair.graph_url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
    )
    return engine.connect()


def _oracle(pair: Pair) -> GraphOracle:
    with _connected(pair) as connection:
        return GraphOracle(
            (first, second)
            for first, second in connection.execute(
                text("SELECT user_a_id, user_b_id FROM connections WHERE status = 'accepted'")
            )
        )


def _suggested(pair: Pair) -> list[tuple[int, int]]:
    answer = pair.graph.SuggestConnections(
        pb.SuggestConnectionsRequest(user_id=_HUB, max_suggestions=100)
    )
    return [(one.suggested_user_id, one.mutual_count) for one in answer.suggestions]


def _order(connection: Connection, user_id: int) -> list[int]:
    """Return the connections of the hub in the order in which they are examined for a user."""
    ordered = text(
        "SELECT user_b_id FROM connections WHERE user_a_id = :hub AND status = 'accepted'"
        " ORDER BY hashint8extended(user_b_id, :user_id), user_b_id"
    )
    return list(connection.execute(ordered, {"hub": _HUB, "user_id": user_id}).scalars())


def _examined(pair: Pair, oracle: GraphOracle) -> list[int]:
    """Return the hub's first connections, as many as may be examined together."""
    with _connected(pair) as connection:
        order = _order(connection, _HUB)
    totals = accumulate(len(oracle.neighbours[friend]) for friend in order)
    return [friend for friend, so_far in zip(order, totals, strict=True) if so_far <= _MOST_ROWS]


def _rows_read(plan: dict[str, Any]) -> int:
    """Return how many rows of tables a plan has read."""
    mine = plan["Actual Rows"] * plan["Actual Loops"] if "Relation Name" in plan else 0
    return int(mine) + sum(map(_rows_read, plan.get("Plans", [])))


def test_suggestions_read_no_more_rows_than_they_may(pair: Pair) -> None:
    plans = []

    def explain(
        _connection: object, cursor: Any, statement: str, values: object, *_: object
    ) -> None:
        cursor.execute("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) " + statement, values)
        [[answer]] = cursor.fetchall()
        plans.append(
            answer[0]["Plan"] if isinstance(answer, list) else json.loads(answer)[0]["Plan"]
        )

    with _connected(pair) as connection:
        event.listen(connection, "before_cursor_execute", explain)
        suggested = suggestions.suggestions(connection, user_id=_HUB, limit=100)

    assert len(suggested) == 100
    [plan] = plans
    # Beside them the friends themselves, how many connections they have, requests and blocks.
    assert _rows_read(plan) <= 1.1 * _MOST_ROWS


def test_suggestions_are_made_from_the_sample_that_the_contract_names(pair: Pair) -> None:
    oracle = _oracle(pair)
    examined = _examined(pair, oracle)
    assert 1 < len(examined) < _FRIENDS

    assert _suggested(pair) == oracle.suggestions(_HUB, 100, examined=examined)


def test_the_sample_is_the_same_at_every_call(pair: Pair) -> None:
    assert _suggested(pair) == _suggested(pair)


def test_users_with_the_same_connections_have_samples_of_their_own(pair: Pair) -> None:
    with _connected(pair) as connection:
        samples = {user: _order(connection, user)[:10] for user in (_HUB, 2 * _HUB)}

    assert samples[_HUB] != samples[2 * _HUB]


def test_counts_of_a_sample_are_never_too_high(pair: Pair) -> None:
    real = dict(_oracle(pair).suggestions(_HUB, _CANDIDATES))

    suggested = _suggested(pair)

    assert suggested
    assert all(0 < count <= real[user] for user, count in suggested)


def test_a_connection_is_left_out_when_one_row_of_it_is_too_many(pair: Pair) -> None:
    oracle = _oracle(pair)
    total = sum(len(oracle.neighbours[friend]) for friend in oracle.neighbours[_HUB])

    with _connected(pair) as connection:
        *all_but_the_last, _ = _order(connection, _HUB)
        exact, sampled = (
            suggestions.suggestions(
                connection, user_id=_HUB, limit=_CANDIDATES, most_rows=most_rows
            )
            for most_rows in (total, total - 1)
        )

    assert exact == oracle.suggestions(_HUB, _CANDIDATES)
    assert sampled == oracle.suggestions(_HUB, _CANDIDATES, examined=all_but_the_last)


def test_a_connection_with_more_connections_than_are_examined_is_read_in_part(pair: Pair) -> None:
    with _connected(pair) as connection:
        first = _order(connection, _HUB)[0]
        suggested = suggestions.suggestions(connection, user_id=_HUB, limit=100, most_rows=50)

    # One of the fifty may be the user.
    assert 49 <= len(suggested) <= 50
    assert {user for user, _ in suggested} <= _oracle(pair).neighbours[first]


def test_nobody_is_suggested_who_may_not_be_and_the_list_is_as_long(pair: Pair) -> None:
    (asked, _), (blocked, _), (blocker, _), (suspended, _), *_ = before = _suggested(pair)

    pair.graph.RequestConnection(pb.RequestConnectionRequest(user_id=_HUB, peer_id=asked))
    pair.graph.BlockUser(pb.BlockUserRequest(user_id=_HUB, peer_id=blocked))
    pair.graph.BlockUser(pb.BlockUserRequest(user_id=blocker, peer_id=_HUB))
    pair.graph.SuspendUser(pb.SuspendUserRequest(user_id=suspended, reason="spam"))

    after = _suggested(pair)
    assert len(after) == len(before)
    assert after[:96] == before[4:]


def test_an_erased_user_is_suggested_to_nobody(pair: Pair) -> None:
    (erased, _), *_ = _suggested(pair)

    pair.graph.DeleteUser(pb.DeleteUserRequest(user_id=erased))

    assert erased not in {user for user, _ in _suggested(pair)}
