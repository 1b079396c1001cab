"""A round that fails is made again soon, and does not fill the log."""

import logging
import threading
from collections.abc import Callable

import pytest

from kith.exceptions import UnavailableError
from shared.periodic import _AGAIN_ROUNDS, Periodic

_SECONDS = 10


def test_of_failures_in_a_row_ever_fewer_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()
    # It goes well once, after which counting begins anew.
    outcomes = iter([*[False] * 9, True, False])

    def work() -> None:
        if (is_good := next(outcomes, None)) is None:
            done.set()
        elif not is_good:
            raise ConnectionError

    _run(work, until=done)

    failed = [record for record in _told(caplog) if record.levelno == logging.WARNING]
    assert [vars(record)["failures"] for record in failed] == [1, 2, 4, 8, 1]
    assert all(record.exc_info for record in failed)


def test_an_outage_is_a_line_when_it_begins_and_one_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    done = threading.Event()
    outcomes = iter([True, *[False] * 9, True, True])

    def work() -> None:
        if (is_good := next(outcomes, None)) is None:
            done.set()
        elif not is_good:
            raise UnavailableError("the graph is away")

    _run(work, until=done)

    told = _told(caplog)
    assert [record.getMessage() for record in told] == [
        "a round failed",
        "a round succeeded again",
    ]
    began, over = (vars(record) for record in told)
    assert (began["levelname"], began["exc_info"]) == ("WARNING", None)
    assert began["reason"] == "the graph is away"
    assert (over["round"], over["failures"]) == ("test", 9)


def test_a_round_that_failed_is_made_again_before_the_next_tick() -> None:
    done = threading.Event()
    outcomes = iter([False, False])

    def work() -> None:
        if next(outcomes, None) is None:
            done.set()
        else:
            raise ConnectionError

    _run(work, until=done, interval_seconds=1e9, again_seconds=0.001)


def test_what_is_away_for_long_is_looked_for_at_each_tick_of_the_interval() -> None:
    done = threading.Event()
    rounds = 0

    def work() -> None:
        nonlocal rounds
        rounds += 1
        if rounds <= _AGAIN_ROUNDS:
            periodic.soon()
        if rounds > _AGAIN_ROUNDS + 2:
            done.set()
        raise ConnectionError

    periodic = Periodic("test", work, interval_seconds=0.001, again_seconds=1e9)
    periodic.start()
    is_done = done.wait(_SECONDS)
    periodic.stop()

    assert is_done


def _told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return what was logged of the work: services of other tests may run, and log, beside."""
    return [record for record in caplog.records if vars(record).get("round") == "test"]


def _run(
    work: Callable[[], None],
    *,
    until: threading.Event,
    interval_seconds: float = 0.001,
    again_seconds: float | None = None,
) -> None:
    periodic = Periodic(
        "test", work, interval_seconds=interval_seconds, again_seconds=again_seconds
    )
    periodic.start()
    until.wait()
    periodic.stop()
