"""Signals that tell a program to do something, waited for without a chance to miss one."""

import os
import select
import signal
from contextlib import suppress
from typing import Final

_BYTES: Final = 4096


class Signals:
    """The signals that a program waits for in its main thread; for composition roots only.

    A `threading.Event` that a handler sets is no way to do this. The handler runs in the main
    thread between any two of its steps: also while `wait` has the event's lock, for which `set`
    then waits for ever. So no handler does anything here. CPython writes the number of a signal to
    a pipe in the moment in which the process receives it, see `signal.set_wakeup_fd`.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        """Take note of these from now on."""
        self.received = set[int]()
        """Those that `wait` has seen. Code that has acted on one removes it."""
        # Open as long as the process lives, for a signal may come when nobody waits any more.
        self._reader, writer = os.pipe()
        for end in (self._reader, writer):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._readable = select.poll()
        self._readable.register(self._reader, select.POLLIN)
        for number in numbers:
            signal.signal(number, _do_nothing)

    def wait(self, seconds: float | None = None) -> None:
        """Return when a signal has come, at the latest after so long."""
        self._readable.poll(None if seconds is None else 1000 * seconds)
        with suppress(BlockingIOError):
            self.received.update(os.read(self._reader, _BYTES))


def _do_nothing(_number: int, _frame: object) -> None:
    """Keep the signal from ending the process."""
