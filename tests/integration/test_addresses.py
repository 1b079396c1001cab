"""A service listens on the address that it is given, be it IPv4 or IPv6, with all of its ports."""

import socket
import urllib.request
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from shared.processes.ports import reserved
from tests.support.pair import Databases, Pair, another_feed
from tests.support.processes import ServiceProcess

_SECONDS = 60
_EVERYWHERE = {"ALLOW_UNAUTHENTICATED": "on"}


def _is_live(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service="live")
        answer = HealthStub(channel).Check(request, timeout=_SECONDS)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _has_metrics(host: str, port: int) -> bool:
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=_SECONDS) as response:
        return b"# HELP " in response.read()


@pytest.mark.parametrize(
    ("host", "reached_at"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("::1", ["[::1]"]),
        ("[::1]", ["[::1]"]),
        ("::", ["[::1]", "127.0.0.1"]),
        ("[::]", ["[::1]", "127.0.0.1"]),
    ],
)
def test_calls_and_metrics_are_served_on_the_host_that_is_set(
    pair: Pair, host: str, reached_at: list[str]
) -> None:
    with another_feed(pair, {**_EVERYWHERE, "FEED_HOST": host}) as (server, _):
        assert _is_live(server.address)
        assert all(_is_live(f"{each}:{server.port}") for each in reached_at)
        assert all(_has_metrics(each, server.metrics_port) for each in reached_at)


def test_several_workers_serve_on_an_ipv6_address(databases: Databases, tmp_path: Path) -> None:
    variables = {
        "GRAPH_DATABASE_URL": databases.new("graph"),
        "GRAPH_HOST": "::1",
        "GRAPH_WORKERS": "2",
    }
    with ServiceProcess("graph_service", variables, tmp_path / "log") as process:
        assert process.address.startswith("[::1]:")
        assert process.is_serving("live")
        assert _has_metrics("[::1]", process.metrics_port)


def test_a_port_is_free_again_once_its_server_has_closed_the_last_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host, port = listening.getsockname()
        with socket.create_connection((host, port)) as client:
            accepted, _ = listening.accept()
            accepted.close()
            assert client.recv(1) == b""

    with reserved(host, port) as bound:
        assert bound.getsockname() == (host, port)
