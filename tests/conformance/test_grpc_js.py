"""A client in JavaScript, on a gRPC that shares no code with the services', is served as they are.

Needs node and npm, which installs @grpc/grpc-js below build/.
"""

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from shared.cli.envoy import descriptor_set
from tests.support.pair import Pair
from tests.support.people import People

_SOURCE = Path(__file__).parent / "grpc_js"
_INSTALLED = Path(__file__).parents[2] / "build" / "grpc_js"
_SECONDS = 100
_GRAPH, _FEED = "kith.graph.v1.GraphService", "kith.feed.v1.FeedService"
_REFLECTION = "grpc.reflection.v1alpha.ServerReflection"

Call: TypeAlias = Callable[..., Any]


@pytest.fixture(scope="module")
def client() -> Path:
    """The folder of the client, with the packages it needs and the contracts."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed")
    _INSTALLED.mkdir(parents=True, exist_ok=True)
    for file in _SOURCE.iterdir():
        shutil.copy(file, _INSTALLED)
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent"],
        cwd=_INSTALLED,
        check=True,
        timeout=_SECONDS,
    )
    modules = (graph_pb2, feed_pb2, health_pb2, reflection_pb2)
    contracts = descriptor_set(*(module.DESCRIPTOR for module in modules))
    (_INSTALLED / "contracts").write_bytes(contracts.SerializeToString())
    return _INSTALLED


@pytest.fixture
def call(client: Path, pair: Pair) -> Call:
    """A call by the client: service, method, request, milliseconds."""

    def make(service: str, method: str, request: object, milliseconds: int = 20_000) -> Any:
        server = pair.graph_server if service == _GRAPH else pair.feed_server
        calls = json.dumps([[service, method, request, milliseconds]])
        done = subprocess.run(
            ["node", "client.js", server.address, "contracts", calls],
            cwd=client,
            check=True,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
        [answer] = json.loads(done.stdout)
        return answer

    return make


def test_it_lists_the_services(call: Call) -> None:
    told = call(_REFLECTION, "ServerReflectionInfo", {"list_services": ""})

    names = {service["name"] for service in told["answer"]["list_services_response"]["service"]}
    assert names == {
        _FEED,
        _REFLECTION,
        "grpc.reflection.v1.ServerReflection",
        "grpc.health.v1.Health",
    }


@pytest.mark.parametrize("symbol", [_FEED, f"{_FEED}.GetFeed", "kith.feed.v1.Post"])
def test_it_describes_a_service_a_method_and_a_message(call: Call, symbol: str) -> None:
    told = call(_REFLECTION, "ServerReflectionInfo", {"file_containing_symbol": symbol})

    assert told["answer"]["file_descriptor_response"]["file_descriptor_proto"]


def test_it_gets_numbers_past_those_of_javascript(call: Call) -> None:
    told = call(_GRAPH, "CountConnections", {"user_ids": [str(2**53 + 1)]})

    assert [count["user_id"] for count in told["answer"]["counts"]] == ["9007199254740993"]


def test_it_gets_the_details_of_an_error(call: Call, people: People) -> None:
    [user] = people.new(1)

    told = call(_FEED, "GetPost", {"user_id": user, "author_id": user, "post_id": 1 << 40})

    status = status_pb2.Status.FromString(base64.b64decode(told["details"]))
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    assert (told["code"], info.reason) == (5, "POST_NOT_FOUND")


def test_it_follows_a_stream(call: Call) -> None:
    assert call(_GRAPH, "WatchConnections", {})["answer"]["cursor"]


def test_its_deadline_holds(call: Call) -> None:
    assert call(_GRAPH, "WatchConnections", {"cursor": ""}, 0)["code"] == 4


def test_it_is_told_of_health(call: Call) -> None:
    told = call("grpc.health.v1.Health", "Check", {"service": "live"})

    assert told["answer"]["status"] == "SERVING"
