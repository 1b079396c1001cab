"""Whether the service is ready: its checks, made over and over."""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from shared.database.database import why
from shared.periodic import seconds_to_tick
from shared.server.health import HealthServicer

# A check is made in so many rounds before its grace is over.
_TRIED_ROUNDS = 2
_log = logging.getLogger("kith.health")


class Readiness:
    """Runs the checks over and over and tells the servicer what came of them.

    What came of each is reported too, as 1 or 0, also of one whose failure its grace covers.
    """

    def __init__(
        self,
        servicer: HealthServicer,
        *,
        checks: Mapping[str, Callable[[], None]],
        grace_seconds: Mapping[str, float],
        interval_seconds: float = 0.5,
        ready_interval_seconds: float = 1.0,
        when_ready: Callable[[], None] = lambda: None,
        report: Callable[[str, int], None] = lambda _name, _passes: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servicer = servicer
        self._checks = checks
        self._grace_seconds = grace_seconds
        self._interval_seconds = interval_seconds
        self._ready_interval_seconds = ready_interval_seconds
        self._when_ready: Callable[[], None] | None = when_ready
        self._report = report
        self._clock = clock
        self._last_good: dict[str, float] = {}
        self._failures: dict[str, str] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="readiness", daemon=True)

    def check(self) -> None:
        """Make a round here and now, before anybody can ask."""
        self._round()

    def start(self) -> None:
        """Begin; `when_ready` is called after the first good round."""
        self._thread.start()

    def stop(self) -> None:
        """End after the round that is under way."""
        self._stopping.set()

    def join(self, timeout_seconds: float) -> None:
        """Wait for that round, whose checks use what is about to be closed."""
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._round()
            if not self._failures and self._when_ready is not None:
                self._when_ready()
                self._when_ready = None
            self._stopping.wait(
                self._interval_seconds
                if self._failures
                else seconds_to_tick(self._ready_interval_seconds)
            )

    def _round(self) -> None:
        failures: dict[str, str] = {}
        for name, check in self._checks.items():
            if self._is_fresh(name):
                continue
            try:
                check()
                self._last_good[name] = self._clock()
                self._report(name, 1)
            except Exception as error:  # noqa: BLE001 -- any error of a check means not ready
                self._report(name, 0)
                if not self._is_in_grace(name):
                    failures[name] = why(error)
        if failures != self._failures:
            _log.log(
                logging.WARNING if failures else logging.INFO,
                "not ready" if failures else "ready",
                extra={"failures": failures},
            )
        self._failures = failures
        self._servicer.set_ready(not failures)

    def _is_in_grace(self, name: str) -> bool:
        return self._age(name) < self._grace_seconds.get(name, 0.0)

    def _is_fresh(self, name: str) -> bool:
        """Whether a check was good so lately that its grace covers failures of the next rounds."""
        rounds = _TRIED_ROUNDS * self._ready_interval_seconds
        return self._age(name) < self._grace_seconds.get(name, 0.0) - rounds

    def _age(self, name: str) -> float:
        return self._clock() - self._last_good.get(name, float("-inf"))
