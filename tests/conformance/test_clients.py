"""Clients in other languages, on other implementations of gRPC, are served as they are.

Needs node and npm, which installs packages below build/, and Go, Java and Ruby with their gRPC:
`make clients` installs them from Debian. A client that is not installed is skipped.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeAlias

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from shared.cli.envoy import descriptor_set
from tests.support.npm import installed
from tests.support.pair import Pair
from tests.support.people import People
from tests.support.processes import Session

_ROOT: Final = Path(__file__).parents[2]
_SOURCES: Final = Path(__file__).parent
_BUILD: Final = _ROOT / "build"
_GO_PACKAGES: Final = Path("/usr/share/gocode")
_JARS: Final = Path("/usr/share/java")
_SECONDS: Final = 300
_GRAPH, _FEED = "kith.graph.v1.GraphService", "kith.feed.v1.FeedService"
_REFLECTION: Final = "grpc.reflection.v1alpha.ServerReflection"
_NEED_CLIENTS: Final = "needs `make clients`"

Call: TypeAlias = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Client:
    """How a client is started, after what its packages need has been done."""

    command: Sequence[str]
    folder: Path
    variables: Mapping[str, str]


def _new(command: Sequence[str], folder: Path, **variables: str) -> Client:
    return Client(command=command, folder=folder, variables={**os.environ, **variables})


def _require(reason: str, *names: str, files: Iterable[Path] = ()) -> None:
    missing = [name for name in names if shutil.which(name) is None]
    missing += [str(file) for file in files if not file.exists()]
    if missing:
        pytest.skip(f"{', '.join(missing)} is missing: {reason}")


def _in_node(name: str) -> Client:
    return _new(["node", "client.js"], installed(_SOURCES / name))


def _in_go() -> Client:
    _require(_NEED_CLIENTS, "go", files=[_GO_PACKAGES / "src/google.golang.org/grpc"])
    built = _BUILD / "grpc_go" / "client"
    building = _new(
        [],
        _SOURCES / "grpc_go",
        GO111MODULE="off",
        GOPATH=str(_GO_PACKAGES),
        GOCACHE=str(_BUILD / "grpc_go" / "cache"),
    )
    _run(["go", "build", "-o", str(built), "client.go"], building)
    return _new([str(built)], _BUILD)


def _in_java() -> Client:
    jars = [_JARS / f"{name}.jar" for name in ("grpc-netty", "netty-all", "protobuf-util", "gson")]
    _require(_NEED_CLIENTS, "java", "javac", files=jars)
    built = _BUILD / "grpc_java"
    path = f"{_JARS}/*"
    _run(
        ["javac", "-nowarn", "-cp", path, "-d", str(built), "Client.java"],
        _new([], _SOURCES / "grpc_java"),
    )
    return _new(["java", "-cp", f"{built}:{path}", "Client"], _BUILD)


def _in_ruby() -> Client:
    _require(_NEED_CLIENTS, "ruby", files=[Path("/usr/share/doc/ruby-grpc")])
    return _new(["ruby", "client.rb"], _SOURCES / "grpc_ruby")


def _in_grpclib() -> Client:
    assert find_spec("grpclib"), "it is in the dependency group `test`"
    return _new([sys.executable, "-m", "tests.conformance.grpclib_client"], _ROOT)


_CLIENTS: Final[Mapping[str, Callable[[], Client]]] = {
    "grpc-js": lambda: _in_node("grpc_js"),
    "connect-node": lambda: _in_node("connect_node"),
    "grpc-go": _in_go,
    "grpc-java": _in_java,
    "grpc-ruby": _in_ruby,
    "grpclib": _in_grpclib,
}


def _run(command: Sequence[str], client: Client) -> str:
    done = subprocess.run(
        [*client.command, *command],
        cwd=client.folder,
        env=dict(client.variables),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def contracts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the descriptors of everything that is called."""
    modules = (graph_pb2, feed_pb2, health_pb2, reflection_pb2)
    path = tmp_path_factory.mktemp("contracts") / "contracts"
    descriptors = descriptor_set(*(module.DESCRIPTOR for module in modules))
    path.write_bytes(descriptors.SerializeToString())
    return path


@pytest.fixture(scope="module", params=[*_CLIENTS])
def client(request: pytest.FixtureRequest) -> Client:
    """Each client that is installed."""
    return _CLIENTS[request.param]()


@pytest.fixture
def call(client: Client, contracts: Path, pair: Pair) -> Call:
    """A call by the client: service, method, request, milliseconds."""

    def make(service: str, method: str, request: object, milliseconds: int = 20_000) -> Any:
        server = pair.graph_server if service == _GRAPH else pair.feed_server
        calls = json.dumps([[service, method, request, milliseconds]])
        [answer] = json.loads(_run([server.address, str(contracts), calls], client))
        return answer

    return make


def test_it_lists_the_services(call: Call) -> None:
    told = call(_REFLECTION, "ServerReflectionInfo", {"list_services": ""})

    names = {service["name"] for service in told["answer"]["list_services_response"]["service"]}
    assert names >= {_FEED, _REFLECTION, "grpc.health.v1.Health"}


@pytest.mark.parametrize("symbol", [_FEED, f"{_FEED}.GetFeed", "kith.feed.v1.Post"])
def test_it_describes_a_service_a_method_and_a_message(call: Call, symbol: str) -> None:
    told = call(_REFLECTION, "ServerReflectionInfo", {"file_containing_symbol": symbol})

    assert told["answer"]["file_descriptor_response"]["file_descriptor_proto"]


def test_it_gets_numbers_past_those_of_javascript(call: Call) -> None:
    told = call(_GRAPH, "CountConnections", {"user_ids": [str(2**53 + 1)]})

    assert [count["user_id"] for count in told["answer"]["counts"]] == ["9007199254740993"]


def test_it_publishes_a_text_in_any_script_and_reads_it(call: Call, people: People) -> None:
    author, reader = people.connected(2)
    text = "Καλημέρα \N{SLIGHTLY SMILING FACE}"
    post = {
        "user_id": str(author),
        "body": text,
        "audience": {"kind": "AUDIENCE_KIND_ALL"},
    }

    call(_FEED, "CreatePost", post)
    told = call(_FEED, "GetFeed", {"user_id": str(reader)})

    assert [post["body"] for post in told["answer"]["posts"]] == [text]


def test_it_gets_the_details_of_an_error(call: Call, people: People) -> None:
    [user] = people.new(1)

    told = call(
        _FEED, "GetPost", {"user_id": str(user), "author_id": str(user), "post_id": str(1 << 40)}
    )

    padded = told["details"] + "=" * (-len(told["details"]) % 4)
    status = status_pb2.Status.FromString(base64.b64decode(padded))
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    assert (told["code"], info.reason) == (5, "POST_NOT_FOUND")


def test_it_follows_a_stream(call: Call) -> None:
    assert call(_GRAPH, "WatchConnections", {})["answer"]["cursor"]


def test_its_deadline_holds(call: Call, pair: Pair, people: People) -> None:
    [user] = people.new(1)
    with Session(pair.feed_url) as session:
        session.rows("LOCK TABLE posts IN ACCESS EXCLUSIVE MODE")
        told = call(_FEED, "GetFeed", {"user_id": str(user)}, 300)

    assert told["code"] == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]


def test_it_is_told_of_health(call: Call) -> None:
    told = call("grpc.health.v1.Health", "Check", {"service": "live"})

    assert told["answer"]["status"] == "SERVING"
