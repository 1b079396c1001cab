"""Short versions of what `make chaos` breaks at length, and without its bounds on times."""

from contextlib import redirect_stdout
from io import StringIO

import pytest

from tests.chaos.__main__ import main

_FAULTS = ("postgres-killed", "hostile")


@pytest.fixture(scope="module")
def said() -> str:
    """What is said of all faults, one after the other on one PostgreSQL."""
    with redirect_stdout(StringIO()) as output:
        main(["--quick", *_FAULTS])
    return output.getvalue()


@pytest.mark.parametrize("fault", _FAULTS)
def test_a_promise_is_kept_under_its_fault(said: str, fault: str) -> None:
    assert f"{fault}: kept" in said
