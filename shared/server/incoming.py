"""What callers send: late, in pieces, never, or as no message at all.

A call has a thread from its first header on, which then waits for its message as long as the caller
likes. So somebody looks after those who are waited for, and cancels the calls of those who take too
long: sooner when there are many of them, for then they are about to hold all threads.

Headers may be far larger than what was sent: compression lets one byte stand for 4 KB, and grpcio
copies up to 16 MiB of them for each call before it asks anybody. So a call with large headers is
refused without waiting for its message, and a connection with headers that nobody means is closed,
which also ends the calls that gRPC has not told of yet.

What cannot be read as a message grpcio answers with INTERNAL, as if that were the server's fault.
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
"""Stands for what is no message of the kind that the call takes."""

TOO_LARGE: Final = object()
"""Stands for the message of a call whose metadata is too large; nobody has waited for it."""

MAX_METADATA_BYTES: Final = 16 * 1024
"""The most metadata of a call: names, values and 32 bytes each. Twice what the gateway takes."""

MOST_HEADER_BYTES: Final = 1024 * 1024
"""Headers beyond this are no mistake: gRPC refuses their call, and their connection is closed."""

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


def are_too_large(metadata: Metadata) -> bool:
    """Whether a call with this metadata is refused."""
    return _size(metadata) > MAX_METADATA_BYTES


def refused(_requests: Iterator[object], context: grpc.ServicerContext) -> object:
    """Return what stands for the message of a call whose metadata is too large, without waiting."""
    if _size(context.invocation_metadata() or ()) > MOST_HEADER_BYTES:
        hang_up(context.peer())
    return TOO_LARGE


def require_readable(request: object) -> None:
    """Raise ValidationError for what stands for a message that there is not."""
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
            raise DeadlineError("the next message did not arrive in time") from error

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
