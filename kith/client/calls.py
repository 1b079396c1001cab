"""Calls as a careful caller makes them, behind the stubs that are generated from the contracts.

A stub asks its channel for what makes a call. So a channel of our own gives every call of every
service what is to be around it, and the types of the stubs stay true but for what is raised.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import Any, Final, Generic, TypeVar

import grpc
from google.protobuf.message import Message

from kith.client import written
from kith.client.written import Positions
from kith.errors.v1 import errors_pb2
from kith.exceptions import (
    AppException,
    UnavailableError,
    details,
    from_rpc_error,
    is_status,
)
from kith.trace_context import outgoing
from kith.user_tokens import KEY as USER_TOKEN

T = TypeVar("T")
C = TypeVar("C")

UNARY = "unary_unary"


@dataclass(frozen=True, kw_only=True)
class Person:
    """The person of a session: what is sent with their calls and remembered of the answers."""

    positions: Positions | None = None
    """None to remember nothing and to read from the primary."""
    token: str | None = field(default=None, repr=False)
    """The person's own token, which a service shows besides its own."""


NO_PERSON: Final = Person()
"""Calls are not made for one person."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method of a service."""

    turn: Callable[[], Any]
    """Returns what calls it on the channel whose turn it is."""
    seconds: float | None
    """How long a call may take that says nothing else."""

    def seconds_of(self, timeout: float | None) -> float | None:
        """Return how long a call may take."""
        return self.seconds if timeout is None else timeout


class Line(Generic[C]):
    """The channels to one service, and the methods on them, for all sessions. Thread-safe."""

    def __init__(self, channels: Sequence[C], seconds: Mapping[str, float | None]) -> None:
        self.channels = channels
        self._seconds = seconds
        self._methods = dict[str, Method]()

    def method(self, kind: str, path: str, *arguments: Any, **keywords: Any) -> Method:
        """Return a method by its full path; the rest is what a channel is asked for it with."""
        if path not in self._methods:
            turns = cycle(
                [getattr(channel, kind)(path, *arguments, **keywords) for channel in self.channels]
            )
            self._methods[path] = Method(
                turn=partial(next, turns), seconds=self._usual_seconds(kind, path)
            )
        return self._methods[path]

    def _usual_seconds(self, kind: str, path: str) -> float | None:
        # How long a stream takes, its length decides.
        if kind != UNARY:
            return None
        return self._seconds.get(path.rpartition("/")[2], self._seconds[""])


class Calls(grpc.Channel):
    """What the stubs of a session make their calls on. Thread-safe."""

    def __init__(self, line: Line[grpc.Channel], person: Person = NO_PERSON) -> None:
        self._line = line
        self._person = person

    def unary_unary(self, *arguments: Any, **keywords: Any) -> Any:
        """Return a method to call."""
        return _Unary(self._line.method(UNARY, *arguments, **keywords), self._person)

    def stream_unary(self, *arguments: Any, **keywords: Any) -> Any:
        """Return a method to call."""
        return _Unary(self._line.method("stream_unary", *arguments, **keywords), self._person)

    def unary_stream(self, *arguments: Any, **keywords: Any) -> Any:
        """Return a method to call."""
        return _Streaming(self._line.method("unary_stream", *arguments, **keywords), self._person)

    def stream_stream(self, *arguments: Any, **keywords: Any) -> Any:
        """Return a method to call."""
        return _Streaming(self._line.method("stream_stream", *arguments, **keywords), self._person)

    def subscribe(self, callback: Any, try_to_connect: bool = False) -> None:  # noqa: FBT001, FBT002 -- as gRPC has it
        """Refuse: there are several channels, each with a state of its own."""
        raise NotImplementedError

    def unsubscribe(self, callback: Any) -> None:
        """Refuse, as above."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave the channels open, for they are the client's."""


class _Unary:
    """Calls a method that gives one answer."""

    def __init__(self, method: Method, person: Person) -> None:
        self._method = method
        self._person = person

    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **others: Any
    ) -> Any:
        """Call it."""
        return self.with_call(request, timeout, metadata, **others)[0]

    def with_call(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **others: Any
    ) -> Any:
        """Call it, and return the call beside the answer."""
        noting = Noting(self._person)
        sent = noting.sent(metadata)
        try:
            answer, call = self._method.turn().with_call(
                identified(request), self._method.seconds_of(timeout), sent, **others
            )
        except grpc.RpcError as error:
            raise translated(error) from error
        noting.note(call.initial_metadata())
        return answer, call

    def future(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **others: Any
    ) -> Any:
        """Call it and do not wait."""
        noting = Noting(self._person)
        sent = noting.sent(metadata)
        call = self._method.turn().future(
            identified(request), self._method.seconds_of(timeout), sent, **others
        )
        return _Future(call, noting)


class _Streaming:
    """Calls a method that gives many answers."""

    def __init__(self, method: Method, person: Person) -> None:
        self._method = method
        self._person = person

    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **others: Any
    ) -> Any:
        """Call it."""
        sent = Noting(self._person).sent(metadata)
        return _Stream(self._method.turn()(request, timeout, sent, **others))


class Noting:
    """What a call sends beside its message, and what it notes of the answer."""

    __slots__ = ("_before", "_positions", "_shown")

    def __init__(self, person: Person) -> None:
        self._positions = person.positions
        self._before = person.positions.known if person.positions else frozenset[str]()
        self._shown = () if person.token is None else ((USER_TOKEN, person.token),)

    def sent(self, given: Any) -> tuple[tuple[str, str], ...]:
        """Return what the call sends beside its message."""
        return (
            *(given or ()),
            *self._shown,
            *written.metadata(self._before),
            *(outgoing() or ()),
        )

    def note(self, answered: Iterable[tuple[str, str | bytes]] | None) -> None:
        """Remember the position in the initial metadata of the answer."""
        if self._positions is not None:
            self._positions.note(answered, before=self._before)


class _Future:
    """The answer to come, which raises what a call raises; the rest is gRPC's."""

    def __init__(self, call: Any, noting: Noting) -> None:
        self._call = call
        self._noting = noting

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the answer."""
        try:
            answer = self._call.result(timeout)
        except grpc.RpcError as error:
            raise translated(error) from error
        self._noting.note(self._call.initial_metadata())
        return answer

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end, and return what `result` raises."""
        error = self._call.exception(timeout)
        return translated(error) if isinstance(error, grpc.RpcError) else error

    def add_done_callback(self, callback: Callable[["_Future"], None]) -> None:
        """Tell of the end."""
        self._call.add_done_callback(lambda _call: callback(self))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class _Stream(Iterator[Any]):
    """The answers as they come, which raises what a call raises; the rest is gRPC's.

    It ends where its reader cancels it.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._is_cancelled = False

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except grpc.RpcError as error:
            if self._is_cancelled:
                raise StopIteration from error
            raise translated(error) from error

    def cancel(self) -> bool:
        """End it, from any thread."""
        self._is_cancelled = True
        return bool(self._call.cancel())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def identified(request: T) -> T:
    """Return a request whose repetition the service recognises, if it takes an id and has none."""
    if not isinstance(request, Message) or "request_id" not in request.DESCRIPTOR.fields_by_name:
        return request
    if getattr(request, "request_id"):  # noqa: B009 -- not every message has it
        return request
    copy = deepcopy(request)
    setattr(copy, "request_id", str(uuid.uuid4()))  # noqa: B010 -- as above
    return copy


def translated(error: grpc.RpcError) -> AppException:
    """Return what a call raises: what the service said, or what gRPC says that is not it."""
    known = from_rpc_error(error)
    if details(error) is not None or not is_status(error):
        return known
    is_unreachable = isinstance(known, UnavailableError)
    return type(known)(
        f"{error.code().name}: {error.details()}",
        reason=errors_pb2.ERROR_REASON_SERVICE_UNREACHABLE if is_unreachable else None,
    )
