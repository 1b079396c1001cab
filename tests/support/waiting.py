"""Waiting for what happens soon, with a ceiling that no working machine reaches."""

import time
from collections.abc import Callable

_PAUSE_SECONDS = 0.01


def until(condition: Callable[[], bool], *, seconds: float = 30) -> bool:
    """Return whether a condition becomes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(_PAUSE_SECONDS)
    return False
