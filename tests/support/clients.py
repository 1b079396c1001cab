"""The two clients in Python, both called without await, so that one test is for both."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final, Self

import kith.client
from kith.client import aio

_CEILING_SECONDS: Final = 60


class ThreadsLibrary:
    """`kith.client` itself."""

    KithClient = kith.client.KithClient
    items = staticmethod(kith.client.items)
    pages = staticmethod(kith.client.pages)
    resumed = staticmethod(kith.client.resumed)
    imported = staticmethod(kith.client.imported)


class AioLibrary:
    """`kith.client.aio` with what it awaits in an event loop of its own."""

    def __init__(self, loop: "_Loop") -> None:
        self._loop = loop

    @property
    def KithClient(self) -> Any:  # noqa: N802 -- stands for the class
        """The client."""
        return _Made(self._loop)

    def items(self, call: "_Method", *arguments: Any) -> Iterator[Any]:
        """As of the client."""
        return self._loop.iterated(lambda: aio.items(call.method, *arguments))

    def pages(self, call: "_Method", *arguments: Any) -> Iterator[Any]:
        """As of the client."""
        return self._loop.iterated(lambda: aio.pages(call.method, *arguments))

    def resumed(self, call: "_Method", *arguments: Any) -> Iterator[Any]:
        """As of the client."""
        return self._loop.iterated(lambda: aio.resumed(call.method, *arguments))

    def imported(self, call: "_Method", message: Any) -> Any:
        """As of the client."""
        return self._loop.run(aio.imported(call.method, message))


@contextmanager
def running_aio_library() -> Iterator[AioLibrary]:
    """Run an event loop for the block."""
    loop = _Loop()
    thread = threading.Thread(target=loop.loop.run_forever)
    thread.start()
    try:
        yield AioLibrary(loop)
    finally:
        loop.run(loop.loop.shutdown_asyncgens())
        loop.loop.call_soon_threadsafe(loop.loop.stop)
        thread.join(_CEILING_SECONDS)
        loop.loop.close()


class _Loop:
    """An event loop in a thread. What it runs has the context variables of the caller."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def start(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.start(work).result(_CEILING_SECONDS)

    def made(self, make: Callable[[], Any]) -> Any:
        async def make_here() -> Any:
            return make()

        return self.run(make_here())

    def iterated(self, make: Callable[[], Any]) -> "_Iterator":
        return _Iterator(self, self.made(make))


class _Iterator(Iterator[Any]):
    def __init__(self, loop: _Loop, iterable: Any) -> None:
        self._loop = loop
        self._iterable = iterable
        self._iterator: Any = loop.made(iterable.__aiter__)

    def __next__(self) -> Any:
        try:
            return self._loop.run(_next(self._iterator))
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        self._loop.run(self._iterator.aclose())

    def cancel(self) -> Any:
        return self._loop.made(self._iterable.cancel)


class _Method:
    def __init__(self, loop: _Loop, method: Any) -> None:
        self._loop = loop
        self.method = method

    def __call__(self, request: Any, **keywords: Any) -> Any:
        async def call() -> Any:
            made = self.method(request, **keywords)
            return await made if isinstance(made, Awaitable) else made

        answer = self._loop.run(call())
        return _Iterator(self._loop, answer) if hasattr(answer, "__aiter__") else answer

    def future(self, request: Any, **keywords: Any) -> "Future[Any]":
        async def call() -> Any:
            return await self.method(request, **keywords)

        return self._loop.start(call())


class _Stub:
    def __init__(self, loop: _Loop, stub: Any) -> None:
        self._loop = loop
        self._stub = stub

    def __getattr__(self, name: str) -> _Method:
        return _Method(self._loop, getattr(self._stub, name))


class _Session:
    def __init__(self, loop: _Loop, session: aio.Session) -> None:
        self._session = session
        self.graph = _Stub(loop, session.graph)
        self.feed = _Stub(loop, session.feed)

    @property
    def positions(self) -> dict[str, list[str]]:
        return self._session.positions


class _Client:
    def __init__(self, loop: _Loop, client: aio.KithClient) -> None:
        self._loop = loop
        self._client = client
        self.graph = _Stub(loop, client.graph)
        self.feed = _Stub(loop, client.feed)

    def session(self, **keywords: Any) -> _Session:
        return _Session(self._loop, self._client.session(**keywords))

    def close(self) -> None:
        self._loop.run(self._client.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()


class _Made:
    """The class of the client, which makes clients in the event loop."""

    def __init__(self, loop: _Loop) -> None:
        self._loop = loop

    def __call__(self, **keywords: Any) -> _Client:
        return _Client(self._loop, self._loop.made(lambda: aio.KithClient(**keywords)))

    def from_environment(self, **keywords: Any) -> _Client:
        client = self._loop.made(lambda: aio.KithClient.from_environment(**keywords))
        return _Client(self._loop, client)


async def _next(iterator: Any) -> Any:
    return await anext(iterator)
