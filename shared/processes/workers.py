"""Several processes of one service, on one port: what they and their supervisor agree on.

`python -m feed_service --workers 4` reads the settings and becomes `supervisor`, which starts four
times `python -m feed_service --slot ...`. The threads of gRPC do not survive a fork, so the
supervisor is a program of its own that never loads gRPC, and starts its workers by exec.
"""

import json
import os
import sys
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Final, NoReturn, Self

LISTENING: Final = "listening"
READY: Final = "ready"
_VARIABLE: Final = "KITH_SUPERVISOR_PLAN"


@dataclass(frozen=True, kw_only=True)
class SupervisorSettings:
    """What a supervisor has to know; without `database_url` it runs the embedded PostgreSQL."""

    service: str
    """`graph` or `feed`."""
    workers: int
    host: str
    port: int
    metrics_port: int
    log_level: str
    database_url: str
    data_dir: str
    stop_seconds: float
    """How long a worker may take to end."""
    max_memory_bytes: int
    """How much a worker may have in RAM before it is replaced; 0 for no limit."""
    totals: Mapping[str, str]
    """The gauges that the database maintains."""

    @classmethod
    def taken(cls) -> Self:
        """Return the settings of this process, and hide them from the processes that it starts."""
        return cls(**json.loads(os.environ.pop(_VARIABLE)))

    @property
    def module(self) -> str:
        """What the workers run."""
        return f"{self.service}_service"


@dataclass(frozen=True, kw_only=True)
class WorkerSlot:
    """A number that no other worker has while this one lives, and a pipe to the supervisor."""

    number: int
    pipe: int

    def tell(self, what: str) -> None:
        """Say how far this worker has come."""
        os.write(self.pipe, f"{what}\n".encode())


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line of a service says."""

    service: str
    workers: str
    slot: WorkerSlot | None

    def variables(self, environment: Mapping[str, str]) -> Mapping[str, str]:
        """Return the variables of the environment with what the command line says instead."""
        if not self.workers:
            return environment
        return {**environment, f"{self.service.upper()}_WORKERS": self.workers}

    @classmethod
    def read(cls, service: str) -> Self:
        """Read the command line; ends the process when it cannot be understood."""
        parser = ArgumentParser(prog=f"python -m {service}_service")
        parser.add_argument(
            "--workers",
            default="",
            help=f"number of worker processes, overrides {service.upper()}_WORKERS",
        )
        parser.add_argument("--version", action="version", version=f"kith {version('kith')}")
        # For the supervisor.
        parser.add_argument("--slot", type=int, help=SUPPRESS)
        parser.add_argument("--pipe", type=int, help=SUPPRESS)
        given = parser.parse_args()
        slot = None if given.slot is None else WorkerSlot(number=given.slot, pipe=given.pipe)
        return cls(service=service, workers=given.workers, slot=slot)


def become_supervisor(settings: SupervisorSettings) -> NoReturn:
    """Go on as the supervisor, in this very process: what started the service knows its id."""
    # Not on the command line, which everybody on the machine can read: the URL has a password.
    environment = {**os.environ, _VARIABLE: json.dumps(asdict(settings))}
    command = [sys.executable, "-m", "shared.processes.supervisor", settings.module]
    os.execve(sys.executable, command, environment)  # noqa: S606 -- a module of ours
