"""Foreign tools take protos/openapi.yaml whole, and what they make of it can call the gateway.

Needs node and npm, which installs the checkers and a generator below build/; pip installs others.
"""

import json
import re
import shutil
import subprocess
import time
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.credentials import Issuer
from tests.support.exposed_calls import CALLS, new_world
from tests.support.gateway import Gateway, running_gateway
from tests.support.over_http import exposed, operation, over_http, path_fields
from tests.support.pair import Pair
from tests.support.people import People
from tests.support.rpcs import Rpc

pytest.importorskip("envoy", reason="there is no wheel with Envoy for this system")

_ROOT: Final = Path(__file__).parents[2]
_DOCUMENT: Final = _ROOT / "protos" / "openapi.yaml"
_SOURCE: Final = Path(__file__).parent / "openapi"
_INSTALLED: Final = _ROOT / "build" / "openapi"
_SECONDS: Final = 900
# Calls have rules between fields, and such as depend on what is stored, which no schema can say.
_CHECKED_ELSEWHERE: Final = "positive_data_acceptance"

Done: TypeAlias = subprocess.CompletedProcess[str]


def _run(*command: object, given: str | None = None, cwd: Path = _INSTALLED) -> Done:
    """Run a tool, and show what it says if it is not content."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        input=given,
        check=False,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-5_000:]
    return done


@pytest.fixture(scope="module")
def tools() -> Path:
    """The folder of the tools from npm."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed")
    _copy()
    _run("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent")
    return _INSTALLED / "node_modules" / ".bin"


@pytest.fixture(scope="module")
def scripts() -> Path:
    """The folder of the tools from PyPI."""
    _copy()
    folder = _INSTALLED / "python"
    if not (folder / "pyvenv.cfg").exists():
        venv.create(folder, with_pip=True)
    pip = (folder / "bin" / "python", "-m", "pip", "install", "--quiet")
    _run(*pip, "--requirement", "requirements.txt")
    return folder / "bin"


def _copy() -> None:
    _INSTALLED.mkdir(parents=True, exist_ok=True)
    for file in _SOURCE.iterdir():
        if file.is_file():
            shutil.copy(file, _INSTALLED)


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """A gateway that wants tokens, and who issues them."""

    gateway: Gateway
    issuer: Issuer

    @property
    def url(self) -> str:
        return f"http://{self.gateway.address}"


@pytest.fixture(scope="module")
def guarded(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("gateway")
    issuer = Issuer(folder)
    issuer.add_key("first")
    with running_gateway(
        folder,
        graph=pair.graph_server.address,
        feed=pair.feed_server.address,
        environment=issuer.environment,
    ) as gateway:
        yield Guarded(gateway=gateway, issuer=issuer)


def test_spectral_finds_nothing(tools: Path) -> None:
    _run(tools / "spectral", "lint", "--ruleset=spectral.yaml", "--fail-severity=hint", _DOCUMENT)


def test_redocly_finds_nothing(tools: Path) -> None:
    _run(tools / "redocly", "lint", "--config=redocly.yaml", _DOCUMENT)


def test_a_client_in_typescript_is_generated_compiles_and_is_answered(
    tools: Path, guarded: Guarded, people: People
) -> None:
    [user] = people.new(1)
    _run(tools / "openapi-typescript", _DOCUMENT, "--output", "kith.ts")
    strictly = ("--strict", "--target", "es2022", "--lib", "es2022,dom", "--module", "nodenext")
    _run(tools / "tsc", *strictly, "--skipLibCheck", "client.ts")

    done = _run("node", "client.js", guarded.url, guarded.issuer.token(user), user)

    assert json.loads(done.stdout) == {
        "comment": "changed",
        "first": "first",
        "lost": [412, "ETAG_MISMATCH"],
        "posts": ["first"],
        "wrong": ["pageSize"],
    }


def test_a_client_in_python_is_generated_with_every_call_and_is_answered(
    scripts: Path, guarded: Guarded, pair: Pair, people: People
) -> None:
    folder = _INSTALLED / "generated"
    _run(
        *(scripts / "openapi-python-client", "generate", "--path", _DOCUMENT),
        *("--meta=none", "--overwrite", "--output-path", folder / "client_of_kith"),
    )
    rpcs = [rpc for rpc in exposed() if rpc.name != "CreatePhotoUploads"]
    calls = [_call(rpc, pair, people) for rpc in rpcs]

    command = (scripts / "python", "calls.py", folder, guarded.url, guarded.issuer.token(1))
    done = _run(*command, given=json.dumps(calls))

    answers = dict(zip((rpc.name for rpc in rpcs), json.loads(done.stdout), strict=True))
    assert answers == {name: [200, f"{name}Response"] for name in answers}


def _call(rpc: Rpc, pair: Pair, people: People) -> Mapping[str, Any]:
    """Return a call as the generated client makes it, about people of its own."""
    world = new_world(pair, people)
    request = CALLS[rpc.name](world)
    sent = over_http(rpc, request)
    arguments: dict[str, Any] = {}
    for field in path_fields(rpc):
        value: Any = request
        for name in field.split("."):
            value = getattr(value, name)
        arguments[field.split(".")[-1]] = str(value)
    query = parse_qs(urlsplit(sent.path).query)
    for parameter in operation(rpc)["parameters"]:
        values = query.get(parameter.get("name"))
        if values and parameter["schema"].get("type") == "array":
            arguments[_snake_case(parameter["name"])] = values
        elif values:
            arguments[_snake_case(parameter["name"])] = _typed(parameter["schema"], values[0])
    enums = {
        _snake_case(parameter["name"]): parameter["schema"]["$ref"].rpartition("/")[2]
        for parameter in operation(rpc)["parameters"]
        if "$ref" in parameter.get("schema", {})
    }
    return {
        "enums": enums,
        "tag": _snake_case(operation(rpc)["tags"][0]),
        "module": _snake_case(rpc.name),
        "arguments": arguments,
        # Messages of which the path has all fields are left empty.
        "body": sent.body and {name: value for name, value in sent.body.items() if value != {}},
        "body_class": f"{rpc.name}Body",
    }


def _typed(schema: Mapping[str, Any], value: str) -> object:
    """Return a parameter of a query as the generated client takes it."""
    match schema:
        case {"type": "boolean"}:
            return value == "true"
        case {"type": "integer"}:
            return int(value)
        case _:
            return value


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def test_schemathesis_finds_nothing(scripts: Path, guarded: Guarded) -> None:
    token = guarded.issuer.token(7, exp=time.time() + 3600)
    _run(
        *(scripts / "schemathesis", "run", _DOCUMENT, "--url", guarded.url),
        *("--header", f"Authorization: Bearer {token}", "--continue-on-failure", "--no-color"),
        *("--phases=examples,coverage,fuzzing", "--max-examples=20", "--seed=1"),
        *("--checks=all", f"--exclude-checks={_CHECKED_ELSEWHERE}"),
    )
