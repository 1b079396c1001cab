"""Incoming messages: late ones, missing ones, unreadable ones, and headers that are too large.

A call has a thread from its first header on, and this thread waits for the message for as long as
the caller likes. So a thread of its own cancels calls whose message takes too long: sooner when
many calls wait for theirs, because these are about to take all threads.

Headers may be far larger than the bytes that were sent: compression lets one byte stand for 4 KB,
and grpcio copies up to 16 MiB of them for each call before it calls any interceptor. So a call with
large headers is refused without waiting for its message. A connection with headers far beyond the
limit is closed, which also ends its calls that gRPC has not reported yet.

Bytes that are no message of the call would make grpcio answer INTERNAL, as if that were the
server's fault.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError

from kith.errors.v1 import errors_pb2
from kith.exceptions import DeadlineError, ValidationError
from shared.processes.ports import hang_up

T = TypeVar("T")
Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]
_Awaited: TypeAlias = tuple[float, bool]

UNREADABLE: Final = object()
"""Stands for bytes that are no message of the kind that the call takes."""

TOO_LARGE: Final = object()
"""Stands for the message of a call whose metadata is too large; the message was not awaited."""

MAX_METADATA_BYTES: Final = 16 * 1024
"""The most metadata of a call: names, values and 32 bytes each. Twice what the gateway takes."""

MOST_HEADER_BYTES: Final = 1024 * 1024
"""No client sends more by mistake: gRPC refuses the call, and the connection is closed."""

# What HTTP/2 counts for each header beside its name and value.
_HEADER_BYTES: Final = 32
_USUAL_SECONDS: Final = 10.0
_SHORT_SECONDS: Final = 1.0
# A well-behaved client sends the message together with the headers.
_SHORTEST_SECONDS: Final = 0.2
_LOOK_SECONDS: Final = 0.1


def reading(deserialize: Callable[[bytes], T] | None) -> Callable[[bytes], T | object] | None:
    """Return a function that reads messages, and returns UNREADABLE for other bytes."""
    if deserialize is None:
        return None

    def read(data: bytes) -> T | object:
        try:
            return deserialize(data)
        except DecodeError:
            return UNREADABLE

    return read


def are_too_large(metadata: Metadata) -> bool:
    """Whether a call with this metadata is refused."""
    return _size(metadata) > MAX_METADATA_BYTES


def refused(_requests: Iterator[object], context: grpc.ServicerContext) -> object:
    """Return TOO_LARGE for a call whose metadata is too large, without waiting for its message."""
    if _size(context.invocation_metadata() or ()) > MOST_HEADER_BYTES:
        hang_up(context.peer())
    return TOO_LARGE


def require_readable(request: object) -> None:
    """Raise ValidationError unless the call has a message that could be read."""
    if request is TOO_LARGE:
        raise ValidationError(
            f"the metadata is larger than {MAX_METADATA_BYTES} bytes",
            reason=errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE,
            metadata={"limit_bytes": str(MAX_METADATA_BYTES)},
        )
    if request is UNREADABLE:
        raise ValidationError("the request is not a valid message of this call")
    if request is None:
        raise ValidationError("the request has no message")


def _size(metadata: Metadata) -> int:
    return sum(len(key) + len(value) + _HEADER_BYTES for key, value in metadata)


class MessageTimeouts:
    """Cancels calls whose next message takes too long. Thread-safe.

    A message may take 10 seconds. When more than `many` calls wait for a message, the only message
    of a call may take 1 second, and when more than `most` wait, 0.2 seconds. Between two messages
    of a stream the client may be working, so these always have 10 seconds.
    """

    def __init__(self, *, many: int = sys.maxsize, most: int = sys.maxsize) -> None:
        self._many = many
        self._most = most
        # Its methods are atomic.
        self._awaited: dict[grpc.ServicerContext, _Awaited] = {}
        self._at_work = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="message-timeouts", daemon=True)
        self._thread.start()

    def only(self, requests: Iterator[T], context: grpc.ServicerContext) -> T | None:
        """Return the message of a call that takes one; None when the call ends without it.

        Raises grpc.RpcError when the caller disconnects, or takes too long.
        """
        return self._next(requests, context, is_only=True)

    def each(self, requests: Iterator[T], context: grpc.ServicerContext) -> Iterator[T]:
        """Yield the messages of a call that takes many.

        Raises ValidationError for one that cannot be read, and DeadlineError when one takes too
        long.
        """
        try:
            while (request := self._next(requests, context, is_only=False)) is not None:
                require_readable(request)
                yield request
        except grpc.RpcError as error:
            raise DeadlineError("the next message did not arrive in time") from error

    def close(self) -> None:
        """Stop; no call is cancelled any more."""
        self._closing.set()
        self._at_work.set()
        self._thread.join()

    def _next(
        self, requests: Iterator[T], context: grpc.ServicerContext, *, is_only: bool
    ) -> T | None:
        self._awaited[context] = (time.monotonic(), is_only)
        if not self._at_work.is_set():
            self._at_work.set()
        try:
            return next(requests, None)
        finally:
            self._awaited.pop(context, None)

    def _run(self) -> None:
        while not self._closing.wait(_LOOK_SECONDS):
            self._rest_while_idle()
            now = time.monotonic()
            awaited = list(self._awaited.items())
            seconds = self._seconds(len(awaited))
            for context, (since, is_only) in awaited:
                if now - since > (seconds if is_only else _USUAL_SECONDS):
                    context.cancel()

    def _rest_while_idle(self) -> None:
        if self._awaited:
            return
        self._at_work.clear()
        # In this order, as `_next` and `close` do it in the other one.
        if not self._awaited and not self._closing.is_set():
            self._at_work.wait()

    def _seconds(self, number: int) -> float:
        if number > self._most:
            return _SHORTEST_SECONDS
        return _SHORT_SECONDS if number > self._many else _USUAL_SECONDS
