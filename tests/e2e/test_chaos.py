"""Short versions of what `make chaos` breaks at length, and without its bounds on times."""

import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("fault", ["postgres-killed", "hostile"])
def test_a_promise_is_kept_under_its_fault(fault: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--quick", fault],
        cwd=_ROOT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    assert ended.returncode == 0, ended.stdout
    assert f"{fault}: kept" in ended.stdout
