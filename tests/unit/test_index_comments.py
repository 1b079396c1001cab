"""Every index says which queries it serves, by names that are there."""

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_SERVICES = ("feed_service", "graph_service")
# Words of several parts are functions, wherever they stand; fragments of SQL are constants.
_NAME = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b|\b[A-Z]{4,}\b")
_UNIQUE = "uq_"
_IS_SQL = re.compile(r"/(queries|visibility)")


def _named(comment: str) -> set[str]:
    """Return the queries that a comment names: first a list of them, and any in the text."""
    first = re.split(r"[:.]", comment, maxsplit=1)[0].strip()
    listed = re.split(r", | and ", first)
    return {name for name in listed if name.isidentifier()} | set(_NAME.findall(comment))


def _index_comments(service: str) -> dict[str, str]:
    """Return the comment above each index; one may stand above several in a row."""
    lines = (_ROOT / service / "models.py").read_text().splitlines()
    comments = dict[str, str]()
    comment, previous = "", ""
    for line, following in pairwise([*lines, ""]):
        if line.startswith("# "):
            comment = comment * previous.startswith("# ") + line.removeprefix("#")
        elif line.startswith("Index("):
            comments[re.findall(r'"(\w+)"', line + following)[0]] = comment
        elif line and not line.startswith((" ", ")")):
            comment = ""
        previous = line
    return comments


def _defined(service: str) -> set[str]:
    """Return the names of functions, constants and statements where a service has its SQL."""
    names = set[str]()
    paths = (path for path in (_ROOT / service).rglob("*.py") if _IS_SQL.search(str(path)))
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.FunctionDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                    names.add(name)
                case ast.Call(func=ast.Name(id="Statement"), args=[ast.Constant(value=name), *_]):
                    names.add(str(name))
                case _:
                    pass
    return names


@pytest.mark.parametrize("service", _SERVICES)
def test_every_index_names_queries_that_are_there(service: str) -> None:
    defined = _defined(service)
    named = {index: _named(text) for index, text in _index_comments(service).items()}

    stale = {index: names - defined for index, names in named.items() if names - defined}
    # What is unique may serve a rule alone.
    silent = [index for index, names in named.items() if not names and index[:3] != _UNIQUE]
    assert (stale, silent) == ({}, [])
