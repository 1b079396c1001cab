"""Headers that are small when they are sent and large when they are read."""

import contextlib
import socket
import struct
from typing import Final

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS: Final = 4
_HEADERS: Final = 1
_END_HEADERS: Final = 4
# POST, http, an authority of `x`, and what gRPC wants to see.
_COMMON: Final = b"\x83\x86\x01\x01x\x00\x0ccontent-type\x10application/grpc\x00\x02te\x08trailers"
_LARGE: Final = 3_900
# The length of 3,900 bytes as HPACK writes it, in a header that is to be remembered.
_REMEMBERED: Final = b"\x40\x04xbig\x7f\xbd\x1d" + b"z" * _LARGE
_THE_SAME_AGAIN: Final = b"\xbe"


def expand_headers(port: int, path: str, *, calls: int, times: int) -> socket.socket:
    """Open calls, each with one header of 3.9 KB so many times, and send no messages.

    Returns the connection. A server that has enough closes it, before all is sent as well.
    """
    peer = socket.create_connection(("127.0.0.1", port))
    peer.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b""))
    start = _COMMON + b"\x04" + bytes([len(path)]) + path.encode()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for number in range(calls):
            block = start + (_REMEMBERED if number == 0 else b"") + _THE_SAME_AGAIN * times
            peer.sendall(_frame(_HEADERS, _END_HEADERS, 2 * number + 1, block))
    return peer


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload
