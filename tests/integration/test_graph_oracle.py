"""Every user's answers on a whole graph equal those of the oracle.

The graph is generated. With KITH_EDGE_LIST set to a CSV of two id columns it is that one instead;
its ids are shifted by one, because there a person may have the id 0.
"""

import csv
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import networkx as nx
import pytest

from kith.graph.v1 import graph_pb2 as pb
from tests.support.examples import examples
from tests.support.graph_oracle import GraphOracle
from tests.support.pair import Databases, Pair, running_pair

_CHUNK = 5_000
_BLOCKS = 50


@pytest.fixture(scope="module")
def oracle() -> GraphOracle:
    """What is known of the graph without Kith."""
    path = os.environ.get("KITH_EDGE_LIST")
    if path:
        with Path(path).open(newline="") as file:
            rows = list(csv.reader(file))
        return GraphOracle(
            (int(first) + 1, int(second) + 1) for first, second, *_ in rows if first.isdigit()
        )
    generated = nx.powerlaw_cluster_graph(n=examples(400), m=4, p=0.4, seed=7)
    return GraphOracle((first + 1, second + 1) for first, second in generated.edges)


@pytest.fixture(scope="module")
def graph(databases: Databases, oracle: GraphOracle) -> Iterator[Pair]:
    """A pair that holds the graph, by ImportConnections."""
    edges = [
        pb.ConnectionPair(first_user_id=user, second_user_id=peer)
        for user in oracle.users
        for peer in oracle.neighbours[user]
        if user < peer
    ]
    chunks = [edges[start : start + _CHUNK] for start in range(0, len(edges), _CHUNK)]
    with running_pair(databases) as running:
        result = running.graph.ImportConnections(
            pb.ImportConnectionsRequest(connections=chunk) for chunk in chunks
        )
        assert result.imported_count == len(edges)
        for user, peer in _to_block(oracle):
            running.graph.BlockUser(pb.BlockUserRequest(user_id=user, peer_id=peer))
            oracle.blocks.add(frozenset((user, peer)))
        yield running


def _to_block(oracle: GraphOracle) -> list[tuple[int, int]]:
    """Choose who blocks whom among those who would be suggested to each other first."""
    blockers = oracle.users[:: max(1, len(oracle.users) // _BLOCKS)]
    suggested = [(user, oracle.suggestions(user, 1)) for user in blockers]
    return [(user, peer) for user, found in suggested for peer, _ in found]


def test_everybodys_connected_ids_are_right(graph: Pair, oracle: GraphOracle) -> None:
    for batch in _batches(oracle.users, 100):
        queries = [pb.GetConnectedUserIdsRequest.UserQuery(user_id=user) for user in batch]
        answers = graph.graph.GetConnectedUserIds(
            pb.GetConnectedUserIdsRequest(users=queries, include_blocked=True)
        )

        assert {answer.user_id: set(answer.connected_user_ids) for answer in answers.users} == {
            user: oracle.neighbours[user] for user in batch
        }
        assert {answer.user_id: set(answer.blocked_user_ids) for answer in answers.users} == {
            user: oracle.blocked(user) for user in batch
        }


def test_everybodys_count_is_right(graph: Pair, oracle: GraphOracle) -> None:
    for batch in _batches(oracle.users, 1_000):
        answers = graph.graph.CountConnections(pb.CountConnectionsRequest(user_ids=batch))

        assert {answer.user_id: answer.connection_count for answer in answers.counts} == {
            user: len(oracle.neighbours[user]) for user in batch
        }


def test_everybodys_suggestions_are_right(graph: Pair, oracle: GraphOracle) -> None:
    for user in oracle.users:
        answers = graph.graph.SuggestConnections(
            pb.SuggestConnectionsRequest(user_id=user, max_suggestions=100)
        )

        assert [
            (answer.suggested_user_id, answer.mutual_count) for answer in answers.suggestions
        ] == oracle.suggestions(user, 100)


def test_everybodys_mutual_connections_are_right(graph: Pair, oracle: GraphOracle) -> None:
    for user, stranger in pairwise(oracle.users):
        for peer in {stranger, min(oracle.neighbours[user]), *oracle.blocked(user)} - {user}:
            answer = graph.graph.ListMutualConnections(
                pb.ListMutualConnectionsRequest(user_id=user, peer_id=peer, page_size=500)
            )

            assert list(answer.mutual_user_ids) == oracle.mutual(user, peer)


def test_an_export_is_the_graph(graph: Pair, oracle: GraphOracle) -> None:
    exported = [
        (pair.first_user_id, pair.second_user_id)
        for chunk in graph.graph.ExportConnections(pb.ExportConnectionsRequest())
        for pair in chunk.connections
    ]

    assert exported == sorted(
        (user, peer) for user in oracle.users for peer in oracle.neighbours[user] if user < peer
    )


def _batches(users: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(users), size):
        yield users[start : start + size]
