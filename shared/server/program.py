"""A service as a program: settings, database, and one process or several."""

import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from kith.environment import SettingsError
from shared import logs
from shared.database import schema
from shared.database.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from shared.database.settings import DatabaseSettings
from shared.processes.descriptors import raise_limit
from shared.processes.metrics import count_in_slot
from shared.processes.ports import ListenError
from shared.processes.workers import Options, SupervisorSettings, WorkerSlot, become_supervisor
from shared.server.server import run_until_stopped
from shared.server.service import Service
from shared.server.settings import ServerSettings
from shared.setting_names import unknown_settings

# Beyond what a worker is given to finish its calls.
_SPARE_SECONDS = 15
_log = logging.getLogger("kith.server")


class Settings(Protocol):
    """What the settings of both services have."""

    @property
    def server(self) -> ServerSettings:
        """How it listens."""

    @property
    def database(self) -> DatabaseSettings:
        """Where its data is."""


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, kw_only=True)
class Program(Generic[S]):
    """What one of the services is started with; `totals` are gauges that its database maintains."""

    service: str
    read_settings: Callable[[Mapping[str, str]], S]
    build: Callable[[S, str], Service]
    totals: Mapping[str, str]

    def run(self) -> int:
        """Run until told to stop; returns the exit status."""
        options = Options.read(self.service)
        try:
            settings = self.read_settings(options.variables(os.environ))
        except SettingsError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        logs.configure(service=f"{self.service}_service", level=settings.server.log_level)
        if options.slot is None:
            for name, meant in unknown_settings(os.environ).items():
                _log.warning("unknown setting", extra={"variable": name, "meant": meant})
        raise_limit()
        if options.slot is None and settings.server.workers > 1:
            become_supervisor(self._supervisor_settings(settings))
        return self._serve(settings, options.slot)

    def _serve(self, settings: S, slot: WorkerSlot | None) -> int:
        if slot is not None:
            count_in_slot(slot.number)
        try:
            with ExitStack() as stack:
                url = self._database_url(settings.database, stack)
                run_until_stopped(settings.server, self.build(settings, url), slot)
        except EmbeddedPostgresError as error:
            _log.critical("no database", extra={"reason": str(error)})
            return 1
        except ListenError as error:
            _log.critical("cannot listen", extra={"reason": str(error)})
            return 1
        return 0

    def _database_url(self, database: DatabaseSettings, stack: ExitStack) -> str:
        if database.url:
            return database.url
        cluster = stack.enter_context(EmbeddedPostgres(database.data_dir))
        url = cluster.url(f"kith_{self.service}")
        # Workers do so one after another, and all but the first find nothing to do.
        schema.upgrade(self.service, url)
        return url

    def _supervisor_settings(self, settings: S) -> SupervisorSettings:
        server = settings.server
        ending = server.drain + server.grace + 1.1 * server.max_connection_age
        return SupervisorSettings(
            service=self.service,
            workers=server.workers,
            host=server.host,
            port=server.port,
            metrics_port=server.metrics_port,
            log_level=server.log_level,
            database_url=settings.database.url,
            data_dir=str(settings.database.data_dir),
            stop_seconds=ending.total_seconds() + _SPARE_SECONDS,
            max_memory_bytes=server.max_memory_bytes,
            totals=self.totals,
        )
