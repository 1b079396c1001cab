"""The services as processes of their own, which end with this one."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, Self

from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from kith.cli.terminal import CommandError
from kith.client.sessions import CHANNELS
from kith.exceptions import AppException
from shared.private_files import private_file

# A busy machine takes a minute to start them; one that ends is noticed at once.
READY_SECONDS = 180
# Longer than a service takes whose clients stay connected and whose calls do not end.
_STOP_SECONDS = 60
_POLL_SECONDS = 0.1
_LAST_LINES = 10
CHILD = ("-m", "shared.processes.child")
"""What follows the interpreter, before this process's id and the program that ends with it."""


def become(module: str, *arguments: str) -> NoReturn:
    """Go on as a program that this package does not know otherwise."""
    # Paths in settings are relative to the folder that this was started in, so it stays.
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", module, *arguments]
    os.execve(sys.executable, command, environment)  # noqa: S606 -- a module of ours


class ServiceProcess:
    """One service, from the beginning of the block to its end. Its log is a file."""

    interpreter = sys.executable
    """The Python that the service runs on."""

    def __init__(
        self, module: str, *arguments: str, environment: Mapping[str, str], log: Path
    ) -> None:
        self.module = module
        self._arguments = arguments
        self._environment = environment
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with private_file(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [self.interpreter, *CHILD, str(os.getpid()), self.module, *self._arguments],
                env={**os.environ, **self._environment},
                # `-m` looks in the working directory first, where a person may have a package of
                # the same name.
                cwd=Path(__file__).parents[2],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the command line, which then stops the services in its own order.
                process_group=0,
            )
        return self

    def __exit__(self, *_exc_info: object) -> None:
        """Let the service finish what it is doing; returns when it has gone."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """The process's id, inside the block."""
        if self._process is None:
            raise CommandError(f"{self.module} has not been started")
        return self._process.pid

    def require_alive(self) -> None:
        """Raise CommandError with the end of the log if the service has ended by itself."""
        status = None if self._process is None else self._process.poll()
        if status is not None:
            lines = self._log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
            raise CommandError(
                "\n".join([f"{self.module} ended with status {status}; its log ends with", *lines])
            )


def wait_until_ready(services: Sequence[tuple[ServiceProcess, HealthStub]]) -> None:
    """Return when every service says that it is ready; raises CommandError if one ends or hangs."""
    deadline = time.monotonic() + READY_SECONDS
    for process, health in services:
        # Calls take turns on the channels of the client, each of which finds the service by itself.
        while not all(_is_ready(health) for _ in range(CHANNELS)):
            process.require_alive()
            if time.monotonic() > deadline:
                raise CommandError(f"{process.module} was not ready within {READY_SECONDS} s")
            time.sleep(_POLL_SECONDS)


def _is_ready(health: HealthStub) -> bool:
    with suppress(AppException):
        answer = health.Check(health_pb2.HealthCheckRequest(service="ready"), timeout=1)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
    return False
