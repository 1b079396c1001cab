"""The reference of settings says what is read, and a name that only looks like one is told."""

import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from feed_service.auditor.settings import AuditorSettings
from feed_service.settings import FeedSettings
from graph_service.settings import GraphSettings
from kith.environment import Environment, Setting
from shared.cli.gateway_settings import GatewaySettings
from shared.cli.run import SampleSettings
from shared.setting_names import NAMES, unknown_settings
from tests.support import programs

_ROOT: Final = Path(__file__).parents[2]
_REFERENCE: Final = _ROOT / "docs" / "configuration.md"
_READERS: Final[dict[str, Callable[[Environment], object]]] = {
    "graph_service": GraphSettings.read_from,
    "feed_service": FeedSettings.read_from,
    "gateway": GatewaySettings.read_from,
    "auditor": AuditorSettings.read_from,
    "kith run": SampleSettings.read,
}
# Without a bucket and credentials to it, nothing else of the object store is read.
_VARIABLES: Final = {
    "PAGE_TOKEN_KEYS": "k" * 32,
    "S3_BUCKET": "kith-photos",
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "secret",
}
# A gateway is read like a service, but Envoy has neither.
_NOT_USED: Final = {"GATEWAY_THREADS", "GATEWAY_QUEUE"}
# What depends on other things than the name.
_DEFAULTS: Final = {
    "GRAPH_WORKERS": "one for each core",
    "FEED_WORKERS": "one for each core",
    "GATEWAY_WORKERS": "one for each core",
    "REDIS_ENABLED": "on with a URL",
    "REFLECTION": "off with authentication, on without",
}
_UNITS: Final = {"GiB": 2**30, "MiB": 2**20}


def _read() -> dict[str, Setting]:
    """Return every setting that some process reads."""
    read = dict[str, Setting]()
    for reader in _READERS.values():
        environment = Environment(_VARIABLES)
        reader(environment)
        read |= environment.settings
    return {name: setting for name, setting in read.items() if name not in _NOT_USED}


def _told() -> dict[str, tuple[str, str]]:
    """Return the default and the limits of each row of the reference."""
    rows = re.findall(
        r"^\| `(\w+)` \| (.*?) \| (.*?) \| .*\|$", _REFERENCE.read_text(), re.MULTILINE
    )
    assert len(rows) == len({name for name, *_ in rows})
    return {name: (default.strip("`"), limits) for name, default, limits in rows}


def _number(name: str, number: float) -> str:
    if name.endswith("_BYTES") and number:
        unit, size = next(each for each in _UNITS.items() if number % each[1] == 0)
        return f"{number / size:g} {unit}"
    return f"{number:.12g}"


def _word(name: str, word: str) -> str:
    return word if name == "LOG_LEVEL" else word.lower()


def _limits(name: str, setting: Setting) -> str:
    if setting.minimum is not None and setting.maximum is not None:
        return f"{_number(name, setting.minimum)} to {_number(name, setting.maximum)}"
    return ", ".join(f"`{_word(name, choice)}`" for choice in setting.choices)


def _default(name: str, setting: Setting) -> str:
    if setting.minimum is not None:
        return _number(name, float(setting.default))
    return _word(name, setting.default) if setting.choices else setting.default


def test_the_reference_and_the_list_of_names_have_every_setting_and_no_other() -> None:
    read = _read()

    assert _told().keys() == read.keys()
    assert read.keys() == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_reference_tells_the_default_and_the_limits_that_are_read(name: str) -> None:
    setting, (default, limits) = _read()[name], _told()[name]

    assert limits.strip() == _limits(name, setting)
    # Where unset is a meaning of its own, the reference says which in words.
    assert default == _DEFAULTS.get(name, _default(name, setting) or default)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("GRAPH_WORKER", "GRAPH_WORKERS"),
        ("MAX_CONECTIONS", "MAX_CONNECTIONS"),
        ("graph_port", "GRAPH_PORT"),
        ("GRAPH_LISTEN", ""),
        ("GATEWAY_THREADS", ""),
    ],
)
def test_a_name_that_looks_like_a_setting_is_told_with_the_one_that_is_meant(
    name: str, meant: str
) -> None:
    assert unknown_settings({name: "4"}) == {name: meant}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GRAPH_WORKERS", "4"),
        ("GRAPH_WORKER", ""),
        ("DATABASE_URL", "postgresql://db/other"),
        ("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"),
        ("GATEWAY_SERVICE_PORT_HTTP", "8080"),
        ("GATEWAY_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("FEED_OTHER_PORT", "tcp://10.0.0.1:80"),
    ],
)
def test_a_name_of_somebody_else_is_not_told(name: str, value: str) -> None:
    assert unknown_settings({name: value}) == {}


@pytest.mark.parametrize("name", sorted(name for name in NAMES if name.endswith("_PORT")))
def test_what_kubernetes_says_of_a_service_is_not_taken_for_a_port(name: str) -> None:
    linked = {**_VARIABLES, name: "tcp://10.43.0.17:8080"}
    environments = [Environment(linked) for _ in _READERS]
    read = [reader(given) for reader, given in zip(_READERS.values(), environments, strict=True)]
    usual = [reader(Environment(_VARIABLES)) for reader in _READERS.values()]

    assert read == usual
    for environment in environments:
        environment.check()


@contextmanager
def _taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


def test_a_service_points_out_at_its_start_what_it_does_not_know() -> None:
    with _taken_port() as port:
        ended = _run(
            "graph_service",
            GRAPH_WORKER="4",
            GRAPH_WORKERS="1",
            GRAPH_PORT=str(port),
            GRAPH_DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing",
            PAGE_TOKEN_KEYS="k" * 32,
        )

    told, *_, last = map(json.loads, ended.stderr.splitlines())
    assert (told["level"], told["message"]) == ("WARNING", "unknown setting")
    assert (told["variable"], told["meant"]) == ("GRAPH_WORKER", "GRAPH_WORKERS")
    # It went on until something else ended it.
    assert last["message"] == "cannot listen"


def test_the_command_line_points_it_out_too() -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"

    ended = _run(
        "shared.cli",
        "migrate",
        GRAPH_DATABASE_URL=nowhere,
        FEED_DATABASE_URL=nowhere,
        FEED_DATABASE_URI=nowhere,
    )

    told, *_ = ended.stderr.splitlines()
    assert told == "kith: FEED_DATABASE_URI is not a setting; FEED_DATABASE_URL is"


def _run(module: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return programs.run(module, *arguments, environment=variables)
