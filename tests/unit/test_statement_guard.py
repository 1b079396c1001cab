"""The thread that ends statements whose calls are over."""

import socket
import threading
from datetime import timedelta

import pytest

from kith.exceptions import UnavailableError
from shared.database import guard as guards
from shared.database.guard import StatementGuard
from tests.support.processes import until


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


def test_a_statement_without_a_call_that_is_sent_during_a_rest_is_ended_when_it_is_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guards, "_STATEMENT_GRACE_SECONDS", 0.1)
    guard = StatementGuard(timedelta())
    session, server = socket.socketpair()
    with session, server:
        guard.watch(session)
        guard.release(session)
        until(lambda: not guard._at_work.is_set())  # noqa: SLF001 -- then it rests

        guard.watch(session)

        assert not guard._at_work.is_set()  # noqa: SLF001 -- it still rests
        assert server.recv(1) == b""
        assert not guard.release(session)
    guard.close()
