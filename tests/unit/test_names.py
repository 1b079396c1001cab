"""A name stands for one thing."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_FOLDERS = ("benchmarks", "feed_service", "graph_service", "kith", "migrations", "shared", "tests")
_FILES = sorted(path for folder in _FOLDERS for path in (_ROOT / folder).rglob("*.py"))


def _assigned(scope: ast.Module | ast.ClassDef) -> Iterator[str]:
    for node in scope.body:
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


@pytest.mark.parametrize("folder", _FOLDERS)
def test_nothing_is_named_as_something_before_it_in_the_same_module_or_class(folder: str) -> None:
    # Neither ruff nor mypy says so of two statements, of which the second would take the place of
    # the first wherever that is used.
    doubled = [
        f"{path.relative_to(_ROOT)}: {name}"
        for path in _FILES
        if path.is_relative_to(_ROOT / folder) and not path.name.endswith("_pb2_grpc.py")
        for scope in ast.walk(ast.parse(path.read_text()))
        if isinstance(scope, ast.Module | ast.ClassDef)
        for name, times in Counter(_assigned(scope)).items()
        if times > 1
    ]

    assert doubled == []
