"""Ends the registration of a keeper of fences that is gone: see docs/operating.md.

    python -m graph_service.fence_registrations                 lists the registered keepers
    python -m graph_service.fence_registrations forget TARGET   changes are not told to it any more

A registration ends by itself when graph_service starts without the keeper in FENCE_KEEPERS and the
keeper answers. This is for a keeper that will never answer again.
"""

import os
import sys
from contextlib import ExitStack, closing

from prometheus_client import CollectorRegistry
from sqlalchemy import Connection

from graph_service.queries import fences
from kith.environment import Environment, SettingsError
from kith.exceptions import AppException
from shared.database.database import Database
from shared.database.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from shared.database.endpoint import Endpoint
from shared.database.metrics import database_latency
from shared.database.settings import DatabaseSettings

_USAGE = "usage: python -m graph_service.fence_registrations [forget TARGET]\n"


def main(arguments: list[str]) -> int:
    """Do what the arguments say; returns the exit status."""
    environment = Environment(os.environ)
    settings = DatabaseSettings.read(environment, "GRAPH")
    try:
        environment.check()
        with ExitStack() as stack:
            url = settings.url or stack.enter_context(EmbeddedPostgres(settings.data_dir)).url(
                "kith_graph"
            )
            endpoint = Endpoint.of(settings, url, database_latency(CollectorRegistry()))
            stack.callback(endpoint.guard.close)
            return _do(arguments, stack.enter_context(closing(Database(endpoint))))
    except (SettingsError, EmbeddedPostgresError, AppException) as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, SettingsError) else 1


def _do(arguments: list[str], database: Database) -> int:
    match arguments:
        case []:
            for row in database.read(fences.registered):
                sys.stdout.write(f"{row.target}  {row.name.keeper_id}\n")
            return 0
        case ["forget", target]:
            if database.write(lambda connection: _forget(connection, target)):
                return 0
            sys.stderr.write(f"no keeper is registered at {target}\n")
            return 1
        case _:
            sys.stderr.write(_USAGE)
            return 2


def _forget(connection: Connection, target: str) -> bool:
    fences.begin_registering(connection)
    return fences.forget(connection, target=target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
