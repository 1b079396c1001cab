"""The reads that are asked all the time: a prepared statement over a connection at hand, no more.

PostgreSQL plans a statement for longer than it runs it, and SQLAlchemy takes more time around it
than psycopg2 in it. So the few hot reads are prepared once for each connection and then executed
with their plan, and each call takes a connection from those at hand without asking anybody. All
other statements go through `Database`.

    PAGE = Statement("feed_page", "SELECT ... WHERE author_id = :author_id LIMIT :limit")
    reader.rows(PAGE, {"author_id": 7, "limit": 21})

A caller can have a value read beside the rows of every statement, in its snapshot: see `beside`.

The connections are beside those of the pool, as many as calls have read at the same time. Behind a
pooler that gives every transaction another session, nothing can be prepared: DATABASE_PREPARE=off.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg2

from kith.trace_context import asking, commented
from shared.database import beside, positions
from shared.database.database import (
    CALLS,
    ConnectionLostError,
    address,
    connect_arguments,
    forget_texts,
    is_of_node,
    translate,
)
from shared.database.endpoint import Endpoint
from shared.database.guard import statement_timeout
from shared.database.positions import BehindError
from shared.database.session import statements_in_call
from shared.database.statement import GENERIC_PLANS, SPAN, Rows, Statement

__all__ = ["Reader", "Rows", "Statement"]


class Reader:
    """Runs reading statements, each its own snapshot. Thread-safe.

    Without `repeats` a statement is not made again whose connection broke. Only one that
    `tells_beside` tells what is asked beside statements.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        name: str = CALLS,
        repeats: bool = True,
        tells_beside: bool = False,
    ) -> None:
        settings = endpoint.settings
        self._arguments = {
            **address(endpoint.url),
            **connect_arguments(settings, name=name, options=GENERIC_PLANS),
        }
        self._prepares = settings.prepare
        self._repeats = repeats
        self._tells_beside = tells_beside
        self._usual_timeout = settings.statement_timeout.total_seconds()
        self._guard = endpoint.guard
        self._latency = endpoint.latency
        # The connection that was used last is used next. The methods of a list need no lock.
        self._at_hand: list[_Session] = []

    def rows(self, statement: Statement, parameters: Mapping[str, object]) -> Rows:
        """Return the rows of a statement; it is repeated once if the connection was broken.

        Raises UnavailableError or DeadlineError.
        """
        started = time.perf_counter()
        if (asked := beside.asked.get()) is not None and not self._tells_beside:
            asked.forget()
            asked = None
        if asked is not None:
            statement = statement.beside(asked.query)
            parameters = {**parameters, **asked.parameters}
        try:
            rows = self._rows_once(statement, parameters)
        except ConnectionLostError as error:
            if not is_of_node(error.__cause__):
                # What broke one connection has probably broken them all.
                self.close()
            if not self._repeats:
                raise
            rows = self._rows_once(statement, parameters)
        self._latency.observe(time.perf_counter() - started)
        if (count := statements_in_call.get()) is not None:
            count[0] += 1
        return rows if asked is None else asked.taken_from(rows)

    def close(self) -> None:
        """Close the connections that no call is using."""
        with suppress(IndexError):
            while True:
                self._at_hand.pop().close()

    def _rows_once(self, statement: Statement, parameters: Mapping[str, object]) -> Rows:
        session = None
        try:
            session = self._session()
            self._guard.watch(session.connection)
            timeout = statement_timeout(self._usual_timeout)
            rows = session.rows(statement, parameters, before=timeout + positions.proof.get())
        except BaseException as error:
            # Without `translated`, whose generator would be made and run for every call.
            found = None
            if isinstance(error, psycopg2.Error):
                found = translate(error, ConnectionLostError)
            forget_texts(error)
            if session is not None:
                self._leave(session, is_good=isinstance(found, BehindError))
            if found is not None:
                raise found from error
            raise
        self._leave(session, is_good=True)
        return rows

    def _leave(self, session: "_Session", *, is_good: bool) -> None:
        if self._guard.release(session.connection) and is_good:
            self._at_hand.append(session)
        else:
            session.close()

    def _session(self) -> "_Session":
        try:
            return self._at_hand.pop()
        except IndexError:
            connection = self._guard.connect(lambda: psycopg2.connect(**self._arguments))
            connection.autocommit = True
            return _Session(connection, connection.cursor(), prepares=self._prepares)


@dataclass
class _Session:
    """A connection, its only cursor, and what has been prepared on it."""

    connection: Any
    cursor: Any
    prepares: bool = field(kw_only=True)
    prepared: set[str] = field(default_factory=set, kw_only=True)

    def rows(self, statement: Statement, parameters: Mapping[str, object], *, before: str) -> Rows:
        with asking(statement.name, SPAN):
            if (execution := self._execution(statement, parameters)) is not None:
                self.cursor.execute(commented(before + execution))
            else:
                self.cursor.execute(commented(before + self._text(statement)), parameters)
                self.prepared.add(statement.name)
        rows: Rows = self.cursor.fetchall()
        return rows

    def close(self) -> None:
        with suppress(psycopg2.Error):
            self.connection.close()

    def _execution(self, statement: Statement, parameters: Mapping[str, object]) -> str | None:
        is_prepared = self.prepares and statement.name in self.prepared
        return statement.execution(parameters) if is_prepared else None

    def _text(self, statement: Statement) -> str:
        if not self.prepares:
            return statement.plain
        if statement.name in self.prepared:
            return statement.execute
        # In one message, so that the first call of a connection takes one round trip as well.
        return f"{statement.prepare}; {statement.execute}"
