"""Work that is done over and over beside the calls, such as cleaning up."""

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger("kith.rounds")


class Periodic:
    """Runs a piece of work every so often, and sooner when it is asked to.

    Of failures in a row the first, second, fourth, eighth and so on are logged: an outage of a day
    would otherwise write thousands of tracebacks.
    """

    def __init__(self, name: str, work: Callable[[], None], *, interval_seconds: float) -> None:
        self._name = name
        self._work = work
        self._interval_seconds = interval_seconds
        self._woken = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin with the first round."""
        self._thread.start()

    def soon(self) -> None:
        """Begin another round as soon as the one under way has ended."""
        self._woken.set()

    def stop(self, timeout_seconds: float = 5) -> None:
        """End after the round that is under way, and wait for it for so long."""
        self._stopping = True
        self._woken.set()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        failures = 0
        while not self._stopping:
            # Cleared before the work, so that what is asked for meanwhile is not missed.
            self._woken.clear()
            try:
                self._work()
                failures = 0
            except Exception:  # noqa: BLE001 -- the next round may succeed after any error
                failures += 1
                if failures.bit_count() == 1:
                    said = {"round": self._name, "failures": failures}
                    _log.warning("a round failed", extra=said, exc_info=True)
            self._woken.wait(self._interval_seconds)
