"""What callers install agrees with what Kith is developed with."""

import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.deployment import dockerfile

_ROOT: Final = Path(__file__).parents[2]
_PROJECT: Final[dict[str, Any]] = tomllib.loads((_ROOT / "pyproject.toml").read_text())
_GROUPS: Final[dict[str, list[Any]]] = _PROJECT["dependency-groups"]
_EXTRAS: Final[dict[str, list[str]]] = _PROJECT["project"]["optional-dependencies"]


def _requirements(listed: list[Any]) -> dict[str, Requirement]:
    found = [Requirement(text) for text in listed if isinstance(text, str)]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def _pin(name: str) -> str:
    """Return the one version of a package that is developed with."""
    [requirement] = {
        str(group[name].specifier)
        for group in map(_requirements, _GROUPS.values())
        if name in group
    }
    return requirement.removeprefix("==")


def test_the_ranges_of_the_wheel_include_what_kith_is_developed_with() -> None:
    ranges = _requirements(
        [
            *_PROJECT["project"]["dependencies"],
            *(text for extra in _EXTRAS.values() for text in extra),
        ]
    )

    assert ranges
    for name, requirement in ranges.items():
        assert requirement.specifier.contains(_pin(name)), name


@pytest.mark.parametrize(
    ("package", "stub", "written"),
    [
        ("protobuf", "feed_pb2.py", "# Protobuf Python Version: {}\n"),
        ("grpcio", "feed_pb2_grpc.py", "GRPC_GENERATED_VERSION = '{}'\n"),
    ],
)
def test_the_wheel_asks_for_no_older_library_than_its_stubs_load_with(
    package: str, stub: str, written: str
) -> None:
    requirement = _requirements(_PROJECT["project"]["dependencies"])[package]
    [lowest] = [bound.version for bound in requirement.specifier if bound.operator == ">="]

    assert written.format(lowest) in (_ROOT / "kith" / "feed" / "v1" / stub).read_text()


def test_the_image_installs_groups_that_there_are() -> None:
    installed = [
        word.removeprefix("--group=")
        for stage in ("built", "envoy")
        for words in dockerfile(stage)
        for word in words
        if word.startswith("--group=")
    ]

    assert {"services", "tracing", "gateway"} <= {*installed} <= {*_GROUPS}
