"""A TCP proxy in front of PostgreSQL that sees every message a client sends.

Counting on the wire counts what really costs a round trip: also the BEGIN and COMMIT that drivers
send by themselves. A test can also stop a chosen statement before it reaches the server or before
its answer reaches the client.
"""

import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, Self

from shared.database.database import BACKGROUND

_SIMPLE_QUERY = ord("Q")
_PARSE = ord("P")
_PREPARE = re.compile(r"PREPARE (\w+) AS ([^;]*); ")
# Found by its letters: a boundary before them would be looked for everywhere.
_EXECUTE = re.compile(r"EXECUTE (\w+)")

Hook = Callable[[str], None]


class WireTap:
    """Listens on a port of its own and passes everything on to `host:port`."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._statements: list[str] = []
        self._sockets: list[socket.socket] = []
        self.before_statement: Hook = lambda _statement: None
        self.after_statement: Hook = lambda _statement: None
        self.rewritten: Callable[[str], str] | None = None
        """What the server is sent instead of a message of statements; None for the same."""
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and break every connection."""
        # Closing alone would leave the accepting thread in the kernel, and with it the port.
        with _ignoring_closed():
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.break_connections()

    def break_connections(self) -> None:
        """Break every open connection, as a crash of the server or the network would."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        with _hung_up(*sockets):
            pass

    def reset(self) -> None:
        """Forget the statements seen so far."""
        with self._lock:
            self._statements.clear()

    @property
    def statements(self) -> list[str]:
        """The statements sent since the last reset, BEGIN, COMMIT and ROLLBACK among them."""
        with self._lock:
            return list(self._statements)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._sockets += [client, server]
            pending: list[str] = []
            threading.Thread(
                target=self._forward, args=(client, server, pending), daemon=True
            ).start()
            threading.Thread(
                target=self._answer, args=(server, client, pending), daemon=True
            ).start()

    def _forward(self, client: socket.socket, server: socket.socket, pending: list[str]) -> None:
        # One look at the socket for a whole message: each lets other threads have the interpreter.
        with _ignoring_closed(), _hung_up(client, server), client.makefile("rb") as sent:
            startup = _read(sent, 4)
            parameters = _read(sent, struct.unpack(">i", startup)[0] - 4)
            # What is done beside the calls has sessions of its own, which no call is charged with.
            is_counted = BACKGROUND.encode() not in parameters
            prepared: dict[str, str] = {}
            server.sendall(startup + parameters)
            while True:
                head = _read(sent, 5)
                body = _read(sent, struct.unpack(">i", head[1:])[0] - 4)
                if is_counted and head[0] in (_SIMPLE_QUERY, _PARSE):
                    statement = _in_full(body.split(b"\0")[0].decode(), prepared)
                    with self._lock:
                        self._statements.append(statement)
                    self.before_statement(statement)
                    pending.append(statement)
                if self.rewritten is not None and head[0] in (_SIMPLE_QUERY, _PARSE):
                    head, body = _rewritten(head, body, self.rewritten)
                server.sendall(head + body)

    def _answer(self, server: socket.socket, client: socket.socket, pending: list[str]) -> None:
        with _ignoring_closed(), _hung_up(client, server):
            while data := server.recv(65536):
                if pending:
                    self.after_statement(pending.pop())
                client.sendall(data)


@contextmanager
def _hung_up(*sockets: socket.socket) -> Iterator[None]:
    """Ends connections after the block, also those on which another thread is waiting."""
    try:
        yield
    finally:
        for sock in sockets:
            # Closing alone would not reach the other side while a thread is in recv.
            with _ignoring_closed():
                sock.shutdown(socket.SHUT_RDWR)
        for sock in sockets:
            sock.close()


class _ignoring_closed:  # noqa: N801 -- used as a function
    """Passes over the errors of sockets that the other side has closed."""

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: type[BaseException] | None, error: object, _tb: object) -> bool:
        return isinstance(error, OSError | EOFError | struct.error)


def _in_full(message: str, prepared: dict[str, str]) -> str:
    """Return a message with its statements in full, which the client sends only the first time."""
    prepared.update(_PREPARE.findall(message))
    executions = _PREPARE.sub("", message)
    return _EXECUTE.sub(lambda found: _prepared(found[1], prepared), executions)


def _prepared(name: str, prepared: dict[str, str]) -> str:
    return f"PREPARE {name} AS {prepared[name]}" if name in prepared else f"EXECUTE {name}"


def _rewritten(head: bytes, body: bytes, rewrite: Callable[[str], str]) -> tuple[bytes, bytes]:
    body = rewrite(body.decode()).encode()
    return head[:1] + struct.pack(">i", len(body) + 4), body


def _read(sent: BinaryIO, size: int) -> bytes:
    data = sent.read(size)
    if len(data) < size:
        raise EOFError
    return data
