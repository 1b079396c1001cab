"""Streams that go on where they broke off."""

import time
from collections.abc import Callable, Generator, Iterator
from copy import deepcopy
from random import uniform
from typing import Final, Protocol, TypeVar

from kith.exceptions import (
    AbortedError,
    AppException,
    DeadlineError,
    RateLimitError,
    UnavailableError,
)

# Errors that pass by themselves.
PASSING: Final = (AbortedError, RateLimitError, UnavailableError)
ATTEMPTS: Final = 6
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
# A message is a transaction.
IMPORT_SECONDS: Final = 60.0


class Resumable(Protocol):
    """What names a position in a stream: a request, and each of its messages."""

    cursor: str


Asked = TypeVar("Asked", bound=Resumable)
Told = TypeVar("Told", bound=Resumable)
Told_co = TypeVar("Told_co", covariant=True)
Sent_contra = TypeVar("Sent_contra", contravariant=True)
Done_co = TypeVar("Done_co", covariant=True)
Sent = TypeVar("Sent")
Done = TypeVar("Done")


class Import(Protocol[Sent_contra, Done_co]):
    """A call that takes a stream of messages."""

    def __call__(
        self, request_iterator: Iterator[Sent_contra], timeout: float | None = None, /
    ) -> Done_co:
        """Send them."""
        ...


class Stream(Protocol[Told_co]):
    """The messages of a stream, and its end."""

    def __iter__(self) -> Iterator[Told_co]:
        """Yield them."""
        ...

    def cancel(self) -> bool:
        """End it."""
        ...


def resumed(
    call: Callable[[Asked], Stream[Told]], request: Asked, *, attempts: int | None = ATTEMPTS
) -> Generator[Told, None, None]:
    """Yield the messages of a stream, which is resumed after the last one when it breaks off.

    A stream that a gateway ends when its time is over is resumed too, if it has brought a message.
    Raises the error of the last attempt when so many in a row have brought no message; with None it
    is resumed for ever. The stream ends with the iterator: close the iterator, or leave it to the
    garbage collector.
    """
    asked, backoff = deepcopy(request), Backoff(attempts)
    while True:
        stream, has_come = call(asked), False
        try:
            for message in stream:
                backoff, has_come = Backoff(attempts), True
                asked.cursor = message.cursor
                yield message
        except PASSING as error:
            time.sleep(backoff.seconds_after(error))
        except DeadlineError:
            if not has_come:
                raise
        else:
            return
        finally:
            stream.cancel()


def imported(call: Import[Sent, Done], message: Sent) -> Done:
    """Return the result of one message, which is sent again until there is a result.

    A stream of many messages would be faster by a round trip for each, and when it breaks off it
    takes their counts along.
    """
    backoff = Backoff(ATTEMPTS)
    while True:
        try:
            return call(iter([message]), IMPORT_SECONDS)
        except PASSING as error:
            time.sleep(backoff.seconds_after(error))


class Backoff:
    """The pauses between attempts, each longer than the last, until no attempt is left."""

    def __init__(self, attempts: int | None) -> None:
        self._left = attempts
        self._seconds = _FIRST_PAUSE_SECONDS

    def seconds_after(self, error: AppException) -> float:
        """Return a pause, at least as long as the error says; raises it after the last attempt."""
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                raise error
        asked = error.retry_after.total_seconds() if error.retry_after else 0.0
        pause = max(asked, self._seconds)
        self._seconds = min(2 * self._seconds, _LONGEST_PAUSE_SECONDS)
        # Not all at the same time.
        return pause * uniform(0.8, 1.2)  # noqa: S311 -- no secret
