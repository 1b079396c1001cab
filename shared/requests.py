"""What callers send: late, in pieces, never, or as no message at all.

A call has a thread from its first header on, which then waits for its message as long as the caller
likes. So somebody looks after those who are waited for, and cancels the calls of those who take too
long: sooner when there are many of them, for then they are about to hold all threads.

Headers may be far larger than what was sent: compression lets one byte stand for 4 KB. gRPC refuses
them, but not before grpcio has copied them all, and then waits for the message as well.

What cannot be read as a message grpcio answers with INTERNAL, as if that were the server's fault.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError

from kith.exceptions import DeadlineError, ValidationError

T = TypeVar("T")
_Awaited: TypeAlias = tuple[float, bool]

UNREADABLE: Final = object()
"""Stands for what is no message of the kind that the call takes."""

MAX_METADATA_BYTES: Final = 16 * 1024
"""The largest headers of a call, all together; twice what the gateway lets through."""

# What HTTP/2 counts for each header beside its name and value.
_HEADER_BYTES: Final = 32
_PATIENCE_SECONDS: Final = 10.0
_SHORT_SECONDS: Final = 1.0
# Of a caller who means well the message comes with the header.
_SHORTEST_SECONDS: Final = 0.2
_LOOK_SECONDS: Final = 0.1


def reading(deserialize: Callable[[bytes], T] | None) -> Callable[[bytes], T | object] | None:
    """Return what reads messages, and returns UNREADABLE for what is none."""
    if deserialize is None:
        return None

    def read(data: bytes) -> T | object:
        try:
            return deserialize(data)
        except DecodeError:
            return UNREADABLE

    return read


def are_too_large(metadata: Sequence[tuple[str, str | bytes]]) -> bool:
    """Whether headers are larger than gRPC lets through; it has refused their call already."""
    size = len(metadata) * _HEADER_BYTES
    if size <= MAX_METADATA_BYTES:
        size += sum(len(key) + len(value) for key, value in metadata)
    return size > MAX_METADATA_BYTES


def require_readable(request: object) -> None:
    """Raise ValidationError for what stands for a message that there is not."""
    if request is UNREADABLE:
        raise ValidationError("the request is not a message of the kind that this call takes")
    if request is None:
        raise ValidationError("the request has no message")


class Patience:
    """Looks after the messages that threads wait for. Thread-safe.

    When more than `many` are waited for, it is short with the only ones of their calls, and when
    more than `most`, very short. Between two of many, a caller may have something to do.
    """

    def __init__(self, *, many: int = sys.maxsize, most: int = sys.maxsize) -> None:
        self._many = many
        self._most = most
        # Its methods are atomic.
        self._awaited: dict[grpc.ServicerContext, _Awaited] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="patience", daemon=True)
        self._thread.start()

    def only(self, requests: Iterator[T], context: grpc.ServicerContext) -> T | None:
        """Return the message of a call that takes one; None when it ends without.

        Raises grpc.RpcError when the caller goes away, or takes too long.
        """
        return self._next(requests, context, is_only=True)

    def each(self, requests: Iterator[T], context: grpc.ServicerContext) -> Iterator[T]:
        """Yield the messages of a call that takes many.

        Raises ValidationError for what is none, and DeadlineError when one takes too long.
        """
        try:
            while (request := self._next(requests, context, is_only=False)) is not None:
                require_readable(request)
                yield request
        except grpc.RpcError as error:
            raise DeadlineError("the next message did not come") from error

    def close(self) -> None:
        """Look after nobody any more."""
        self._closing.set()
        self._thread.join()

    def _next(
        self, requests: Iterator[T], context: grpc.ServicerContext, *, is_only: bool
    ) -> T | None:
        self._awaited[context] = (time.monotonic(), is_only)
        try:
            return next(requests, None)
        finally:
            self._awaited.pop(context, None)

    def _run(self) -> None:
        while not self._closing.wait(_LOOK_SECONDS):
            now = time.monotonic()
            awaited = list(self._awaited.items())
            patience = self._patience(len(awaited))
            for context, (since, is_only) in awaited:
                if now - since > (patience if is_only else _PATIENCE_SECONDS):
                    context.cancel()

    def _patience(self, number: int) -> float:
        if number > self._most:
            return _SHORTEST_SECONDS
        return _SHORT_SECONDS if number > self._many else _PATIENCE_SECONDS
