"""Requests over HTTP/2, also such as no library would send."""

import base64
import socket
import struct
from collections.abc import Iterator
from typing import Final, TypeAlias

from hpack import Decoder, Encoder

Header: TypeAlias = tuple[str, str | bytes]

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS = 0, 1, 3, 4
_END_STREAM, _END_HEADERS = 1, 4
_FRAME: Final = struct.Struct(">BHBBI")
_SECONDS: Final = 20
# What is before each message of gRPC: whether it is compressed, and its length.
_PREFIX: Final = struct.Struct(">BI")


EMPTY_SETTINGS: Final = _FRAME.pack(0, 0, _SETTINGS, 0, 0)
"""A frame by which either side begins a connection."""


def body_over_http2(port: int, *headers: Header, ends: bool = True, sent: bytes = b"") -> bytes:
    """Send a request, and return the body of its answer.

    It is empty as well where the stream is reset before an answer. `ends` is whether the request is
    complete with its headers, or with the body that is `sent`.
    """
    return _answer(port, *headers, ends=ends, sent=sent)[0]


def _answer(port: int, *headers: Header, ends: bool, sent: bytes) -> tuple[bytes, dict[str, str]]:
    """Return the body of an answer, and its headers and trailers."""
    # It takes bytes that are not legal too.
    block = Encoder().encode(headers, huffman=False)
    end = _END_STREAM if ends else 0
    request = _frame(_HEADERS, _END_HEADERS | (0 if sent else end), 1, block)
    if sent:
        request += _frame(_DATA, end, 1, sent)
    body, answered, decoder = b"", dict[str, str](), Decoder()
    with socket.create_connection(("127.0.0.1", port), timeout=_SECONDS) as peer:
        peer.sendall(_PREFACE + EMPTY_SETTINGS + request)
        for kind, frame_flags, stream, payload in _frames(peer):
            if kind == _DATA:
                body += payload
            if kind == _HEADERS:
                answered |= {str(name): str(value) for name, value in decoder.decode(payload)}
            if stream and (kind == _RESET or frame_flags & _END_STREAM):
                break
    return body, answered


def messages_over_grpc(
    port: int, path: str, request: bytes, *headers: Header
) -> list[tuple[bool, bytes]]:
    """Make a call with further headers; return each message, and whether it is compressed."""
    body, _ = _call(port, path, request, *headers)
    messages = []
    while body:
        flag, length = _PREFIX.unpack_from(body)
        end = _PREFIX.size + length
        messages.append((flag == 1, body[_PREFIX.size : end]))
        body = body[end:]
    return messages


def status_over_grpc(port: int, path: str, request: bytes, *headers: Header) -> tuple[str, bytes]:
    """Make a call with further headers; return its grpc-status, and the details of its error."""
    _, answered = _call(port, path, request, *headers)
    details = answered.get("grpc-status-details-bin", "")
    return answered.get("grpc-status", ""), base64.b64decode(details + "==")


def _call(port: int, path: str, request: bytes, *headers: Header) -> tuple[bytes, dict[str, str]]:
    return _answer(
        port,
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *headers,
        ends=True,
        sent=_PREFIX.pack(0, len(request)) + request,
    )


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _FRAME.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def _frames(peer: socket.socket) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield the kind, flags, stream and payload of each frame."""
    with peer.makefile("rb") as stream:
        while head := stream.read(_FRAME.size):
            high, low, kind, flags, number = _FRAME.unpack(head)
            yield kind, flags, number, stream.read(high << 16 | low)
