"""A round that fails over and over does not fill the log."""

import threading

import pytest

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

    periodic = Periodic("test", work, interval_seconds=0.001)
    periodic.start()
    done.wait()
    periodic.stop()

    assert [vars(record)["failures"] for record in caplog.records] == [1, 2, 4, 8, 1]
