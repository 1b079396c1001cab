"""The thread that ends statements whose calls are over."""

import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from kith.exceptions import UnavailableError
from shared.database import guard as guards
from shared.database.guard import StatementGuard
from shared.deadlines import CallEnd, call_end
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


def test_a_session_that_another_call_has_by_now_is_not_ended_with_the_call_before() -> None:
    guard = StatementGuard(timedelta(minutes=1))
    session, server = socket.socketpair()
    rounds = list[None]()

    def in_call(is_active: Callable[[], bool]) -> None:
        token = call_end.set(CallEnd(time.monotonic() + 60, is_active))
        guard.watch(session)
        call_end.reset(token)

    def is_active() -> bool:
        rounds.append(None)
        return True

    def ends_meanwhile() -> bool:
        guard.release(session)
        in_call(is_active)
        return False

    with session, server:
        in_call(ends_meanwhile)
        until(lambda: rounds, within_seconds=30)

        assert guard.release(session)
    guard.close()
