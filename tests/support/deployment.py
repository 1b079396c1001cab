"""The files in deploy/ and docker-compose.yml as those read them who run Kith."""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
COMPOSE: Final = ROOT / "docker-compose.yml"
# ${NAME}, ${NAME-default}, ${NAME:-default}, ${NAME:?message} and ${NAME:+other}
_VARIABLE = re.compile(r"\$\{(\w+)(?:(-|:[-?+])([^}]*))?\}")


class Variables(Mapping[str, str]):
    """An environment that remembers which variables were asked for."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.asked = set[str]()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def required_variables() -> set[str]:
    """Return what has to be in the environment of `docker compose`."""
    return {name for name, kind, _ in _VARIABLE.findall(COMPOSE.read_text()) if kind == ":?"}


def compose(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what docker-compose.yml says with these variables in the environment."""

    def value(found: re.Match[str]) -> str:
        name, kind, other = found.groups()
        given = environment.get(name, "")
        if kind == ":+":
            return other if given else ""
        if kind == "-" and name in environment:
            return given
        assert given or kind in {"-", ":-"}, f"{name} is not set"
        return given or other

    def filled(node: Any) -> Any:
        match node:
            case dict():
                return {key: filled(each) for key, each in node.items()}
            case list():
                return [filled(each) for each in node]
            case str():
                return _VARIABLE.sub(value, node)
            case _:
                return node

    [written] = _documents(COMPOSE)
    read = filled(written)
    assert isinstance(read, dict)
    return read


def manifests() -> list[dict[str, Any]]:
    """Return the objects that `kubectl apply -k deploy/kubernetes` makes, as they are written."""
    paths = [DEPLOY / "kubernetes" / name for name in kustomization()["resources"]]
    return [each for path in paths for each in deepcopy(_documents(path))]


def kustomization() -> dict[str, Any]:
    """Return how the manifests are put together."""
    [read] = deepcopy(_documents(DEPLOY / "kubernetes" / "kustomization.yaml"))
    assert isinstance(read, dict)
    return read


@cache
def _documents(path: Path) -> list[Any]:
    """Return what a file of YAML says, which takes a tenth of a second to read."""
    return list(yaml.safe_load_all(path.read_text()))


def dockerfile(stage: str) -> list[list[str]]:
    """Return the instructions of a stage of the Dockerfile, and before them those it builds on."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    stages: dict[str, list[list[str]]] = {}
    for instruction in lines:
        if instruction[0] == "FROM":
            _, base, _, name = instruction
            current = stages[name] = [*stages.get(base, [])]
        current.append(instruction)
    return stages[stage]


def image_environment(stage: str) -> dict[str, str]:
    """Return the variables that are set in an image."""
    settings = [words[1:] for words in dockerfile(stage) if words[0] == "ENV"]
    return dict(setting.split("=", 1) for words in settings for setting in words)
