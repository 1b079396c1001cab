"""A circuit breaker: makes no calls for a moment to a service that failed several times in a row.

The pattern is by M. Nygard, "Release It!" (2007). Without it every call waits its whole time for a
service that hangs, and the waiting calls take the threads of calls that do not need the service.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from threading import Lock


class Circuit:
    """Counts the failures in a row, and is open from so many on. Thread-safe.

    While it is open, one try is let through in each `pause`; if it succeeds, the circuit is closed.
    """

    def __init__(
        self, *, failures: int, pause: timedelta, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most_failures = failures
        self._pause_seconds = pause.total_seconds()
        self._clock = clock
        self._lock = Lock()
        self._failures = 0
        self._next_try = 0.0

    @property
    def is_open(self) -> bool:
        """Whether so many tries in a row have failed."""
        return self._failures >= self._most_failures

    def lets_through(self) -> bool:
        """Whether to try; a caller that tries has to report the outcome afterwards."""
        if not self.is_open:
            return True
        with self._lock:
            now = self._clock()
            if now < self._next_try:
                return False
            self._next_try = now + self._pause_seconds
            return True

    def succeeded(self) -> None:
        """Note an answer; a refusal is one as well."""
        if self._failures:
            self._failures = 0

    def failed(self) -> None:
        """Note that no answer came."""
        with self._lock:
            self._failures += 1
            if self._failures == self._most_failures:
                self._next_try = self._clock() + self._pause_seconds
