"""A service that stops answers the calls that have arrived before."""

import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from graph_service.access import ACCESS
from graph_service.settings import GraphSettings
from shared.server import server as servers
from shared.server.server import RunningServer
from shared.server.service import Service
from tests.support.pair import ENVIRONMENT

_PATH = "/grpc.reflection.slow/"
_CALLS = 15
_TAKING_SECONDS = 0.1


class _SlowlyTaken(grpc.GenericRpcHandler):
    """Has the server take one call after the other, as it does when they have much metadata."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        if not details.method.startswith(_PATH):
            return None
        self.begun.set()
        time.sleep(_TAKING_SECONDS)
        return grpc.unary_unary_rpc_method_handler(lambda request, _context: request)


def test_calls_that_wait_until_the_server_takes_them_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(servers, "_LAST_CLIENTS_SECONDS", 0.1)
    read = GraphSettings.read({**ENVIRONMENT, "GRAPH_DATABASE_URL": "postgresql://nowhere/none"})
    settings = replace(read.server, max_connection_age=timedelta(seconds=0.3))
    slow = _SlowlyTaken()
    service = Service(
        name="kith.graph.v1.GraphService",
        add_to=lambda server: server.add_generic_rpc_handlers((slow,)),
        access=ACCESS,
        registry=CollectorRegistry(),
        checks={},
    )
    server = RunningServer(settings, service)

    with grpc.insecure_channel(server.address) as channel:
        stubs = [
            channel.unary_unary(
                f"{_PATH}{number}", request_serializer=bytes, response_deserializer=bytes
            )
            for number in range(_CALLS)
        ]
        calls = [stub.future(b"", timeout=60) for stub in stubs]
        assert slow.begun.wait(60)
        server.stop()
        assert [call.code() for call in calls] == [grpc.StatusCode.OK] * _CALLS
