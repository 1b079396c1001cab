"""What callers install: a wheel with the client alone, in an environment that has nothing else."""

import os
import re
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.support.pair import Pair
from tests.support.people import People

_ROOT = Path(__file__).parents[2]
_CEILING_SECONDS = 240
_MOST_MODULES = 1.5
_CALLER = """
from kith.client import KithClient, items
from kith.exceptions import ResourceNotFoundError
from kith.feed.v1 import feed_pb2

with KithClient.from_environment() as kith:
    me = kith.session()
    request = feed_pb2.GetFeedRequest(user_id={user})
    print([post.body for post in items(me.feed.GetFeed, request, lambda page: page.posts)])
    try:
        me.feed.GetPost(feed_pb2.GetPostRequest(user_id={user}, author_id={user}, post_id=1 << 60))
    except ResourceNotFoundError as error:
        print(error.reason_name)
"""
# Every line with `wrong` is one that a type checker has to refuse.
_TYPED_CALLER = """
from kith.client import KithClient, imported, items, resumed
from kith.client import aio
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2

_FEED = feed_pb2.GetFeedRequest(user_id=17)
_EXPORT = graph_pb2.ExportConnectionsRequest()
_IMPORT = graph_pb2.ImportConnectionsRequest()


def bodies(kith: KithClient) -> list[str]:
    me = kith.session(reads="replicas")
    wrong: int = me.feed.GetFeed(_FEED, timeout=1)
    imported(me.graph.ImportConnections, _IMPORT).imported_count
    pairs = [chunk.connections for chunk in resumed(me.graph.ExportConnections, _EXPORT)]
    me.graph.ExportConnections(_FEED)  # wrong
    return [post.body for post in items(me.feed.GetFeed, _FEED, lambda page: page.posts)]


async def bodies_too(kith: aio.KithClient) -> list[str]:
    me = kith.session(reads="wrong")
    (await me.feed.GetFeed(_FEED, timeout=1)).wrong
    (await aio.imported(me.graph.ImportConnections, _IMPORT)).imported_count
    pairs = [chunk.wrong async for chunk in aio.resumed(me.graph.ExportConnections, _EXPORT)]
    posts = aio.items(me.feed.GetFeed, _FEED, lambda page: page.posts)
    return [post.body async for post in posts]
"""
_MODULES = "import sys, {}; print(len(sys.modules))"


@dataclass(frozen=True, kw_only=True)
class _Environment:
    """A virtual environment in which the wheel is installed."""

    folder: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    def run(
        self, *command: str, variables: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program of it in a folder of its own, with these variables alone."""
        program, *arguments = command
        return subprocess.run(
            [self.folder / "bin" / program, *arguments],
            cwd=self.folder,
            env={"LC_ALL": "C.UTF-8", **(variables or {})},
            capture_output=True,
            text=True,
            timeout=_CEILING_SECONDS,
            check=False,
        )


def _pip(*arguments: str) -> None:
    """Run pip; skips the tests when it finds no index to take packages from."""
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--retries=0"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_CEILING_SECONDS, check=False
    )
    if "No matching distribution" in done.stderr:
        pytest.skip(f"pip has no index here: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    _pip("wheel", "--no-deps", f"--wheel-dir={folder}", str(_ROOT))
    [built] = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def plain(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> _Environment:
    """An environment with the wheel and what it depends on."""
    environment = _Environment(folder=tmp_path_factory.mktemp("plain"))
    venv.create(environment.folder, symlinks=True)
    _pip(f"--python={environment.python}", "install", "--no-compile", str(wheel))
    return environment


@pytest.fixture(scope="module")
def with_extras(wheel: Path, plain: _Environment) -> _Environment:
    """The same environment with extras; tests of the plain one come first."""
    _pip(f"--python={plain.python}", "install", "--no-compile", f"{wheel}[cli,types]")
    return plain


@pytest.fixture
def targets(pair: Pair) -> dict[str, str]:
    """The variables that name the services."""
    return {
        "GRAPH_TARGET": pair.graph_server.address,
        "FEED_TARGET": pair.feed_server.address,
    }


def test_the_wheel_has_the_client_alone(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()

    assert {re.sub(r"-.*", "", name.split("/")[0]) for name in names} == {"kith"}
    for needed in ("py.typed", "feed/v1/feed_pb2.pyi", "feed/v1/feed_grpc_service_config.json"):
        assert f"kith/{needed}" in names


def test_a_caller_needs_grpc_and_protobuf_and_nothing_of_a_server(plain: _Environment) -> None:
    installed = {path.name.partition("-")[0].lower() for path in plain.folder.rglob("*.dist-info")}

    assert installed == {
        "googleapis_common_protos",
        "grpcio",
        "kith",
        "protobuf",
        "typing_extensions",
    }


def test_a_caller_in_an_empty_environment_reads_a_feed_and_gets_our_exceptions(
    plain: _Environment, targets: dict[str, str], people: People
) -> None:
    [user] = people.new(1)
    people.post(user)

    answer = plain.run("python", "-c", _CALLER.format(user=user), variables=targets)

    assert answer.stderr == ""
    assert answer.stdout.splitlines()[1:] == ["POST_NOT_FOUND"]


def test_the_client_loads_few_modules_beside_grpc_and_the_stubs(plain: _Environment) -> None:
    stubs = "grpc, kith.graph.v1.graph_pb2_grpc, kith.feed.v1.feed_pb2_grpc"

    counts = [
        int(plain.run("python", "-c", _MODULES.format(names)).stdout)
        for names in (stubs, "kith.client")
    ]

    assert counts[1] <= _MOST_MODULES * counts[0]


def test_without_the_extras_it_says_which_one_is_missing(
    plain: _Environment, targets: dict[str, str]
) -> None:
    files = {"TARGET_CA_FILE": str(_ROOT / "README.md")}

    command = plain.run("kith", "--version")
    client = plain.run("python", "-c", _CALLER.format(user=17), variables={**targets, **files})

    assert command.returncode == 1
    assert command.stderr == ("kith: the commands need the extra `cli`: pip install 'kith[cli]'\n")
    assert "TARGET_CA_FILE cannot be used: the extra `tls` is missing" in client.stderr


def test_the_commands_of_the_client_call_running_services(
    with_extras: _Environment, targets: dict[str, str], people: People, tmp_path: Path
) -> None:
    first, second = people.new(2)
    rows = tmp_path / "connections.csv"
    rows.write_text(f"{first},{second}\n")

    def kith(*arguments: object) -> str:
        answer = with_extras.run("kith", *map(str, arguments), variables=targets)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    assert "1 imported" in kith("import", "connections", rows)
    assert "has 1 connections" in kith("connections", first)
    people.post(first)
    assert f"The feed of person {second}" in kith("feed", second)
    document = tmp_path / "person.jsonl"
    kith("export", "user", first, document)
    assert '"posts"' in document.read_text()
    assert "1 posts, 1 there already" in kith("import", "user", document)
    assert f"Person {first} is erased" in kith("erase", first, "--yes")
    assert "has 0 connections" in kith("connections", second)


def test_the_extra_of_the_commands_has_what_trying_a_deployment_needs(
    with_extras: _Environment,
) -> None:
    answer = with_extras.run("kith", "conformance", "--graph=127.0.0.1:1", "--feed=127.0.0.1:1")

    assert answer.returncode == 1
    assert answer.stderr.startswith("kith: SERVICE_UNREACHABLE: ")


def test_the_script_has_the_commands_of_an_operator_only_where_the_services_are(
    with_extras: _Environment,
) -> None:
    checkout = Path(sys.executable).with_name("kith")

    everything = subprocess.run([checkout, "--help"], capture_output=True, text=True, check=True)
    # Another project's package of the same name lies where the client does.
    [package] = with_extras.folder.rglob("site-packages/kith")
    for name in ("shared", "shared/cli"):
        folder = package.parent / name
        folder.mkdir()
        (folder / "__init__.py").write_text("raise AssertionError\n")
    client = with_extras.run("kith", "--help")

    commands = {"run", "migrate", "doctor", "fences", "gateway", "shards"}
    listed = re.compile(r"^    (\w+) ", re.MULTILINE)
    assert commands < {*listed.findall(everything.stdout)}
    assert client.stderr == ""
    assert {"feed", "import", "erase"} < {*listed.findall(client.stdout)}
    assert not commands & {*listed.findall(client.stdout)}


def test_a_strict_type_checker_knows_both_clients_and_their_messages(
    with_extras: _Environment, tmp_path: Path
) -> None:
    caller = tmp_path / "caller.py"
    caller.write_text(_TYPED_CALLER)
    lines = _TYPED_CALLER.splitlines()

    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", f"--config-file={os.devnull}"),
            *(f"--python-executable={with_extras.python}", f"--cache-dir={tmp_path}", caller),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    refused = {int(number) for number in re.findall(r"py:(\d+): error", checked.stdout)}
    assert refused == {number for number, line in enumerate(lines, 1) if "wrong" in line}, (
        checked.stdout
    )
