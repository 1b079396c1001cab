"""Kith's programs as processes of their own: `python -m MODULE`, mostly without its imports.

An interpreter that imports a service uses a second of CPU, and tests start hundreds. So a process
that has imported all forks them, in a tenth of it: `fork_server`, one for each process of pytest.
"""

import atexit
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final, Protocol

from tests.support.fork_server import Request

ROOT: Final = Path(__file__).parents[2]
_SECONDS: Final = 240
_ANSWER_BYTES: Final = 64
# What an interpreter and its libraries read when they start: a fork would come too late for it.
_READ_AT_START: Final = (
    "GRPC_",
    "LANG",
    "LC_",
    "LD_",
    "MALLOC_",
    "OTEL_",
    "PROMETHEUS_",
    "PYTHON",
    "TZ",
)


class Process(Protocol):
    """What has been started, however that was done; a part of `subprocess.Popen`."""

    @property
    def pid(self) -> int:
        """The process's id."""

    def poll(self) -> int | None:
        """Return the exit status; None while it runs. Negative for the signal that has ended it."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return the exit status.

        Raises subprocess.TimeoutExpired after so many seconds.
        """

    def send_signal(self, sig: int) -> None:
        """Send it a signal, if it has not ended."""

    def terminate(self) -> None:
        """Send it SIGTERM."""

    def kill(self) -> None:
        """Send it SIGKILL."""


def start(
    module: str,
    *arguments: str,
    environment: Mapping[str, str],
    output: IO[bytes],
    errors: IO[bytes] | None = None,
    folder: Path = ROOT,
    by_exec: bool = False,
) -> Process:
    """Run a program with an environment, nothing to read, and files for what it writes.

    It is forked where that makes no difference, unless `by_exec` says otherwise. As in images, root
    may do there what others may; so it runs no embedded PostgreSQL for root.
    """
    if by_exec or not _can_fork() or _server().is_other_interpreter(environment):
        return subprocess.Popen(
            [*_without_capabilities(), *ending_with_us(), module, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors or output,
        )
    request = Request(
        module=module, arguments=arguments, environment=environment, folder=str(folder)
    )
    return _server().fork(request, output=output, errors=errors or output)


def ending_with_us() -> list[str]:
    """What starts a module that ends with these tests, also if they are killed."""
    return [sys.executable, "-m", "shared.processes.child", str(os.getpid())]


def run(
    module: str,
    *arguments: str,
    environment: Mapping[str, str],
    folder: Path = ROOT,
    together: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a program that ends by itself; `stdout` has its errors as well if they go `together`."""
    with TemporaryFile() as output, TemporaryFile() as errors:
        process = start(
            module,
            *arguments,
            environment=environment,
            output=output,
            errors=None if together else errors,
            folder=folder,
        )
        try:
            status = process.wait(_SECONDS)
        finally:
            process.kill()
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(
            [module, *arguments], status, output.read().decode(), errors.read().decode()
        )


class _ForkedProcess:
    """A process that the server has forked, and reaps."""

    def __init__(self, module: str, *, pid: int, pidfd: int, answers: socket.socket) -> None:
        self.pid = pid
        self._module = module
        self._pidfd = pidfd
        # A number: a socket that is found in a cycle of garbage warns before it can be closed here.
        self._answers = answers.detach()

    def __del__(self) -> None:
        os.close(self._answers)
        os.close(self._pidfd)

    def poll(self) -> int | None:
        """See Process."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """See Process."""
        answers = select.poll()
        answers.register(self._answers, select.POLLIN)
        if not answers.poll(None if timeout is None else 1000 * timeout):
            raise subprocess.TimeoutExpired(self._module, timeout or 0)
        # The answer stays where it is, for all who ask later.
        with socket.socket(fileno=os.dup(self._answers)) as peeking:
            status = peeking.recv(_ANSWER_BYTES, socket.MSG_PEEK)
        assert status, "the fork server has ended"
        return int(status)

    def send_signal(self, sig: int) -> None:
        """See Process."""
        # Not by its id, which after its end may be that of another process.
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, sig)

    def terminate(self) -> None:
        """See Process."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """See Process."""
        self.send_signal(signal.SIGKILL)


class _ForkServer:
    """The server of this process."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = str(theirs.fileno())
        self._process = subprocess.Popen(
            [*_without_capabilities(), sys.executable, "-m", "tests.support.fork_server", number],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            # Ctrl-C is for the tests, which then end what they have started.
            process_group=0,
        )
        theirs.close()

    def is_other_interpreter(self, environment: Mapping[str, str]) -> bool:
        """Whether an environment is read before the first line of a program, and is not ours."""
        return any(
            environment.get(name) != self._environment.get(name)
            for name in {*environment, *self._environment}
            if name.startswith(_READ_AT_START)
        )

    def fork(self, request: Request, *, output: IO[bytes], errors: IO[bytes]) -> _ForkedProcess:
        """Run a program."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, Path(os.devnull).open("rb") as nothing:
            files = [nothing.fileno(), output.fileno(), errors.fileno(), theirs.fileno()]
            socket.send_fds(self._requests, [request.written()], files)
        pid, [pidfd], *_ = socket.recv_fds(ours, _ANSWER_BYTES, 1)
        return _ForkedProcess(request.module, pid=int(pid), pidfd=pidfd, answers=ours)

    def close(self) -> None:
        """End it, and what still runs."""
        self._requests.close()
        self._process.wait(_SECONDS)


@cache
def _server() -> _ForkServer:
    server = _ForkServer()
    atexit.register(server.close)
    return server


def _can_fork() -> bool:
    """Whether libraries of the system are made for it: not those of macOS."""
    return sys.platform == "linux"


def _without_capabilities() -> list[str]:
    """What starts a service as images and units do: root may do here what others may not."""
    is_needed = sys.platform == "linux" and os.geteuid() == 0
    return ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if is_needed else []
