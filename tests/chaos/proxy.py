"""A TCP proxy that can fail in every way a network can."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Self

_CHUNK_BYTES = 65_536


class FaultProxy:
    """Listens on a port of its own and passes everything on to `host:port`, as it is told to.

    Told from any thread; what is under way in a connection feels it at once.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._delay_seconds = 0.0
        self._passes, self._is_prompt = asyncio.Event(), asyncio.Event()
        self._passes.set()
        self._is_prompt.set()
        self._server: asyncio.Server | None = None
        self._writers = set[asyncio.StreamWriter]()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = 0
        self._do(self._listen)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.heal()
        self.refuse()
        self._do(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def heal(self) -> None:
        """Pass everything on again, also what was kept back."""
        self._delay_seconds = 0.0
        self._do(self._is_prompt.set)
        self._do(self._passes.set)
        self._do(self._listen)

    def swallow(self) -> None:
        """Be a black hole: connections stay open and new ones are taken, but nothing arrives."""
        self._do(self._passes.clear)

    def delay(self, seconds: float) -> None:
        """Let everything arrive so much later, either way."""
        self._delay_seconds = seconds
        self._do(self._is_prompt.clear)

    def refuse(self) -> None:
        """Break every connection, and take no new ones."""
        self._do(self._stop_listening)
        self.break_connections()

    def break_connections(self) -> None:
        """Break every connection."""
        self._do(self._abort)

    def _do(self, work: "Callable[[], object]") -> None:
        async def do() -> None:
            made = work()
            if asyncio.iscoroutine(made):
                await made

        asyncio.run_coroutine_threadsafe(do(), self._loop).result()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _end(self) -> None:
        """Wait for those whose connections have been broken."""
        if tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(there_writer)
        ways = [self._pass(reader, there_writer), self._pass(there_reader, writer)]
        tasks = [asyncio.ensure_future(way) for way in ways]
        # A side that hangs up has hung up on both.
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for each in (writer, there_writer):
            each.close()
        self._writers -= {writer, there_writer}

    async def _wait(self, due: float) -> None:
        if not self._is_prompt.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_prompt.wait(), max(0, due - time.monotonic()))
        await self._passes.wait()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what arrives, in its order, each part as late as is asked for."""
        parts = deque[tuple[float, bytes]]()
        arrived = asyncio.Event()

        async def read() -> None:
            data = b"more"
            while data:
                try:
                    data = await reader.read(_CHUNK_BYTES)
                except OSError:
                    data = b""
                parts.append((time.monotonic() + self._delay_seconds, data))
                arrived.set()

        reading = asyncio.ensure_future(read())
        try:
            while True:
                await arrived.wait()
                arrived.clear()
                while parts:
                    due, data = parts.popleft()
                    await self._wait(due)
                    if not data:
                        return
                    writer.write(data)
                    await writer.drain()
        except OSError:
            return
        finally:
            reading.cancel()
