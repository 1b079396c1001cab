"""Processes start without the libraries that they may never need."""

import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("programs", "library"),
    [
        pytest.param("graph_service.__main__, feed_service.__main__", "alembic", id="services"),
        pytest.param("shared.cli.__main__", "sqlalchemy", id="commands of the client"),
    ],
)
def test_a_program_starts_without_a_library_that_only_some_of_its_work_needs(
    programs: str, library: str
) -> None:
    imported = subprocess.run(
        [sys.executable, "-c", f"import sys, {programs}; print(*sys.modules)"],
        cwd=_ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.split()

    assert programs.partition(",")[0] in imported
    assert library not in imported
