"""The parent of a service's workers: starts them, replaces those that die, and stops them.

supervisor.py SERVICE, with the settings in the environment: see `workers`.

SIGTERM and SIGINT stop all workers, each finishing what it is doing. SIGHUP replaces them one by
one: a new worker starts, and once it is ready an old one stops. A worker that uses too much memory
is replaced in the same way, with pauses that double. The supervisor serves the metrics of all: each
worker counts in files named by its slot, and the next worker in a slot continues the counts of the
one before. So sums never fall, and there are never more files than slots, which are one more than
workers.
"""

import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import sqlalchemy
from prometheus_client import CollectorRegistry, Counter

from shared import logs
from shared.database.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from shared.database.metrics import StoredTotals
from shared.database.totals import read_totals
from shared.processes.memory import resident_bytes
from shared.processes.metrics import (
    describe_processes,
    forget_gauges,
    registry_of_workers,
    worker_deaths,
    worker_replacements,
)
from shared.processes.metrics_port import MetricsPort
from shared.processes.ports import ListenError, reserved, written
from shared.processes.signals import Signals
from shared.processes.workers import LISTENING, READY, SupervisorSettings

_TICK_SECONDS: Final = 0.1
_ENDING: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_READY_SECONDS: Final = 60.0
_FIRST_DELAY_SECONDS: Final = 0.1
_LONGEST_DELAY_SECONDS: Final = 10.0
# A worker that has run for so long did not die of its start.
_SETTLED_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 1.0
# Between replacements for memory: a limit that new workers pass as well must not keep the service
# busy with replacements alone.
_FIRST_PAUSE_SECONDS: Final = 10.0
_LONGEST_PAUSE_SECONDS: Final = 600.0
_DATABASE_SECONDS: Final = 2
_SAID_BYTES: Final = 1024
_log = logging.getLogger("kith.supervisor")


class Worker:
    """One process that serves. What it says of itself comes through a pipe."""

    def __init__(self, module: str, *, slot: int, environment: Mapping[str, str]) -> None:
        self.slot = slot
        self.is_leaving = False
        self._started = time.monotonic()
        self._said = b""
        ear, mouth = os.pipe()
        os.set_blocking(ear, False)
        self._ear = os.fdopen(ear, "rb", buffering=0)
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "shared.processes.child", str(os.getpid())),
                *(module, "--slot", str(slot), "--pipe", str(mouth)),
            ],
            env={**os.environ, **environment},
            pass_fds=[mouth],
            # Ctrl-C is for the supervisor, which then stops its workers.
            process_group=0,
        )
        os.close(mouth)

    @property
    def name(self) -> Mapping[str, int]:
        """What logs call it."""
        return {"slot": self.slot, "pid": self._process.pid}

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def age_seconds(self) -> float:
        """How long ago it was started."""
        return time.monotonic() - self._started

    def status(self) -> int | None:
        """Return the exit status; None while it runs."""
        return self._process.poll()

    def resident_bytes(self) -> int:
        """Return how much memory it has in RAM."""
        return resident_bytes(self._process.pid)

    def has_said(self, what: str) -> bool:
        """Whether it has come so far."""
        if not self._ear.closed:
            self._said += self._ear.read(_SAID_BYTES) or b""
        return f"{what}\n".encode() in self._said

    def leave(self, number: signal.Signals) -> None:
        """Let it finish what it is doing, and end."""
        self.is_leaving = True
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def forget(self) -> None:
        """Close the pipe."""
        self._ear.close()


class Replacement:
    """Replaces some workers by new ones, one after the other."""

    def __init__(self, old: list[Worker], start: Callable[[], Worker], replaced: Counter) -> None:
        self._old = old
        self._start = start
        self._replaced = replaced
        self._fresh: Worker | None = None
        self._leaving: Worker | None = None

    def advance(self) -> bool:
        """Take the step that can be taken now; returns whether there is anything left to do."""
        self._old = [worker for worker in self._old if worker.status() is None]
        if self._leaving is not None and self._leaving.status() is None:
            return True
        self._leaving = None
        if self._fresh is None:
            self._fresh = self._start() if self._old else None
            return self._fresh is not None
        return self._hand_over(self._fresh)

    def _hand_over(self, fresh: Worker) -> bool:
        if fresh.has_said(READY):
            self._fresh = None
            if self._old:
                self._leaving = self._old.pop(0)
                _log.info("worker leaves", extra={**self._leaving.name})
                self._leaving.leave(signal.SIGHUP)
                self._replaced.inc()
            return True
        if fresh.status() is None and fresh.age_seconds < _READY_SECONDS:
            return True
        _log.error("replacement given up", extra={**fresh.name})
        if fresh.status() is None:
            fresh.leave(signal.SIGTERM)
        return False


class Supervisor:
    """Keeps so many workers running until it is told to stop."""

    def __init__(
        self,
        settings: SupervisorSettings,
        *,
        port: int,
        metrics_directory: str,
        deaths: Counter,
        replacements: Counter,
    ) -> None:
        self._settings = settings
        self._deaths = deaths
        self._replacements = replacements
        self._metrics_directory = metrics_directory
        self._environment = {
            f"{settings.service.upper()}_PORT": str(port),
            "PROMETHEUS_MULTIPROC_DIR": metrics_directory,
        }
        self._workers: list[Worker] = []
        self._delays = Delays(
            first=_FIRST_DELAY_SECONDS, longest=_LONGEST_DELAY_SECONDS, settled=_SETTLED_SECONDS
        )
        self._next_start = 0.0
        self._pauses = Delays(
            first=_FIRST_PAUSE_SECONDS,
            longest=_LONGEST_PAUSE_SECONDS,
            settled=2 * _LONGEST_PAUSE_SECONDS,
        )
        self._next_look = 0.0
        self._last_relief = -math.inf
        self._replacement: Replacement | None = None
        # The end of a worker is a signal too, so nobody need look for it.
        self._signals = Signals(*_ENDING, signal.SIGHUP, signal.SIGCHLD)

    def processes(self) -> Mapping[str, int]:
        """Return the ids of all processes, workers by their slots. Called by other threads."""
        workers = {str(worker.slot): worker.pid for worker in list(self._workers)}
        return {"supervisor": os.getpid(), **workers}

    def run(self, when_serving: Callable[[], None]) -> int:
        """Run the workers; returns the exit status, that of the first one if it cannot start."""
        # What keeps one from starting keeps all, and is to be read once.
        first = self._start()
        self._wait_for(lambda: first.has_said(LISTENING) or first.status() is not None)
        if first.status() is not None:
            _log.critical("worker cannot start", extra={**first.name, "status": first.status()})
            return first.status() or 1
        if not self._is_stopping():
            self._fill()
        self._wait_for(lambda: all(worker.has_said(LISTENING) for worker in self._workers))
        if not self._is_stopping():
            when_serving()
        while not self._is_stopping(within_seconds=self._pause_seconds()):
            self._tick()
        return self._stop()

    def _pause_seconds(self) -> float:
        """Return how long to wait for signals: not long while workers are starting or leaving."""
        is_settled = self._replacement is None and len(self._workers) == self._settings.workers
        return _LOOK_SECONDS if is_settled else _TICK_SECONDS

    def _wait_for(self, is_true: Callable[[], bool]) -> None:
        while not is_true() and not self._is_stopping(within_seconds=_TICK_SECONDS):
            if len(self._workers) > 1:
                self._tick()

    def _is_stopping(self, within_seconds: float = 0) -> bool:
        self._signals.wait(within_seconds)
        return not self._signals.received.isdisjoint(_ENDING)

    def _tick(self) -> None:
        self._reap()
        self._fill()
        if self._replacement is None and signal.SIGHUP in self._signals.received:
            self._signals.received.remove(signal.SIGHUP)
            _log.info("replacing workers")
            self._replace(list(self._workers), reason="signal")
        if self._replacement is None and time.monotonic() >= self._next_look:
            self._relieve()
        if self._replacement is not None and not self._replacement.advance():
            _log.info("replacement ended")
            self._replacement = None

    def _replace(self, workers: list[Worker], *, reason: str) -> None:
        replaced = self._replacements.labels(reason)
        self._replacement = Replacement(workers, self._start, replaced)

    def _relieve(self) -> None:
        """Replace the workers that use more memory than they may."""
        now = time.monotonic()
        self._next_look = now + _LOOK_SECONDS
        grown = [worker for worker in self._workers if self._is_too_large(worker)]
        if grown:
            self._next_look = now + self._pauses.after(now - self._last_relief)
            self._last_relief = now
            self._replace(grown, reason="memory")

    def _is_too_large(self, worker: Worker) -> bool:
        limit, resident = self._settings.max_memory_bytes, worker.resident_bytes()
        if not limit or worker.is_leaving or resident <= limit:
            return False
        said = {"resident_bytes": resident, "limit_bytes": limit}
        _log.warning("worker is too large", extra={**worker.name, **said})
        return True

    def _start(self) -> Worker:
        # A worker that has ended a moment ago still has its number.
        self._reap()
        taken = {worker.slot for worker in self._workers}
        slot = next(slot for slot in count() if slot not in taken)
        worker = Worker(self._settings.module, slot=slot, environment=self._environment)
        self._workers.append(worker)
        _log.info("worker started", extra={**worker.name})
        return worker

    def _reap(self) -> None:
        for worker in list(self._workers):
            status = worker.status()
            if status is None:
                continue
            self._workers.remove(worker)
            worker.forget()
            forget_gauges(worker.slot, self._metrics_directory)
            fields = {**worker.name, "status": status}
            if worker.is_leaving:
                _log.info("worker left", extra=fields)
                continue
            self._deaths.inc()
            delay = self._delays.after(worker.age_seconds)
            self._next_start = time.monotonic() + delay
            _log.warning("worker died", extra={**fields, "restart_seconds": delay})

    def _fill(self) -> None:
        staying = sum(not worker.is_leaving for worker in self._workers)
        if time.monotonic() >= self._next_start:
            for _ in range(self._settings.workers - staying):
                self._start()

    def _stop(self) -> int:
        _log.info("stopping")
        for worker in self._workers:
            worker.leave(signal.SIGTERM)
        deadline = time.monotonic() + self._settings.stop_seconds
        while self._workers and time.monotonic() < deadline:
            self._reap()
            time.sleep(_TICK_SECONDS)
        for worker in self._workers:
            _log.error("worker killed", extra={**worker.name})
            worker.kill()
        _log.info("stopped")
        return 1 if self._workers else 0


class Delays:
    """How many seconds to wait: twice as long as before, unless all went well for long enough."""

    def __init__(self, *, first: float, longest: float, settled: float) -> None:
        self._first = first
        self._longest = longest
        self._settled = settled
        self._next = first

    def after(self, went_well_seconds: float) -> float:
        """Return how long to wait after things went well for so long."""
        if went_well_seconds >= self._settled:
            self._next = self._first
        delay = self._next
        self._next = min(2 * delay, self._longest)
        return delay


@contextmanager
def _metrics_served(
    settings: SupervisorSettings, registry: CollectorRegistry, url: str
) -> Iterator[int]:
    """Serve the metrics of all workers; yields the port."""
    engine = sqlalchemy.create_engine(
        url,
        poolclass=sqlalchemy.NullPool,
        connect_args={
            "client_encoding": "utf8",
            "connect_timeout": _DATABASE_SECONDS,
            "options": f"-c statement_timeout={_DATABASE_SECONDS}s",
        },
    )

    def read() -> Mapping[str, int]:
        with engine.connect() as connection:
            return read_totals(connection)

    registry.register(StoredTotals(gauges=settings.totals, read=read))
    with closing(MetricsPort(settings.host, settings.metrics_port, registry)) as metrics:
        yield metrics.port


def _supervise(settings: SupervisorSettings, stack: ExitStack) -> int:
    bound = stack.enter_context(reserved(settings.host, settings.port))
    port = int(bound.getsockname()[1])
    directory = stack.enter_context(TemporaryDirectory(prefix="kith-metrics-"))
    url = settings.database_url
    if not url:
        url = stack.enter_context(EmbeddedPostgres(Path(settings.data_dir))).url(
            f"kith_{settings.service}"
        )
    registry = registry_of_workers(directory)
    metrics_port = stack.enter_context(_metrics_served(settings, registry, url))
    supervisor = Supervisor(
        settings,
        port=port,
        metrics_directory=directory,
        deaths=worker_deaths(registry),
        replacements=worker_replacements(registry),
    )
    describe_processes(registry, supervisor.processes)
    serving = {"address": written(settings.host, port), "metrics_port": metrics_port}
    return supervisor.run(
        when_serving=lambda: _log.info("serving", extra={**serving, "workers": settings.workers})
    )


def main() -> int:
    """Supervise the workers until told to stop; returns the exit status."""
    settings = SupervisorSettings.taken()
    logs.configure(service=settings.module, level=settings.log_level)
    try:
        with ExitStack() as stack:
            return _supervise(settings, stack)
    except EmbeddedPostgresError as error:
        _log.critical("no database", extra={"reason": str(error)})
    except ListenError as error:
        _log.critical("cannot listen", extra={"reason": str(error)})
    return 1


if __name__ == "__main__":
    sys.exit(main())
