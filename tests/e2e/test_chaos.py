"""Short versions of what `make chaos` breaks at length, and without its bounds on times."""

import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_FAULTS = ("postgres-killed", "hostile")


@pytest.fixture(scope="module")
def said() -> str:
    """What is said of all faults, one after the other on one PostgreSQL."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--quick", *_FAULTS],
        cwd=_ROOT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return ended.stdout


@pytest.mark.parametrize("fault", _FAULTS)
def test_a_promise_is_kept_under_its_fault(said: str, fault: str) -> None:
    assert f"{fault}: kept" in said
