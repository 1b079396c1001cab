"""What an operator sees of fences and does about them: `kith fences`, see docs/operating.md.

    python -m graph_service.fence_registrations                 lists keepers and their open fences
    python -m graph_service.fence_registrations forget TARGET   changes are not told to it any more

A registration ends by itself when graph_service starts without the keeper in FENCE_KEEPERS and the
keeper answers. To forget is for a keeper that will never answer again. One that answers is told of
that as of a change of everybody: otherwise it would trust what it has cached for ever.
"""

import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial

from prometheus_client import CollectorRegistry
from sqlalchemy import Connection

from graph_service.fence_keepers import FenceKeepers, OpenFences
from graph_service.fences import EVERYBODY
from graph_service.queries import fences
from graph_service.queries.fences import KeeperRow, Outcome, ToldChange
from kith.client.settings import TargetSettings
from kith.environment import Environment, SettingsError
from kith.exceptions import AppException, UnavailableError
from shared.database.database import Database
from shared.database.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from shared.database.endpoint import Endpoint
from shared.database.metrics import database_latency
from shared.database.settings import DatabaseSettings
from shared.metrics import ClientMetrics

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
        _complain(error)
        return 2 if isinstance(error, SettingsError) else 1


def _do(arguments: list[str], database: Database) -> int:
    match arguments:
        case []:
            return _list(database)
        case ["forget", target]:
            return _forget(database, target)
        case _:
            sys.stderr.write(_USAGE)
            return 2


def _list(database: Database) -> int:
    """Print every keeper with its open fences; returns 1 if one of them does not answer."""
    rows = database.read(fences.registered)
    if not rows:
        sys.stdout.write("no keeper is registered, so no change opens fences\n")
        return 0
    with _keepers(*(row.target for row in rows)) as keepers:
        return max(_list_open(row, keepers, database) for row in rows)


def _list_open(row: KeeperRow, keepers: FenceKeepers, database: Database) -> int:
    sys.stdout.write(f"{row.target}  keeper {row.name.keeper_id}\n")
    number = 0
    try:
        for listed in keepers.open_changes(row.target):
            number += len(listed.opened)
            _print_page(listed, database)
            is_registered = listed.page.keeper == row.name
    except UnavailableError:
        sys.stdout.write("  does not answer, so no connection can be changed\n")
        return 1
    if not is_registered:
        sys.stdout.write(
            "  in another history than the registered one: graph_service registers it\n"
        )
    sys.stdout.write(f"  {number} open\n")
    return 0


def _print_page(listed: OpenFences, database: Database) -> None:
    for each in database.read(partial(fences.outcomes, page=listed.page)):
        age = max(0, round(time.time() - listed.opened[each.change_id]))
        sys.stdout.write(f"  {each.change_id}  open for {age} s  {_waits_for(each)}\n")


def _waits_for(change: Outcome) -> str:
    if change.is_over:
        return f"transaction {change.outcome}; waits for graph_service to close it, within seconds"
    if change.session is None:
        return f"transaction {change.outcome}"
    return f"transaction {change.outcome} in session {change.session}, which is {change.state}"


def _forget(database: Database, target: str) -> int:
    """End a registration; returns 1 if there is none."""
    opened = list[uuid.UUID]()

    def work(connection: Connection) -> bool:
        change = ToldChange(uuid.uuid4(), *fences.begin_registering(connection))
        if not fences.forget(connection, target=target):
            return False
        opened.append(change.change_id)
        try:
            keepers.open(change, EVERYBODY, targets=[target])
        except UnavailableError:
            _complain(f"{target} does not answer: see that all its processes are stopped")
        return True

    with _keepers(target) as keepers:
        if not database.write(work):
            _complain(f"no keeper is registered at {target}")
            return 1
        # What cannot be closed keeps nobody from anything: reads there ask the graph.
        with suppress(UnavailableError):
            keepers.close(target, opened)
    return 0


def _complain(of: object) -> None:
    """Write an error as the command line does, of which this program is a part."""
    sys.stderr.write(f"kith: {of}\n")


@contextmanager
def _keepers(*targets: str) -> Iterator[FenceKeepers]:
    environment = Environment(os.environ)
    access = TargetSettings.read(environment, *targets)
    environment.check()
    keepers = FenceKeepers(access, ClientMetrics(CollectorRegistry()))
    try:
        yield keepers
    finally:
        keepers.shut()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
