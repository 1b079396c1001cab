"""Files that are read again when they change, such as certificates that are renewed."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

_LOOK_SECONDS = 1.0
_log = logging.getLogger("kith.files")


class WatchedFiles(Generic[T]):
    """What is made of some files, made anew when one of them has changed. Thread-safe.

    Files that cannot be used change nothing, for instance when only one of two has been replaced
    yet: the last object is kept until they can be used. Every caller gets the same object until
    there is another.
    """

    def __init__(self, paths: Sequence[Path], make: Callable[[], T]) -> None:
        """Make it for the first time; raises what `make` raises."""
        self._paths = paths
        self._make = make
        self._lock = threading.Lock()
        self._seen = self._look()
        self._made = make()
        self._look_again = time.monotonic() + _LOOK_SECONDS

    def current(self) -> T:
        """Return what is made of the files as they were at most a second ago."""
        if time.monotonic() >= self._look_again:
            self.renew()
        return self._made

    def renew(self) -> T:
        """Return what is made of the files as they are now."""
        with self._lock:
            self._look_again = time.monotonic() + _LOOK_SECONDS
            # Looked at before they are read: what changes in between is seen the next time.
            seen = self._look()
            if seen != self._seen:
                self._seen = seen
                self._remake()
            return self._made

    def _remake(self) -> None:
        try:
            self._made = self._make()
        except (OSError, ValueError) as error:
            _log.warning("files cannot be used yet", extra={"files": self._names(), "why": error})
        else:
            _log.info("files were read again", extra={"files": self._names()})

    def _names(self) -> list[str]:
        return [str(path) for path in self._paths]

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_state(path) for path in self._paths]


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
