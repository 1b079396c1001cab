"""How much memory a process has, and returning what it does not use.

glibc returns freed memory to the system only from the end of its heaps. After a flood of large
headers a worker therefore stays as large as it was, although almost nothing of that is in use.
"""

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

RETURN_SECONDS: Final = 5.0
"""How often a process looks whether there is much to return."""

# Below this growth the search for free pages is not worth its time.
_GROWTH_BYTES: Final = 32 * 1024 * 1024
_RESIDENT: Final = 1
_IS_LINUX: Final = sys.platform == "linux"


def resident_bytes(pid: int) -> int:
    """Return how much memory of a process is in RAM; 0 when it has ended, or not on Linux."""
    with suppress(OSError):
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[_RESIDENT]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return 0


class FreeMemory:
    """Returns the free memory of this process to the system whenever the process has grown."""

    def __init__(self) -> None:
        self._least = resident_bytes(os.getpid())
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if _IS_LINUX else None

    def return_if_grown(self) -> None:
        """Return free memory if the process has grown since the last time; only with glibc."""
        resident = resident_bytes(os.getpid())
        if self._trim is not None and resident > self._least + _GROWTH_BYTES:
            self._trim(0)
            self._least = resident_bytes(os.getpid())
        self._least = min(self._least, resident)
