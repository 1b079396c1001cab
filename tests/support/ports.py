"""Ports for programs that have to be told which one to listen on."""

import os
import random
import socket
from contextlib import suppress
from itertools import cycle
from typing import Final

# Below those that systems give to outgoing connections and to listeners that ask for any, and apart
# from those of the embedded PostgreSQL: between the choice and the start of the program no other
# program takes them. Processes of one run of tests have ports apart from each other's.
_FIRST: Final = 10_000
_EACH: Final = 500
_PROCESS: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_ports: Final = cycle(random.sample(range(_FIRST, _FIRST + _EACH), _EACH))


def free_ports(number: int) -> list[int]:
    """Return different ports of 127.0.0.1 on which no server listens."""
    found = list[int]()
    while len(found) < number:
        port = next(_ports) + _PROCESS * _EACH
        with suppress(OSError), socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            found.append(port)
    return found


def free_port() -> int:
    """Return one of them."""
    [port] = free_ports(1)
    return port
