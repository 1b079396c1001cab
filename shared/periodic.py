"""Work that is done over and over beside the calls, such as cleaning up."""

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Final

from kith.exceptions import UnavailableError

# The processes of a machine have the same clock, and their databases are not to be asked by all of
# them at the same moment.
_PHASE_SECONDS: Final = random.uniform(0, 3_600)  # noqa: S311 -- nothing depends on it being secret
_AGAIN_ROUNDS: Final = 30
_log = logging.getLogger("kith.rounds")


def seconds_to_tick(interval_seconds: float) -> float:
    """Return how long it is until the next of the moments that are so far apart.

    These are the same for everything that a process does over and over, so that it wakes once for
    all of it: to wake costs an idle process more than what it then does.
    """
    return interval_seconds - (time.monotonic() + _PHASE_SECONDS) % interval_seconds


class Periodic:
    """Runs a piece of work at each tick of an interval, and sooner when it is asked to.

    After a failure it does so at each tick of `again_seconds`, if these are given, up to thirty
    times in a row: what is away for longer is not looked for as often.

    An outage of something that the work needs is logged when it begins and when it is over. Of
    other failures in a row the first, second, fourth, eighth and so on are logged, with a
    traceback: a day of them would otherwise write thousands.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        *,
        interval_seconds: float,
        again_seconds: float | None = None,
    ) -> None:
        self._name = name
        self._work = work
        self._interval_seconds = interval_seconds
        self._again_seconds = interval_seconds if again_seconds is None else again_seconds
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
            except Exception as error:  # noqa: BLE001 -- the next round may succeed after any error
                failures += 1
                self._tell(error, failures)
            else:
                if failures:
                    said = {"round": self._name, "failures": failures}
                    _log.info("a round succeeded again", extra=said)
                failures = 0
            is_lately = 0 < failures <= _AGAIN_ROUNDS
            interval = self._again_seconds if is_lately else self._interval_seconds
            self._woken.wait(seconds_to_tick(interval))

    def _tell(self, error: Exception, failures: int) -> None:
        said: dict[str, object] = {"round": self._name, "failures": failures}
        if isinstance(error, UnavailableError):
            if failures == 1:
                said |= {"reason": error.message, "cause": repr(error.__cause__)}
                _log.warning("a round failed", extra=said)
        elif failures.bit_count() == 1:
            _log.warning("a round failed", extra=said, exc_info=error)
