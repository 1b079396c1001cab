"""Calls on grpc.aio as a careful caller makes them, behind the stubs of the contracts."""

import asyncio
from collections.abc import AsyncIterator, Generator
from typing import Any, Self

import grpc

from kith.client.calls import (
    NO_PERSON,
    UNARY,
    Line,
    Method,
    Noting,
    Person,
    identified,
    translated,
)


class Calls(grpc.aio.Channel):
    """What the stubs of a session make their calls on."""

    def __init__(self, line: Line[grpc.aio.Channel], person: Person = NO_PERSON) -> None:
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

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002 -- as gRPC has it
        """Refuse: there are several channels, each with a state of its own."""
        raise NotImplementedError

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Refuse, as above."""
        raise NotImplementedError

    async def channel_ready(self) -> None:
        """Refuse, as above: calls wait by themselves."""
        raise NotImplementedError

    async def close(self, grace: float | None = None) -> None:
        """Leave the channels open, for they are the client's."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        await self.close()


class _Unary:
    """Calls a method that gives one answer."""

    def __init__(self, method: Method, person: Person) -> None:
        self._method = method
        self._person = person

    def __call__(
        self, request: Any = None, timeout: float | None = None, metadata: Any = None, **others: Any
    ) -> Any:
        """Call it."""
        noting = Noting(self._person)
        call = self._method.turn()(
            identified(request),
            timeout=self._method.seconds_of(timeout),
            metadata=noting.sent(metadata),
            **others,
        )
        return _Answer(call, noting)


class _Streaming:
    """Calls a method that gives many answers."""

    def __init__(self, method: Method, person: Person) -> None:
        self._method = method
        self._person = person

    def __call__(
        self, request: Any = None, timeout: float | None = None, metadata: Any = None, **others: Any
    ) -> Any:
        """Call it."""
        sent = Noting(self._person).sent(metadata)
        return _Stream(self._method.turn()(request, timeout=timeout, metadata=sent, **others))


class _Answer:
    """The answer to come, which raises what a call raises; the rest is gRPC's."""

    def __init__(self, call: Any, noting: Noting) -> None:
        self._call = call
        self._noting = noting

    def __await__(self) -> Generator[Any, None, Any]:
        return self._result().__await__()

    async def _result(self) -> Any:
        try:
            answer = await self._call
        except grpc.RpcError as error:
            raise translated(error) from error
        self._noting.note(await self._call.initial_metadata())
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class _Stream:
    """The answers as they come, which raises what a call raises; the rest is gRPC's.

    It ends where its reader cancels it.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._is_cancelled = False

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    async def read(self) -> Any:
        """Wait for the next answer; grpc.aio.EOF after the last one."""
        try:
            return await self._call.read()
        except grpc.RpcError as error:
            raise translated(error) from error
        except asyncio.CancelledError:
            # Or else it is the task of the reader that is cancelled.
            if self._is_cancelled and not _is_task_cancelled():
                return grpc.aio.EOF
            raise

    def cancel(self) -> bool:
        """End it."""
        self._is_cancelled = True
        return bool(self._call.cancel())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def _is_task_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
