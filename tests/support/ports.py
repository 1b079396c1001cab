"""Ports for programs that have to be told which one to listen on."""

import os
import random
import socket
from contextlib import suppress
from itertools import cycle
from typing import Final
from zlib import crc32

# Below those that systems give to outgoing connections and to listeners that ask for any, and apart
# from those of the embedded PostgreSQL: between the choice and the start of the program no other
# program takes them. Processes of one run of tests have ports apart from each other's, and mostly
# from those of another run on the machine.
_FIRST: Final = 10_000
_EACH: Final = 500
_BLOCKS: Final = 20
_RUN: Final = crc32(os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid())).encode())
_PROCESS: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_START: Final = _FIRST + (_RUN + _PROCESS) % _BLOCKS * _EACH
_ports: Final = cycle(random.sample(range(_START, _START + _EACH), _EACH))


def free_ports(number: int) -> list[int]:
    """Return different ports of 127.0.0.1 on which no server listens."""
    found = list[int]()
    while len(found) < number:
        port = next(_ports)
        with suppress(OSError), socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            found.append(port)
    return found


def free_port() -> int:
    """Return one of them."""
    [port] = free_ports(1)
    return port
