"""What the log says of headers that grpcio cannot decode.

grpcio logs an error for each header that is not UTF-8, with a traceback and the value. Anybody can
send such headers, also without credentials and as fast as they like, and the value may be a token.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

_SECONDS: Final = 60.0
# As grpcio formats it; its other messages are left as they are.
_MESSAGE: Final = "Invalid encoding on %s"


class UnreadableHeaders(logging.Filter):
    """Makes of grpcio's errors one warning a minute, with the number of headers and no content."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._count = 0
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged; if it is about a header, as a warning."""
        if record.msg != _MESSAGE:
            return True
        # Threads that meet here may make two lines, or lose a header: no lock is worth that.
        self._count += 1
        now = self._clock()
        if now < self._next:
            return False
        count, self._count, self._next = self._count, 0, now + _SECONDS
        record.msg, record.args = "headers that are not UTF-8", None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.exc_info = record.exc_text = None
        record.headers = count
        return True


_unreadable_headers = UnreadableHeaders()


def shorten_log() -> None:
    """Let the log of this process have them so. To repeat it changes nothing."""
    logging.getLogger("grpc._cython.cygrpc").addFilter(_unreadable_headers)
