"""A round that fails over and over does not fill the log."""

import logging
import threading
from collections.abc import Callable

import pytest

from kith.exceptions import UnavailableError
from shared.periodic import Periodic


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

    failed = [record for record in caplog.records if record.levelno == logging.WARNING]
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

    assert [record.getMessage() for record in caplog.records] == [
        "a round failed",
        "a round succeeded again",
    ]
    began, over = (vars(record) for record in caplog.records)
    assert (began["levelname"], began["exc_info"]) == ("WARNING", None)
    assert began["reason"] == "the graph is away"
    assert (over["round"], over["failures"]) == ("test", 9)


def _run(work: Callable[[], None], *, until: threading.Event) -> None:
    periodic = Periodic("test", work, interval_seconds=0.001)
    periodic.start()
    until.wait()
    periodic.stop()
