"""What the documentation points to exists."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

_ROOT: Final = Path(__file__).parents[2]
_PAGES: Final = sorted(
    [*_ROOT.glob("*.md"), *_ROOT.glob("docs/**/*.md"), *_ROOT.glob("deploy/*.md")]
)
_FOLDERS: Final = (
    *("benchmarks", "deploy", "docs", "feed_service", "graph_service", "kith"),
    *("migrations", "protos", "shared", "tests"),
)
_README_LINES: Final = 150


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


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_every_path_that_a_page_names_is_in_the_tree(page: Path) -> None:
    for path in re.findall(r"`([\w.]+/[\w./-]*)`", page.read_text()):
        if path.startswith(tuple(f"{folder}/" for folder in _FOLDERS)):
            assert (_ROOT / path).exists(), f"{page.name} names {path}"


def test_every_page_is_linked_from_the_readme_or_a_page_that_it_links_to() -> None:
    reached, waiting = {_ROOT / "README.md"}, [_ROOT / "README.md"]
    while waiting:
        linked = {path for path, _ in _links(waiting.pop()) if path.suffix == ".md"}
        waiting += linked - reached
        reached |= linked

    assert set(_PAGES) == reached


def test_the_readme_stays_short() -> None:
    assert len((_ROOT / "README.md").read_text().splitlines()) <= _README_LINES
