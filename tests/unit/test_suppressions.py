"""Where a check is silenced, the reason stands beside it."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[2]
# Behind the names of the checks, a reason would follow.
_WITHOUT_REASON: Final = re.compile(
    r"#\s*(noqa(:[A-Z0-9,\s]*)?|type:\s*ignore(\[[\w,\s-]*\])?|pragma:[\w\s]*)$"
)


def _sources() -> Iterator[Path]:
    checked = tomllib.loads((_ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["files"]
    for directory in checked:
        yield from (_ROOT / directory).rglob("*.py")


def test_a_suppression_gives_its_reason_on_the_same_line() -> None:
    assert [
        f"{path.relative_to(_ROOT)}:{number}"
        for path in _sources()
        if "gen" not in path.parts
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if _WITHOUT_REASON.search(line)
    ] == []
