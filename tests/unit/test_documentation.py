"""What the documentation points to exists."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Final

import pytest

from shared.cli.__main__ import command_parser

_ROOT: Final = Path(__file__).parents[2]
_PAGES: Final = sorted(
    [*_ROOT.glob("*.md"), *_ROOT.glob("docs/**/*.md"), *_ROOT.glob("deploy/*.md")]
)
_FOLDERS: Final = (
    *("benchmarks", "deploy", "docs", "feed_service", "graph_service", "kith"),
    *("migrations", "protos", "shared", "tests"),
)
_SUFFIXES: Final = frozenset(
    (".py", ".md", ".toml", ".yml", ".yaml", ".proto", ".lua", ".sh", ".sql", ".ini", ".mako")
)
_README_LINES: Final = 150
_PROTOS: Final = _ROOT / "protos"


def _written() -> Iterator[Path]:
    """Yield the files that people write, but for the history of changes."""
    for file in chain(_ROOT.iterdir(), *(_ROOT.glob(f"{folder}/**/*") for folder in _FOLDERS)):
        is_text = file.suffix in _SUFFIXES or file.name in {"Makefile", "Dockerfile"}
        if file.is_file() and is_text and "_pb2" not in file.name and file.name != "CHANGELOG.md":
            yield file


def _spelled_out(pattern: str) -> list[str]:
    """Return a pattern once for each alternative in its braces."""
    if (braces := re.search(r"\{(.*?)\}", pattern)) is None:
        return [pattern]
    return [pattern.replace(braces[0], one) for one in braces[1].split(",")]


def _matches(pattern: str) -> bool:
    return any(file.is_file() for file in _ROOT.glob(re.sub(r"\*\*$", "**/*.py", pattern)))


def _anchors(page: Path) -> set[str]:
    """Return the names that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _links(page: Path) -> Iterator[tuple[Path, str]]:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not re.match(r"\w+:", target):
            path, _, anchor = target.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: Path) -> None:
    for path, anchor in _links(page):
        assert path.exists(), f"{page.name} links to {path}"
        assert not anchor or anchor in _anchors(path), f"{page.name} links to {path}#{anchor}"


def test_every_path_that_a_page_a_comment_or_a_setting_names_is_in_the_tree() -> None:
    path = re.compile(rf"(?<![\w./:{{}}$<>*-])(?:{'|'.join(_FOLDERS)})/[\w./*-]*\w")

    missing = {
        f"{file.relative_to(_ROOT)}: {name}"
        for file in _written()
        for name in path.findall(file.read_text())
        # Contracts import each other by their paths below protos/.
        if not any(chain(_ROOT.glob(name), file.parent.glob(name), _PROTOS.glob(name)))
    }

    assert not missing


def test_every_module_that_something_runs_is_in_the_tree() -> None:
    module = re.compile(rf"-m[\s\",']+((?:{'|'.join(_FOLDERS)})(?:\.\w+)*)")

    missing = {
        f"{file.relative_to(_ROOT)}: {name}"
        for file in _written()
        for name in module.findall(file.read_text())
        if find_spec(name) is None
    }

    assert not missing


def test_every_command_of_kith_in_a_page_can_be_given() -> None:
    command = re.compile(r"^ +(?:\.venv/bin/)?kith (.+)$", re.MULTILINE)

    commands = [line for page in _PAGES for line in command.findall(page.read_text())]

    assert commands
    for arguments in commands:
        command_parser().parse_args(shlex.split(arguments, comments=True))


def test_every_target_of_make_in_a_page_is_in_the_makefile() -> None:
    target = re.compile(r"(?:^ +|`)make ([a-z-]+)", re.MULTILINE)
    targets = set(re.findall(r"^([a-z-]+):", (_ROOT / "Makefile").read_text(), re.MULTILINE))

    named = {name for page in _PAGES for name in target.findall(page.read_text())}

    assert named <= targets


def test_every_pattern_of_ignored_rules_has_a_file() -> None:
    settings = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["ruff"]["lint"]["per-file-ignores"]

    unused = [one for pattern in patterns for one in _spelled_out(pattern) if not _matches(one)]

    assert not unused


def test_every_page_is_linked_from_the_readme_or_a_page_that_it_links_to() -> None:
    reached, waiting = {_ROOT / "README.md"}, [_ROOT / "README.md"]
    while waiting:
        linked = {path for path, _ in _links(waiting.pop()) if path.suffix == ".md"}
        waiting += linked - reached
        reached |= linked

    assert set(_PAGES) == reached


def test_the_readme_stays_short() -> None:
    assert len((_ROOT / "README.md").read_text().splitlines()) <= _README_LINES
