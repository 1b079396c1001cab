"""How long a call may take, and the end of SQL statements that outlive it.

A caller says until when it will wait; whoever works for a call asks here how long that still is.
PostgreSQL is told with the statement. That is not enough: a caller can go away before, and a server
that is cut off or stopped says nothing at all, for which psycopg2 would wait for ever. So a guard
looks after the sessions that are at work. It cancels the statement of a caller who is gone, and
shuts down the socket of one that has outlived its call, which frees the thread whatever the server
does. (psycopg2's wait callbacks could do the latter as well, but take COPY away, and cost every
statement what the guard costs only those that are late.)
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import psycopg2

from shared.errors import DeadlineError

_ROUND_SECONDS: Final = 0.02
# After the end of a call: for PostgreSQL to notice it too, which keeps the session.
_GRACE_SECONDS: Final = 0.02
_CANCEL_SECONDS: Final = 0.2
_STATEMENT_GRACE_SECONDS: Final = 1.0
# Each may be stuck for as long as a connection may take to open.
_HELPING_THREADS: Final = 8


@dataclass(frozen=True, slots=True)
class CallEnd:
    """When a call ends: at a time of `time.monotonic`, or before that, when its caller is gone."""

    at: float
    is_active: Callable[[], bool]


call_end: ContextVar[CallEnd | None] = ContextVar("call_end", default=None)


def seconds_left() -> float:
    """Return how long the call that is being worked for may still take; infinite outside of one."""
    end = call_end.get()
    return float("inf") if end is None else end.at - time.monotonic()


def is_over() -> bool:
    """Whether nobody waits any longer for what is being worked for."""
    end = call_end.get()
    return end is not None and (end.at <= time.monotonic() or not end.is_active())


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Do what is in the block as if for a call that may take so long."""
    token = call_end.set(CallEnd(time.monotonic() + seconds, _always))
    try:
        yield
    finally:
        call_end.reset(token)


def statement_timeout(usual: timedelta) -> str:
    """Return what to put before a statement whose call ends sooner than statements usually may.

    In the same message, so that it costs no round trip; LOCAL, so that it ends with the statement
    or its transaction.
    """
    left = seconds_left()
    if left >= usual.total_seconds():
        return ""
    return f"SET LOCAL statement_timeout = {max(1, round(left * 1000))}; "


class StatementGuard:
    """Ends the statements of calls that are over; a service has one. Thread-safe.

    Sessions are connections of psycopg2. A statement without a call is given as long as PostgreSQL
    gives it, and a second.
    """

    def __init__(self, statement_timeout: timedelta) -> None:
        self._most_seconds = statement_timeout.total_seconds() + _STATEMENT_GRACE_SECONDS
        # Its methods are atomic, so whoever pops a session from it is the one to deal with it.
        self._watched: dict[Any, CallEnd] = {}
        self._cancelled: dict[Any, float] = {}
        self._ended = set[Any]()
        self._acting = threading.Lock()
        self._at_work = threading.Event()
        self._helpers = ThreadPoolExecutor(_HELPING_THREADS, thread_name_prefix="statement-guard")
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="statement-guard", daemon=True)
        self._thread.start()

    def watch(self, session: Any) -> None:
        """Look after a session, on which a statement is about to be sent."""
        latest = time.monotonic() + self._most_seconds
        end = call_end.get()
        if end is None or end.at > latest:
            end = CallEnd(latest, _always if end is None else end.is_active)
        self._watched[session] = end
        if not self._at_work.is_set():
            self._at_work.set()

    def release(self, session: Any) -> bool:
        """Leave a session alone; returns whether it is still good.

        Otherwise it has been interfered with, and must be closed: a cancellation may be under way
        that would hit its next statement.
        """
        if self._watched.pop(session, None) is not None:
            return True
        with self._acting:
            was_cancelled = self._cancelled.pop(session, None) is not None
            was_ended = session in self._ended
            self._ended.discard(session)
            return not (was_cancelled or was_ended)

    def connect(self, open_session: Callable[[], Any]) -> Any:
        """Open a session, and wait for that no longer than the call may take.

        Raises what `open_session` raises, or DeadlineError.
        """
        opening = self._helpers.submit(open_session)
        try:
            return opening.result(timeout=max(0, min(seconds_left(), self._most_seconds)))
        except TimeoutError:
            opening.add_done_callback(_close_session)
            raise DeadlineError("the database did not answer in time") from None

    def close(self) -> None:
        """End the guard; nothing may be under way any more."""
        self._closing.set()
        self._at_work.set()
        self._thread.join()
        self._helpers.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        while not self._closing.wait(_ROUND_SECONDS):
            self._rest_while_idle()
            now = time.monotonic()
            for session, end in list(self._watched.items()):
                if now > end.at + _GRACE_SECONDS:
                    self._end(session)
                elif not end.is_active():
                    self._cancel(session)
            for session, shut_at in list(self._cancelled.items()):
                if now > shut_at:
                    self._end_cancelled(session)

    def _rest_while_idle(self) -> None:
        if not self._watched and not self._cancelled:
            self._at_work.clear()
            # In this order, as `watch` does it in the other one.
            if not self._watched:
                self._at_work.wait()

    def _end(self, session: Any) -> None:
        with self._acting:
            if self._watched.pop(session, None) is not None:
                self._ended.add(session)
                _shut_down(session)

    def _cancel(self, session: Any) -> None:
        with self._acting:
            if self._watched.pop(session, None) is None:
                return
            self._cancelled[session] = time.monotonic() + _CANCEL_SECONDS
        # It opens a connection of its own, for which the others must not have to wait.
        self._helpers.submit(_cancel_statement, session)

    def _end_cancelled(self, session: Any) -> None:
        with self._acting:
            if self._cancelled.pop(session, None) is not None:
                self._ended.add(session)
                _shut_down(session)


def _always() -> bool:
    return True


def _cancel_statement(session: Any) -> None:
    with suppress(psycopg2.Error):
        session.cancel()


def _shut_down(session: Any) -> None:
    """Break a connection under the thread that waits for it; closing it is for that thread."""
    with suppress(psycopg2.Error, OSError), socket.socket(fileno=os.dup(session.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def _close_session(opening: "Future[Any]") -> None:
    with suppress(BaseException):
        opening.result().close()
