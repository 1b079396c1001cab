"""ESLint finds nothing in JavaScript: that of the pages, and that of clients in tests.

Needs node and npm, which installs ESLint below build/.
"""

import subprocess
from pathlib import Path

import pytest

from tests.support.npm import installed

_ROOT = Path(__file__).parents[2]
_SECONDS = 120


@pytest.fixture(scope="module")
def eslint() -> Path:
    """The folder of ESLint and its configuration."""
    return installed(Path(__file__).parent / "eslint")


def _linted(eslint: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program, config = eslint / "node_modules" / ".bin" / "eslint", eslint / "eslint.config.js"
    return subprocess.run(
        [program, "--max-warnings=0", f"--config={config}", *arguments],
        cwd=_ROOT,
        input="const page = document.body;\nshow(page);\n",
        check=False,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )


def test_eslint_finds_nothing(eslint: Path) -> None:
    done = _linted(eslint, "deploy/pages", "tests/conformance")

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_eslint_finds_a_name_that_is_not_defined(eslint: Path) -> None:
    done = _linted(eslint, "--stdin", "--stdin-filename=deploy/pages/console/dom.js")

    assert done.returncode == 1
    assert "'show' is not defined" in done.stdout
