"""Learns which statements the services send, by listening between them and PostgreSQL.

So the baselines and the measurements of SQL run exactly what the services run at present: the text
of each statement as it is on the wire, the prepared statements and settings of a session, and the
options it was opened with. What is done beside the calls, and by health checks, is left out.
"""

import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import sqlalchemy

from benchmarks.dataset import Session, connect
from shared.database.database import BACKGROUND

_QUERY: Final = ord("Q")
# Nothing yet, or asking for TLS or for GSSAPI, which the embedded server declines.
_ENCRYPTION: Final = (b"", struct.pack(">i", 80877103), struct.pack(">i", 80877104))
_SETUP: Final = re.compile(r"\s*(PREPARE|SET)\b", re.IGNORECASE)
# The Reader sends both in one message when it uses a statement on a connection for the first time.
_PREPARE_AND_EXECUTE: Final = re.compile(r"(?is)\s*(PREPARE\s+(\w+)\b.*);\s*(EXECUTE\s+\2\b.*)")
# What a call has left of its time, with each of its statements: another at every call.
_TIME_LEFT: Final = re.compile(r"^SET LOCAL statement_timeout = \d+;\s*")
_PREPARE: Final = re.compile(r"(?is)\s*PREPARE\s+(\w+)\s*(?:\(([^)]*)\))?\s+AS\s+(.*)")
_EXECUTE: Final = re.compile(r"(?is)\s*EXECUTE\s+(\w+)\s*(?:\((.*)\))?\s*;?\s*$")
_PLACEHOLDER: Final = re.compile(r"\$(\d+)")
_SIMPLE_LITERAL: Final = re.compile(r"'((?:[^'\\]|'')*)'(?:::\w+)?|(-?\d+)")
_BESIDE_CALLS: Final = (
    # Health checks.
    "alembic_version",
    "has_citus",
    "distributed_tables",
    # What feed_service asks of suspensions every second.
    "all_suspended_ids",
)


@dataclass(frozen=True, kw_only=True)
class Unprepared:
    """SQL as one would hand it to SQLAlchemy: with names for its parameters, if it has any."""

    sql: str
    parameters: dict[str, str | int]


@dataclass(frozen=True, kw_only=True)
class Sessions:
    """How a service opens its sessions with a database."""

    url: str
    options: str
    setup: list[str]

    def open(self) -> Session:
        """Open a session of psycopg2 in the same state."""
        session = connect(self.url, options=self.options)
        with session.cursor() as cursor:
            for statement in self.setup:
                cursor.execute(statement)
        return session

    def unprepared(self, statement: str) -> "Unprepared":
        """Return the SQL behind the execution of a prepared statement; any other is its own."""
        executed = _EXECUTE.match(statement)
        if executed is None:
            return Unprepared(sql=statement, parameters={})
        for prepared in map(_PREPARE.match, self.setup):
            if prepared is not None and prepared[1] == executed[1]:
                types = [name.strip() for name in (prepared[2] or "").split(",")]
                return _bound(prepared[3], types, list(_literals(executed[2] or "")))
        raise LookupError(executed[1])

    def as_json(self) -> dict[str, Any]:
        """Return what another process needs to open the same sessions."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What one call sent, to each database in order."""

    graph: list[str]
    feed: list[str]


class Tap:
    """A way to a database that notes the statements passing by."""

    def __init__(self, url: str) -> None:
        parsed = sqlalchemy.make_url(url)
        self._direct_url = url
        self._target = (parsed.host or "127.0.0.1", parsed.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = parsed.set(port=self._listener.getsockname()[1]).render_as_string(
            hide_password=False
        )
        self._lock = threading.Lock()
        self._setup: dict[str, None] = {}
        self._statements: list[str] = []
        self._options = ""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections; those there are end with the services."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def sessions(self) -> Sessions:
        """How the sessions so far were opened."""
        with self._lock:
            return Sessions(url=self._direct_url, options=self._options, setup=list(self._setup))

    def take(self) -> list[str]:
        """Return the statements since the last time."""
        with self._lock:
            taken, self._statements = self._statements, []
        return taken

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            for work in ((self._listen, client, server), (_pass_on, server, client)):
                threading.Thread(target=work[0], args=work[1:], daemon=True).start()

    def _listen(self, client: socket.socket, server: socket.socket) -> None:
        with _closing(client, server), client.makefile("rb") as messages:
            parameters = b""
            while parameters[:4] in _ENCRYPTION:
                head = _exactly(messages, 4)
                parameters = _exactly(messages, struct.unpack(">i", head)[0] - 4)
                server.sendall(head + parameters)
            options = _option(parameters)
            is_of_calls = BACKGROUND.encode() not in parameters
            while True:
                head = _exactly(messages, 5)
                body = _exactly(messages, struct.unpack(">i", head[1:])[0] - 4)
                if is_of_calls and head[0] == _QUERY:
                    self._note(_TIME_LEFT.sub("", body.rstrip(b"\0").decode()), options)
                server.sendall(head + body)

    def _note(self, message: str, options: str) -> None:
        both = _PREPARE_AND_EXECUTE.fullmatch(message)
        setup = both[1] if both else message if _SETUP.match(message) else ""
        statement = both[3] if both else "" if setup else message
        with self._lock:
            if setup:
                self._setup[setup] = None
            # Of several kinds of sessions, the hot reads have those in which they are prepared.
            if setup or not self._setup:
                self._options = options
            if statement and not any(name in statement for name in _BESIDE_CALLS):
                self._statements.append(statement)


class Taps:
    """A tap for each of the two databases."""

    def __init__(self, *, graph_url: str, feed_url: str) -> None:
        self.graph = Tap(graph_url)
        self.feed = Tap(feed_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.graph.close()
        self.feed.close()

    def sent_by(self, call: Callable[[], object]) -> Sent:
        """Make a call and return the statements that it sent."""
        self.graph.take()
        self.feed.take()
        call()
        return Sent(graph=self.graph.take(), feed=self.feed.take())


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with _closing(source, sink):
        while data := source.recv(65536):
            sink.sendall(data)


@contextmanager
def _closing(*sockets: socket.socket) -> Iterator[None]:
    with ExitStack() as stack:
        for sock in sockets:
            stack.callback(sock.close)
            stack.callback(_shut_down, sock)
        with suppress(OSError, EOFError):
            yield


def _shut_down(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _exactly(messages: Any, size: int) -> bytes:
    data: bytes = messages.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _option(parameters: bytes) -> str:
    """Return the command-line options in the message that opens a session."""
    parts = parameters[4:].split(b"\0")
    pairs: Mapping[bytes, bytes] = dict(zip(parts[::2], parts[1::2], strict=False))
    return pairs.get(b"options", b"").decode()


def _bound(sql: str, types: list[str], literals: list[str]) -> Unprepared:
    parameters: dict[str, str | int] = {}

    def numbered(found: re.Match[str]) -> str:
        number = int(found[1]) - 1
        simple = _SIMPLE_LITERAL.fullmatch(literals[number])
        value = literals[number]
        if simple is not None:
            name = f"p{number}"
            parameters[name] = int(simple[2]) if simple[2] else simple[1].replace("''", "'")
            value = f":{name}"
        type_ = types[number] if number < len(types) else ""
        return f"CAST({value} AS {type_})" if type_ else value

    return Unprepared(sql=_PLACEHOLDER.sub(numbered, sql), parameters=parameters)


def _literals(arguments: str) -> Iterator[str]:
    """Split the arguments of an EXECUTE at its commas, but those in texts and in brackets."""
    start, depth, in_text = 0, 0, False
    for index, character in enumerate(arguments):
        if character == "'":
            in_text = not in_text
        elif not in_text and character in "([":
            depth += 1
        elif not in_text and character in ")]":
            depth -= 1
        elif character == "," and not in_text and depth == 0:
            yield arguments[start:index].strip()
            start = index + 1
    if arguments.strip():
        yield arguments[start:].strip()
