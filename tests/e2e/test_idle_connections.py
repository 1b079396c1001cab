"""A service that was started with the usual limit of descriptors, and very many connections."""

import resource
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from kith.graph.v1 import graph_pb2
from kith.graph.v1.graph_pb2_grpc import GraphServiceStub
from shared.processes.descriptors import raise_limit
from tests.support.descriptors import soft_limit
from tests.support.pair import Databases
from tests.support.processes import ServiceProcess

_USUAL_LIMIT = 1_024
_CONNECTIONS = 1_200
_CEILING_SECONDS = 30
_HARD_LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted in /proc"),
    pytest.mark.skipif(
        resource.RLIM_INFINITY != _HARD_LIMIT < 2 * _CONNECTIONS,
        reason="the hard limit of this system permits fewer connections",
    ),
]


def test_calls_are_answered_beside_more_idle_connections_than_the_soft_limit(
    databases: Databases, tmp_path: Path
) -> None:
    environment = {"GRAPH_DATABASE_URL": databases.new("graph")}
    with ExitStack() as stack:
        with soft_limit(_USUAL_LIMIT):
            # By exec, a process has the limits of the one that starts it.
            process = ServiceProcess("graph_service", environment, tmp_path / "log", by_exec=True)
        stack.enter_context(process)
        stack.enter_context(soft_limit(_USUAL_LIMIT))
        raise_limit()
        host, _, port = process.address.rpartition(":")
        for _ in range(_CONNECTIONS):
            stack.enter_context(socket.create_connection((host, int(port)), _CEILING_SECONDS))

        request = graph_pb2.CountConnectionsRequest(user_ids=[1])
        graph = GraphServiceStub(process.channel)
        answers = [graph.CountConnections(request, timeout=_CEILING_SECONDS) for _ in range(20)]

        [pid] = process.workers()
        assert len([*Path(f"/proc/{pid}/fd").iterdir()]) > _CONNECTIONS
    assert len(answers) == 20
