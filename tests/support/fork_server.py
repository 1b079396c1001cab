"""Forks processes that run Kith's programs, off one process that has imported them already.

fork_server.py SOCKET, started by `programs`, which says why

It starts no thread, opens no channel and connects to nothing before it forks, because of these a
fork would take a half. What it forks is the interpreter that `python -m MODULE` would be, and ends
as that one would. It ends with the process that started it, and with it all that it has forked.
"""

import ctypes
import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Final, Self

_REQUEST_BYTES: Final = 1 << 20
_STANDARD: Final = (0, 1, 2)
_PR_SET_PDEATHSIG: Final = 1
# What tests start most. Nothing of `tests`, which would take its libraries along.
_PROGRAMS: Final = (
    "feed_service.__main__",
    "feed_service.auditor.__main__",
    "graph_service.__main__",
    "graph_service.fence_registrations",
    "kith.cli.__main__",
    "shared.cli.__main__",
    "shared.server.probe",
)
# What they import only when they need it.
_LATER: Final = (
    "feed_service.boto_session",
    "limits.storage",
    "shared.access.tokens",
    "shared.cli.doctor",
    "shared.cli.gateway",
    "shared.cli.schemas",
    "shared.cli.shards",
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """A program to run: `python -m module arguments` in a folder, with such an environment."""

    module: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: str

    def written(self) -> bytes:
        """Return it as a message, with which go its standard files and a socket for answers."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def read(cls, message: bytes) -> Self:
        """Return what a message asks for."""
        return cls(**json.loads(message))

    def run(self) -> None:
        """Become the program; the interpreter then ends as it would have by itself."""
        os.chdir(self.folder)
        sys.argv = [self.module, *self.arguments]
        sys.path[0] = self.folder
        os.environ.clear()
        os.environ.update(self.environment)
        runpy.run_module(self.module, run_name="__main__", alter_sys=True)


@dataclass(frozen=True, kw_only=True)
class _Child:
    pid: int
    pidfd: int
    answers: socket.socket

    def forget(self) -> None:
        self.answers.close()
        os.close(self.pidfd)


def main() -> None:
    """Fork until the other end of the socket is closed; in a child, run what was asked for."""
    gc.disable()
    _import_programs()
    # Memory that no garbage collection touches stays shared with all children.
    gc.freeze()
    library = ctypes.CDLL(None)
    parent = os.getpid()
    request = _serve(socket.socket(fileno=int(sys.argv[1])))
    if request is None:
        return
    library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the fork server has gone already")
    gc.enable()
    request.run()


def _import_programs() -> None:
    for name in (*_LATER, *_PROGRAMS):
        import_module(name)
    for name in _PROGRAMS:
        # `runpy` runs it once more, and warns where it is imported already.
        del sys.modules[name]


def _serve(requests: socket.socket) -> Request | None:
    """Fork on request. Returns None when no more are to come, and in a child what it has to run."""
    children: dict[int, _Child] = {}
    events = select.poll()
    events.register(requests, select.POLLIN)
    while True:
        for descriptor, _ in events.poll():
            if descriptor != requests.fileno():
                events.unregister(descriptor)
                _report(children.pop(descriptor))
                continue
            message, files, *_ = socket.recv_fds(requests, _REQUEST_BYTES, len(_STANDARD) + 1)
            if not message:
                return None
            *standard, answers = files
            child = _forked(socket.socket(fileno=answers))
            if child is None:
                requests.close()
                for other in children.values():
                    other.forget()
                for number, file in zip(_STANDARD, standard, strict=True):
                    os.dup2(file, number)
            for file in standard:
                os.close(file)
            if child is None:
                return Request.read(message)
            children[child.pidfd] = child
            events.register(child.pidfd, select.POLLIN)


def _forked(answers: socket.socket) -> _Child | None:
    """Fork, and tell the child's process id and a descriptor of it; returns None in the child."""
    pid = os.fork()
    if pid == 0:
        answers.close()
        return None
    pidfd = os.pidfd_open(pid)
    socket.send_fds(answers, [str(pid).encode()], [pidfd])
    return _Child(pid=pid, pidfd=pidfd, answers=answers)


def _report(child: _Child) -> None:
    """Tell with which status a child has ended."""
    _, status = os.waitpid(child.pid, 0)
    with suppress(BrokenPipeError):  # nobody has to listen
        child.answers.send(str(os.waitstatus_to_exitcode(status)).encode())
    child.forget()


if __name__ == "__main__":
    assert Path.cwd() == Path(__file__).parents[2], "modules are looked for in the wrong folder"
    main()
