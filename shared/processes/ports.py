"""The TCP port of a service: shared by its workers, and left by one of them without a loss.

Workers share a port by SO_REUSEPORT: each has a listening socket with a queue of its own, among
which the kernel deals out new connections. A listener that is closed resets what waits in its
queue, and what is still shaking hands. gRPC offers no other way to stop listening than to stop the
server, which also cancels calls that arrive before their clients have heard of it: at a thousand
calls a second about two at each stop. So a stop begins with the listener alone. It is found among
the descriptors of this process; the kernel is told to drop what would open further connections to
it; once its queue is empty it is closed. A client whose first packet was dropped sends it again a
second later, and then reaches another worker.

A packet filter could drop these packets too, but since Linux 6.17 only with CAP_NET_ADMIN, which a
service should not have. The least time to live that a socket accepts is an option for everybody.
"""

import os
import socket
import stat
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

_DESCRIPTORS: Final = Path("/proc/self/fd")
_INTERNET: Final = {socket.AF_INET, socket.AF_INET6}
_IPV4_MAPPED: Final = "::ffff:"
# Packets that crossed fewer routers are no connection's first: systems send those with 64 or 128,
# so a listener that asks for this gets none. Handshakes that have begun are not looked at.
_MOST_TTL: Final = 255
_IP_MINTTL: Final = 21
_IPV6_MINHOPCOUNT: Final = 73
# Handshakes that have begun end within a round trip.
_SETTLE_SECONDS: Final = 0.05
_QUEUE_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.01
_TCP_INFO: Final = struct.Struct("8B6I")
_WAITING: Final = 12


class ListenError(OSError):
    """An address cannot be listened on; the message names it."""


def written(host: str, port: int) -> str:
    """Return how an address is written: as HOST:PORT, where an IPv6 address is in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable(host: str, port: int) -> str:
    """Return where this machine reaches what listens on an address, which may be every one."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- nothing is bound here
    return written(here.get(host, host), port)


def reserved(host: str, port: int) -> socket.socket:
    """Take a port for servers that share it; 0 stands for any that is free.

    Raises ListenError when another process has it. What is returned never listens. While it is
    open, another process gets the port only by asking to share it, and not by this function.
    """
    with naming(host, port):
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        if port:
            with socket.socket(family, kind) as alone:
                # Connections that were closed a moment ago do not count.
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(address)
        bound = socket.socket(family, kind)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _bind(bound, address)
        except OSError:
            bound.close()
            raise
        return bound


def _bind(bound: socket.socket, address: tuple[Any, ...]) -> None:
    """Bind a socket that shares its port, to a port that no socket listens on."""
    try:
        bound.bind(address)
    except OSError:
        # Connections that a server has closed whose port was not shared, such as that of metrics,
        # are in the way for a minute.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)


@contextmanager
def naming(host: str, port: int) -> Iterator[None]:
    """Let an OSError of the block, which says only that an address is taken, say which one."""
    try:
        yield
    except OSError as error:
        raise ListenError(error.errno, error.strerror, written(host, port)) from error


def stop_listening(port: int) -> None:
    """Accept no more connections on a port in this process; connections under way are kept.

    Elsewhere than on Linux this does nothing.
    """
    for descriptor, sock in _tcp_sockets():
        if _listens(sock) and _port(sock) == port:
            _stop_accepting(sock, port)
            _replace(descriptor)
    _let_in(port)


def hang_up(peer: str) -> None:
    """Close the connection of a peer, which is named as gRPC names it.

    Elsewhere than on Linux this does nothing.
    """
    for _, sock in _tcp_sockets():
        if not _listens(sock) and _peer(sock) == peer:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def has_connections(port: int) -> bool:
    """Whether anybody is connected to a port of this process; elsewhere than on Linux, no."""
    return any(not _listens(sock) and _is_connected(sock, port) for _, sock in _tcp_sockets())


def _tcp_sockets() -> Iterator[tuple[int, socket.socket]]:
    """The descriptors of this process that are TCP sockets, each with a duplicate to look at."""
    names = os.listdir(_DESCRIPTORS) if sys.platform == "linux" else []  # noqa: PTH208 -- only names
    for descriptor in map(int, names):
        sock = _duplicate(descriptor)
        if sock is not None:
            with sock:
                if sock.family in _INTERNET and sock.type is socket.SOCK_STREAM:
                    yield descriptor, sock


def _duplicate(descriptor: int) -> socket.socket | None:
    # Its owner may close it at any time.
    with suppress(OSError):
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return socket.socket(fileno=os.dup(descriptor))
    return None


def _listens(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _port(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def _peer(sock: socket.socket) -> str:
    """How gRPC names the peer of a connection; empty when it has gone."""
    with suppress(OSError):
        host, port = sock.getpeername()[:2]
        host = host.removeprefix(_IPV4_MAPPED)
        return (
            f"ipv6:{quote(f'[{host}]', safe=':')}:{port}" if ":" in host else f"ipv4:{host}:{port}"
        )
    return ""


def _is_connected(sock: socket.socket, port: int) -> bool:
    with suppress(OSError):
        sock.getpeername()
        return _port(sock) == port
    return False


def _stop_accepting(listener: socket.socket, port: int) -> None:
    _require_ttl(listener, _MOST_TTL)
    settled = time.monotonic() + _SETTLE_SECONDS
    deadline = settled + _QUEUE_SECONDS
    while (now := time.monotonic()) < settled or (_waiting(listener) and now < deadline):
        time.sleep(_POLL_SECONDS)
        _let_in(port)


def _let_in(port: int) -> None:
    """Read from the connections of a port, which may have taken over what their listener asks."""
    for _, sock in _tcp_sockets():
        if not _listens(sock) and _is_connected(sock, port):
            _require_ttl(sock, 0)


def _require_ttl(sock: socket.socket, least: int) -> None:
    """Drop the packets that a socket gets with less than so much time to live."""
    # A client that has gone meanwhile, or a kernel that only looks like Linux.
    with suppress(OSError):
        # A socket for IPv6 may be one for IPv4 as well.
        sock.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, least)
        if sock.family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT, least)


def _waiting(listener: socket.socket) -> int:
    """How many connections wait in the queue of a listener."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    return int(_TCP_INFO.unpack(info)[_WAITING])


def _replace(descriptor: int) -> None:
    """Put another socket under a descriptor: gRPC, whose it is, will close it some day."""
    with socket.socket() as idle:
        os.dup2(idle.fileno(), descriptor, inheritable=False)
