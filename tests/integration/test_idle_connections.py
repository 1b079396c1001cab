"""Clients that connect and say nothing take no descriptors from the others, nor does a feed."""

import resource
import socket
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from feed_service import graph_client
from kith.feed.v1 import feed_pb2
from shared.processes.descriptors import most_connections, raise_limit
from shared.processes.metrics_port import MetricsPort
from tests.support.descriptors import soft_limit
from tests.support.pair import Databases, running_pair
from tests.support.processes import until

_CEILING_SECONDS = 30
# As the kernel writes the state of a connection.
_ESTABLISHED = "01"


@pytest.mark.parametrize("sent", [b"", b"GET /metrics", b"GET /metrics HTTP/1.1\r\nHost: x\r\n"])
def test_the_metrics_port_hangs_up_on_who_does_not_finish_a_request(sent: bytes) -> None:
    metrics = MetricsPort("127.0.0.1", 0, CollectorRegistry(), connection_seconds=0.1)

    with (
        closing(metrics),
        socket.create_connection(("127.0.0.1", metrics.port), _CEILING_SECONDS) as client,
    ):
        client.sendall(sent)
        answer = client.recv(1)

    assert answer == b""


def test_the_metrics_port_answers_who_does() -> None:
    metrics = MetricsPort("127.0.0.1", 0, CollectorRegistry())

    with (
        closing(metrics),
        socket.create_connection(("127.0.0.1", metrics.port), _CEILING_SECONDS) as client,
    ):
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = client.recv(64)

    assert b" 200 " in answer


def test_the_soft_limit_of_descriptors_is_raised_to_the_hard_one() -> None:
    with soft_limit(512):
        raise_limit()

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    assert soft == hard


@pytest.mark.parametrize("limit", [512, 1_024])
def test_connections_leave_descriptors_for_what_a_server_does(limit: int) -> None:
    with soft_limit(limit):
        assert most_connections() == limit - 256


def test_a_channel_to_the_graph_that_nothing_is_called_on_has_no_connection(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_client, "_IDLE", ("grpc.client_idle_timeout_ms", 1_000))
    with running_pair(databases) as pair:

        def read_feed(viewer_id: int) -> None:
            pair.feed.GetFeed(feed_pb2.GetFeedRequest(user_id=viewer_id))

        # They take turns on both channels, of which one has the stream of changes.
        for viewer_id in (1, 2):
            read_feed(viewer_id)

        until(lambda: _connections_to(pair.gate.port) == 1)
        for viewer_id in (3, 4):
            read_feed(viewer_id)


def _connections_to(port: int) -> int:
    """Return how many connections of this machine lead to a port."""
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return sum(
        int(remote.rpartition(":")[2], 16) == port and state == _ESTABLISHED
        for _, _, remote, state, *_ in lines
    )
