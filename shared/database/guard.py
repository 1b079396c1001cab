"""The end of SQL statements that outlive the call they are for.

PostgreSQL is told with each statement how long it may take. That is not enough: a caller can leave
before, and a server that is cut off or stopped says nothing at all, for which psycopg2 would wait
for ever. So a guard looks after the sessions that are at work, and shuts down the socket of one
whose caller has left or that has outlived its call. That frees the thread even if the server hangs,
and PostgreSQL, which looks after its clients as well (`client_connection_check_interval`), ends the
statement.

psycopg2 has other means, which are worse: `cancel` keeps the lock of the interpreter while it waits
for the server, and wait callbacks take COPY away and cost every statement something.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final
from weakref import WeakSet

import psycopg2

from kith.exceptions import DeadlineError, UnavailableError
from shared.deadlines import CallEnd, always, call_end, seconds_left

_ROUND_SECONDS: Final = 0.02
# Around the end of a call: PostgreSQL notices that as well, and then the session can be kept.
_GRACE_SECONDS: Final = 0.02
_STATEMENT_GRACE_SECONDS: Final = 1.0
# Each may be stuck for as long as a connection may take to open.
_OPENING_THREADS: Final = 8


def statement_timeout(usual_seconds: float) -> str:
    """Return what to put before a statement whose call ends sooner than statements usually may.

    In the same message, so that it costs no round trip; LOCAL, so that it ends with the statement
    or its transaction.
    """
    left = seconds_left()
    if left >= usual_seconds:
        return ""
    return f"SET LOCAL statement_timeout = {max(1, round(left * 1000))}; "


class StatementGuard:
    """Ends the statements of calls that are over; a service has one. Thread-safe.

    Sessions are connections of psycopg2. A statement without a call is given as long as PostgreSQL
    gives it, and a second. The first statement starts the guard's thread.
    """

    def __init__(self, statement_timeout: timedelta) -> None:
        self._most_seconds = statement_timeout.total_seconds() + _STATEMENT_GRACE_SECONDS
        self._watched: dict[Any, CallEnd] = {}
        # Of a session that was shut down while it was opened, nobody tells the end.
        self._ended = WeakSet[Any]()
        # For what is watched and what is ended: between a look and what follows from it, another
        # call may have taken the session.
        self._lock = threading.Lock()
        self._openers = ThreadPoolExecutor(_OPENING_THREADS, thread_name_prefix="open-session")
        # Whether a statement of a call was sent since the last look.
        self._at_work = threading.Event()
        self._closing = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def watch(self, session: Any) -> None:
        """Look after a session, on which a statement is about to be sent."""
        latest = time.monotonic() + self._most_seconds
        end = of_call = call_end.get()
        if end is None or end.at > latest:
            end = CallEnd(latest, always if end is None else end.is_active)
        with self._lock:
            self._watched[session] = end
        if not self._at_work.is_set() and (of_call is not None or self._thread is None):
            self._wake()

    def release(self, session: Any) -> bool:
        """Leave a session alone; returns False if it was shut down, and so must be closed."""
        with self._lock:
            if self._watched.pop(session, None) is not None:
                return True
            was_ended = session in self._ended
            self._ended.discard(session)
            return not was_ended

    def connect(self, open_session: Callable[[], Any]) -> Any:
        """Open a session, and wait for that no longer than the call may take.

        Raises what `open_session` raises, DeadlineError, or UnavailableError once it is closed.
        """
        try:
            opening = self._openers.submit(open_session)
        except RuntimeError:
            if not self._closing.is_set():
                raise
            # By work in the background, for which a stop does not wait without end.
            raise UnavailableError("the process is stopping") from None
        try:
            return opening.result(timeout=max(0, min(seconds_left(), self._most_seconds)))
        except TimeoutError:
            opening.add_done_callback(_close_session)
            raise DeadlineError("the database did not answer before the deadline") from None

    def close(self) -> None:
        """End the guard; nothing may be under way any more."""
        self._closing.set()
        self._at_work.set()
        if self._thread is not None:
            self._thread.join()
        self._openers.shutdown(wait=False, cancel_futures=True)

    def _wake(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="statement-guard", daemon=True
                )
                self._thread.start()
        self._at_work.set()

    def _run(self) -> None:
        while not self._closing.wait(_ROUND_SECONDS):
            self._rest_while_idle()
            now = time.monotonic()
            for session, end in self._all_watched():
                is_late = now > end.at + _GRACE_SECONDS
                if is_late or (now < end.at - _GRACE_SECONDS and not end.is_active()):
                    self._end(session, end)

    def _rest_while_idle(self) -> None:
        """Rest if no statement of a call was sent since the last look, until one is.

        To be woken costs more than to look in vain, so it does not rest while calls come.
        Statements without a call do not wake it: they have no caller that can leave, and the rest
        ends when the first of them may be late.
        """
        ends = [end for _, end in self._all_watched()]
        if not self._at_work.is_set() and all(end.is_active is always for end in ends):
            now = time.monotonic()
            earliest = min((end.at for end in ends), default=now + self._most_seconds)
            # In this order, as `watch` and `close` do it in the other one.
            if not self._closing.is_set():
                self._at_work.wait(max(0.0, earliest + _GRACE_SECONDS - now))
        self._at_work.clear()

    def _all_watched(self) -> list[tuple[Any, CallEnd]]:
        with self._lock:
            return list(self._watched.items())

    def _end(self, session: Any, end: CallEnd) -> None:
        """Shut down a session, unless another call than that of `end` has it by now."""
        with self._lock:
            if self._watched.get(session) is end:
                del self._watched[session]
                self._ended.add(session)
                _shut_down(session)


def _shut_down(session: Any) -> None:
    """Break a connection under the thread that waits for it; closing it is for that thread."""
    with suppress(psycopg2.Error, OSError), socket.socket(fileno=os.dup(session.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def _close_session(opening: "Future[Any]") -> None:
    with suppress(BaseException):
        opening.result().close()
