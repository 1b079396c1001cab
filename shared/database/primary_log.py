"""Where the log of a primary was at which moments, looked at over and over.

So a position of a moment ago is known without asking for it, and so is how late a replica is that
has come to some position.
"""

import threading
import time
from bisect import bisect_left, bisect_right
from contextlib import suppress
from typing import Final

from shared import deadlines
from shared.database import positions
from shared.database.positions import Position
from shared.database.reader import Reader, Statement

LOOK_SECONDS: Final = 0.1
"""The time between two looks."""
ANSWER_SECONDS: Final = 1.0
"""The most that a look may take, and a read that the primary could answer as well."""

_POSITION: Final = Statement(
    "primary_position",
    f"SELECT system_identifier, here.* FROM pg_control_system(), ({positions.HERE}) AS here",  # noqa: S608 -- no values
)


class PrimaryLog:
    """What was seen of it for so many seconds, and longer. Thread-safe."""

    def __init__(self, primary: Reader, seconds: float) -> None:
        self._primary = primary
        self._most = round(2 * seconds / LOOK_SECONDS)
        self._lock = threading.Lock()
        self._moments: list[float] = []
        self._positions: list[Position] = []
        self._history = (0, 0)

    @property
    def history(self) -> tuple[int, int]:
        """The cluster and the timeline to which the positions belong."""
        return self._history

    def look(self) -> None:
        """See where it is now, if the primary answers."""
        moment = time.monotonic()
        with suppress(Exception), deadlines.within(ANSWER_SECONDS):
            [(system, file, lsn)] = self._primary.rows(_POSITION, {})
            self.add(moment, system, Position.of(file, lsn))

    def add(self, moment: float, system: int, position: Position) -> None:
        """Note where it was at a moment or later; positions of another cluster are forgotten."""
        with self._lock:
            is_other = system != self._history[0] or position < self._positions[-1]
            if is_other or len(self._moments) > 2 * self._most:
                kept = 0 if is_other else self._most
                self._moments = self._moments[len(self._moments) - kept :]
                self._positions = self._positions[len(self._positions) - kept :]
            self._moments.append(moment)
            self._positions.append(position)
            self._history = (system, position.timeline)

    def at(self, moment: float) -> Position | None:
        """Return a position at or behind that of a moment; None when the log was not read since."""
        with self._lock:
            index = bisect_left(self._moments, moment)
            return self._positions[index] if index < len(self._moments) else None

    def lag(self, position: Position) -> float | None:
        """Return how many seconds ago at most a position was that of the primary.

        None when it is from before all that was seen.
        """
        with self._lock:
            index = bisect_right(self._positions, position)
            return time.monotonic() - self._moments[index - 1] if index else None
