"""Clients that connect and say nothing take no descriptors from the others."""

import resource
import socket
from contextlib import closing

import pytest
from prometheus_client import CollectorRegistry

from shared.processes.descriptors import most_connections, raise_limit
from shared.processes.metrics_port import MetricsPort
from tests.support.descriptors import soft_limit

_CEILING_SECONDS = 30


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
