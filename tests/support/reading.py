"""A database of a test's own, read as the services do, and a reader that tells plans instead."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from sqlalchemy import Connection

from kith.environment import Environment
from shared.database.beside import Beside
from shared.database.database import Database
from shared.database.endpoint import Endpoint
from shared.database.metrics import database_latency
from shared.database.reader import Reader, Rows, Statement
from shared.database.settings import DatabaseSettings
from tests.support import citus

Plan = dict[str, Any]


def new_reader(url: str, variables: Mapping[str, str] | None = None) -> Reader:
    """Return a reader of a database as the services have it."""
    settings = _settings({"DATABASE_PREPARE": "off" if citus.URL else "on", **(variables or {})})
    return Reader(Endpoint.of(settings, url, database_latency(CollectorRegistry())))


def new_database(url: str) -> Database:
    """Return what else the services have of a database."""
    return Database(Endpoint.of(_settings({}), url, database_latency(CollectorRegistry())))


def _settings(variables: Mapping[str, str]) -> DatabaseSettings:
    return DatabaseSettings.read(Environment({"KITH_DATA_DIR": str(Path()), **variables}), "TEST")


def plan_of(
    connection: Connection,
    query: Callable[[Reader], object],
    *,
    is_prepared: bool = True,
    beside: Beside | None = None,
) -> Plan:
    """Return the plan of a hot read, with the rows and the buffers that it took."""
    explainer = _Explainer(connection, is_prepared=is_prepared, beside=beside)
    try:
        query(explainer)
    except _ExplainedError as explained:
        return explained.plan
    raise AssertionError("nothing was read")


class _ExplainedError(Exception):
    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan


class _Explainer(Reader):
    def __init__(self, connection: Connection, *, is_prepared: bool, beside: Beside | None) -> None:
        self._cursor: Any = connection.connection.cursor()
        self._is_prepared = is_prepared
        self._beside = beside

    def rows(self, statement: Statement, parameters: Mapping[str, object]) -> Rows:
        if self._beside is not None:
            statement = statement.beside(self._beside.query)
            parameters = {**parameters, **self._beside.parameters}
        text = statement.execute if self._is_prepared else statement.plain
        if self._is_prepared:
            self._cursor.execute("DEALLOCATE ALL")
            self._cursor.execute("SET plan_cache_mode = force_generic_plan")
            self._cursor.execute(statement.prepare, parameters)
        # Timing every row would take longer than the rows.
        self._cursor.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {text}", parameters
        )
        answer = self._cursor.fetchone()[0]
        raise _ExplainedError(
            (json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]
        )
