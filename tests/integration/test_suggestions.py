"""Suggestions to a user whose connections have more connections than a call may look at."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Connection, event, text

from graph_service.queries import suggestions
from graph_service.queries.suggestions import SUGGESTION_ROWS
from kith.graph.v1 import graph_pb2 as pb
from tests.support.graph_oracle import GraphOracle
from tests.support.pair import Databases, Pair, running_pair

_HUB, _FRIENDS, _CANDIDATES = 1, 300, 2_000
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
    assert _rows_read(plan) <= 1.1 * SUGGESTION_ROWS


def test_suggestions_are_made_from_those_friends_who_have_the_fewest_connections(
    pair: Pair,
) -> None:
    oracle = _oracle(pair)
    assert sum(len(oracle.neighbours[friend]) for friend in oracle.neighbours[_HUB]) > (
        SUGGESTION_ROWS
    )

    assert _suggested(pair) == oracle.suggestions(_HUB, 100)
    assert _suggested(pair) == _suggested(pair)


def test_nobody_is_suggested_who_is_asked_or_blocked_and_the_list_is_as_long(pair: Pair) -> None:
    (asked, _), (blocked, _), *_ = before = _suggested(pair)

    pair.graph.RequestConnection(pb.RequestConnectionRequest(user_id=_HUB, peer_id=asked))
    pair.graph.BlockUser(pb.BlockUserRequest(user_id=_HUB, peer_id=blocked))

    after = _suggested(pair)
    assert len(after) == len(before)
    assert after[:98] == before[2:]
