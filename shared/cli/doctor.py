"""Whether the databases are as the services need them, for a person or an init container."""

import os
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final

from prometheus_client import CollectorRegistry
from rich.console import Console

from kith.environment import Environment
from shared.cli.databases import SERVICES
from shared.cli.terminal import CommandError
from shared.database import schema
from shared.database.database import why
from shared.database.guard import StatementGuard
from shared.database.reader import Reader, Statement
from shared.database.settings import DatabaseSettings
from shared.metrics import database_latency
from shared.secret import page_token_keys

_MOST_SECONDS_APART: Final = 5
_LATE_SECONDS: Final = 60
_CLOCK = Statement("clock", "SELECT CAST(extract(epoch FROM clock_timestamp()) AS float)")
_FOLLOWED = Statement(
    "followed", "SELECT CAST(extract(epoch FROM now() - updated_at) AS float) FROM followed"
)


def examine(console: Console) -> None:
    """Print what was found; raises CommandError when a service could not be ready.

    That the follower is late is said but is no failure: before the services run there is none.
    """
    environment = Environment(os.environ)
    settings = {name: DatabaseSettings.read(environment, name.upper()) for name in SERVICES}
    for database in settings.values():
        if database.url:
            page_token_keys(environment, database)
    environment.check()
    failed = [name for name, database in settings.items() if not _examined(name, database, console)]
    if failed:
        raise CommandError(f"not as it should be: {', '.join(failed)}")


def _examined(name: str, database: DatabaseSettings, console: Console) -> bool:
    if not database.url:
        console.print(f"{name}: the embedded database, which the service starts and migrates")
        return True
    guard = StatementGuard(database.statement_timeout)
    reader = Reader(
        database, database.url, guard=guard, latency=database_latency(CollectorRegistry())
    )
    with closing(guard), closing(reader):
        passed = [
            _passes(f"{name} schema", lambda: schema.check(reader, name), console),
            _passes(f"{name} clock", lambda: _compare_clocks(reader), console),
        ]
        if all(passed) and name == "feed":
            _passes("feed follower", lambda: _require_followed(reader), console)
    return all(passed)


def _passes(what: str, check: Callable[[], None], console: Console) -> bool:
    try:
        check()
    except Exception as error:  # noqa: BLE001 -- a person wants to see all that is wrong
        said = str(error) if isinstance(error, CommandError) else why(error)
        console.print(f"{what}: {said}", markup=False, highlight=False)
        return False
    console.print(f"{what}: good")
    return True


def _compare_clocks(reader: Reader) -> None:
    [(there,)] = reader.rows(_CLOCK, {})
    apart = abs(there - time.time())
    if apart > _MOST_SECONDS_APART:
        raise CommandError(f"{apart:.0f} seconds from the clock of this machine")


def _require_followed(reader: Reader) -> None:
    ages = [age for (age,) in reader.rows(_FOLLOWED, {})]
    if not ages:
        raise CommandError("has not begun")
    if ages[0] > _LATE_SECONDS:
        raise CommandError(f"heard nothing of graph_service for {ages[0]:.0f} seconds")
