"""Streams that go on where they broke off."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from copy import deepcopy
from typing import Protocol

from kith.client.streams import (
    ATTEMPTS,
    IMPORT_SECONDS,
    PASSING,
    Asked,
    Backoff,
    Done,
    Done_co,
    Sent,
    Sent_contra,
    Told,
    Told_co,
)
from kith.exceptions import DeadlineError


class Import(Protocol[Sent_contra, Done_co]):
    """A call that takes a stream of messages."""

    def __call__(
        self, request_iterator: Iterator[Sent_contra], /, *, timeout: float | None = None
    ) -> Awaitable[Done_co]:
        """Send them."""
        ...


class Stream(Protocol[Told_co]):
    """The messages of a stream, and its end."""

    def __aiter__(self) -> AsyncIterator[Told_co]:
        """Yield them."""
        ...

    def cancel(self) -> bool:
        """End it."""
        ...


async def resumed(
    call: Callable[[Asked], Stream[Told]], request: Asked, *, attempts: int | None = ATTEMPTS
) -> AsyncGenerator[Told, None]:
    """Yield the messages of a stream, which is resumed after the last one when it breaks off.

    A stream that a gateway ends when its time is over is resumed too, if it has brought a message.
    Raises the error of the last attempt when so many in a row have brought no message; with None it
    is resumed for ever. The stream ends with the iterator: close the iterator, as by
    `contextlib.aclosing`, or read it to its end.
    """
    asked, backoff = deepcopy(request), Backoff(attempts)
    while True:
        stream, has_come = call(asked), False
        try:
            async for message in stream:
                backoff, has_come = Backoff(attempts), True
                asked.cursor = message.cursor
                yield message
        except PASSING as error:
            pause = backoff.seconds_after(error)
        except DeadlineError:
            if not has_come:
                raise
            pause = 0.0
        else:
            return
        finally:
            stream.cancel()
        await asyncio.sleep(pause)


async def imported(call: Import[Sent, Done], message: Sent) -> Done:
    """Return what became of one message, which is sent again until that is known.

    A stream of many messages would be faster by a round trip for each, and when it breaks off it
    takes their counts along.
    """
    backoff = Backoff(ATTEMPTS)
    while True:
        try:
            return await call(iter([message]), timeout=IMPORT_SECONDS)
        except PASSING as error:
            pause = backoff.seconds_after(error)
        await asyncio.sleep(pause)
