"""Requests over HTTP/2, also such as no library would send."""

import socket
import struct
from collections.abc import Iterator
from typing import Final

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS = 0, 1, 3, 4
_END_STREAM, _END_HEADERS = 1, 4
_FRAME: Final = struct.Struct(">BHBBI")
_SECONDS: Final = 20


def body_over_http2(port: int, *headers: tuple[str, str], ends: bool = True) -> bytes:
    """Send a request that is headers alone, and return the body of its answer.

    It is empty as well where the stream is reset before an answer. `ends` is whether the request is
    complete with its headers.
    """
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in headers)
    flags = _END_HEADERS | (_END_STREAM if ends else 0)
    body = b""
    with socket.create_connection(("127.0.0.1", port), timeout=_SECONDS) as peer:
        peer.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b"") + _frame(_HEADERS, flags, 1, block))
        for kind, frame_flags, stream, payload in _frames(peer):
            if kind == _DATA:
                body += payload
            if stream and (kind == _RESET or frame_flags & _END_STREAM):
                break
    return body


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _FRAME.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def _frames(peer: socket.socket) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield the kind, flags, stream and payload of each frame."""
    with peer.makefile("rb") as stream:
        while head := stream.read(_FRAME.size):
            high, low, kind, flags, number = _FRAME.unpack(head)
            yield kind, flags, number, stream.read(high << 16 | low)
