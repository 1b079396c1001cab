"""Fetching a document over HTTP within one time limit, also from a slow server.

The timeouts of `urllib` are for each step: a server that sends a byte a second never meets one.
"""

import io
import socket
import time
import urllib.request
from functools import partial
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import Any, TypeVar

_Connection = TypeVar("_Connection", bound="_TimedConnection")


def fetched(url: str, *, seconds: float, max_bytes: int) -> bytes:
    """Return the document at a URL; raises OSError, HTTPException, or ValueError if it is larger.

    To connect, to encrypt, the headers and the body all have to come within the time. Two waits
    cannot be cut short: looking up the name, and the second address of a host whose first is mute.
    So no call should wait for the thread that fetches.
    """
    until = time.monotonic() + seconds
    with _opener(until).open(url, timeout=seconds) as response:
        document: bytes = response.read(max_bytes + 1)
    if len(document) > max_bytes:
        raise ValueError(f"it is larger than {max_bytes:,} bytes")
    return document


def _opener(until: float) -> urllib.request.OpenerDirector:
    """Return what follows redirects and takes proxies, but to HTTP alone: FTP has no time limit."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        _TimedHandler(until),
        _TimedTlsHandler(until),
    ):
        opener.add_handler(handler)
    return opener


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("it took too long")
    return left


class _TimedReader(io.RawIOBase):
    """What a socket receives until a moment."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._socket = sock
        self._received = sock.makefile("rb", buffering=0)
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        self._socket.settimeout(_left(self._until))
        return self._received.readinto(buffer)

    def close(self) -> None:
        self._received.close()
        super().close()


class _TimedResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, until: float, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp.close()
        self.fp = io.BufferedReader(_TimedReader(sock, until))


class _TimedConnection(HTTPConnection):
    until: float

    def connect(self) -> None:
        self.timeout = _left(self.until)
        super().connect()
        # Of the encryption that may follow.
        self.sock.settimeout(_left(self.until))


class _TimedTlsConnection(HTTPSConnection, _TimedConnection):
    pass


class _TimedHandler(urllib.request.HTTPHandler):
    def __init__(self, until: float) -> None:
        super().__init__()
        self._until = until

    def http_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(partial(_timed, _TimedConnection, self._until), req)


class _TimedTlsHandler(urllib.request.HTTPSHandler):
    def __init__(self, until: float) -> None:
        super().__init__()
        self._until = until

    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(partial(_timed, _TimedTlsConnection, self._until), req)


def _timed(kind: type[_Connection], until: float, /, *arguments: Any, **named: Any) -> _Connection:
    connection = kind(*arguments, **named)
    connection.until = until
    connection.response_class = partial(_TimedResponse, until=until)  # type: ignore[assignment]  # it makes responses, as a class does
    return connection
