"""The thread that ends statements whose calls are over."""

import threading
from datetime import timedelta

import pytest

from kith.exceptions import UnavailableError
from shared.database.guard import StatementGuard


def test_a_guard_that_is_closed_just_as_it_goes_to_rest_ends() -> None:
    guard = StatementGuard(timedelta(seconds=1))
    guard.close()

    resting = threading.Thread(target=guard._rest_while_idle, daemon=True)  # noqa: SLF001 -- the step that close has come before
    resting.start()
    resting.join(timeout=60)

    assert not resting.is_alive()


def test_work_that_outlives_a_closed_guard_is_told_that_the_database_is_unavailable() -> None:
    guard = StatementGuard(timedelta(seconds=1))
    guard.close()

    with pytest.raises(UnavailableError, match="the process is stopping"):
        guard.connect(lambda: None)
