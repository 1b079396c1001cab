"""Access to one PostgreSQL database: reads without a transaction, writes in one, faults translated.

Every connection is in autocommit, so a read costs one round trip and no BEGIN or COMMIT; a
transaction says them itself, because SQLAlchemy's switch between the two modes would cost every
read a second round trip. BEGIN travels in the message of the transaction's first statement. The
pool does not ping before use: that, too, would cost every call a round trip, to spare the rare one
a retry, which `read` and `write` do themselves. The frequent writes send several prepared
statements in one message, past SQLAlchemy, by `run`. No statement outlives the call it is for, nor
does waiting for a connection: see `deadlines`.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar, cast

import psycopg2
import psycopg2.errors
import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, ExceptionContext, ExecutionContext
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import ConnectionPoolEntry

from kith.errors.v1 import errors_pb2
from kith.exceptions import (
    AbortedError,
    AppException,
    DeadlineError,
    RateLimitError,
    UnavailableError,
)
from kith.trace_context import begun, commented
from shared import deadlines
from shared.database import beside, positions
from shared.database.endpoint import Endpoint
from shared.database.positions import BehindError, Position
from shared.database.session import Session, statements_in_call
from shared.database.settings import DatabaseSettings
from shared.database.statement import GENERIC_PLANS, SPAN, Rows, Statement
from shared.metrics import Usage

T = TypeVar("T")

RETRY_AFTER = timedelta(seconds=1)
# What a database's operator sees as the name of a session: what it works for.
CALLS = "kith calls"
BACKGROUND = "kith background"
FENCES = "kith fences"
_CONNECT_TIMEOUT_SECONDS = 2
_WRITE_ATTEMPTS = 5
# So that the locks and the work of a client that has vanished do not outlive it by hours.
_SERVER_KEEPALIVES = (
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
    " -c client_connection_check_interval=50ms"
)
_TRY_LOCK = sqlalchemy.text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
_UNLOCK = sqlalchemy.text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))")

# Under which SQLAlchemy keeps what is known of a session besides.
_SESSION = "kith_session"
_TELLING_COMMIT = f"COMMIT; {positions.HERE}"
_ROLLBACK = "ROLLBACK"

# Codes of https://www.postgresql.org/docs/current/errcodes-appendix.html
_CANCELLED = "57014"
_INTERNAL = "XX000"
# What raises the error of a stale plan. The code is that of other errors too, and the message is in
# the language of the server.
_STALE_PLAN = "RevalidateCachedQuery"
_CONTENTION = frozenset({"40001", "40P01", "55P03"})
_READ_ONLY = "25006"
_NO_NUMBER = "22P02"
_UNAVAILABLE_CODES = frozenset({_READ_ONLY, "57P01", "57P02", "57P03", "57P04"})
_UNAVAILABLE_CLASSES = frozenset({"08", "53", "58"})
_WORD = re.compile(r"\w+")
# What a coordinator of Citus says of a node that it has lost is of class 08, as a server that one
# is connected with has no reason to say, or else one of these, which have no code of their own.
_NODE_LOST = re.compile(
    "could not commit transaction for shard|failure on connection marked as essential"
)
# What a session of a coordinator says that waits for a node when its own server is killed.
_ENDING = re.compile("postmaster was shut down")


class ConnectionLostError(UnavailableError):
    """The connection broke before the work was committed, so repeating the work is safe."""


class Database:
    """A pool of connections. Thread-safe.

    Without `repeats` a read is not made again whose connection broke.
    """

    def __init__(self, endpoint: Endpoint, *, name: str = CALLS, repeats: bool = True) -> None:
        settings = endpoint.settings
        self._repeats = repeats
        self._engine = sqlalchemy.create_engine(
            endpoint.url,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            pool_size=settings.pool_size,
            max_overflow=settings.max_overflow,
            # What was used last has prepared the most.
            pool_use_lifo=True,
            creator=_opener(endpoint, name),
        )
        self._limit = settings.pool_size + settings.max_overflow
        self._places = threading.BoundedSemaphore(self._limit)
        self._waiting = 0
        self._lock = threading.Lock()
        self._most_wait = settings.pool_timeout.total_seconds()
        _Statements(endpoint).listen_to(self._engine)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run reading statements, each its own snapshot; repeated once if the connection broke.

        Raises UnavailableError, DeadlineError, or RateLimitError when the pool stays exhausted.
        """
        try:
            return self._read_once(work)
        except ConnectionLostError:
            if not self._repeats:
                raise
            return self._read_once(work)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction and commit it; nothing of it stays when it raises.

        `work` is repeated when it lost against a concurrent transaction, and once when the
        connection broke before the commit, so it must have no other effects. Raises AbortedError
        after several attempts, and UnavailableError when the connection breaks during the commit:
        then the outcome is unknown and the caller repeats the call, which every write of Kith
        allows.
        """
        has_reconnected = False
        for _ in range(_WRITE_ATTEMPTS - 1):
            try:
                with self.transaction() as connection:
                    return work(connection)
            except ConnectionLostError:
                if has_reconnected:
                    raise
                has_reconnected = True
            except AbortedError as error:
                if error.reason != errors_pb2.ERROR_REASON_CONTENTION:
                    raise
        with self.transaction() as connection:
            return work(connection)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a transaction, commit it at the end of the block, roll it back on any exception."""
        with translated(), self._connection() as connection, in_transaction(connection):
            yield connection

    @contextmanager
    def advisory_lock(self, name: str) -> Iterator[Connection | None]:
        """Take a lock that one block at a time can have; None in a block that does not get it.

        The lock lasts as long as the connection that this yields. So a block that writes over that
        connection, `in_transaction`, has the lock while it writes, even if connections were lost
        before.
        """
        with translated(), self._connection() as connection:
            if not connection.execute(_TRY_LOCK, {"name": name}).scalar_one():
                yield None
                return
            try:
                yield connection
            finally:
                _unlock(connection, name)

    def tell_position(self) -> None:
        """Note the position of now, for an answer that an earlier call has written."""
        if (noted := positions.commits.get()) is not None:
            noted.append(self.read(_position))

    def usage(self) -> Usage:
        """Return how many connections are in use and idle now, and how many calls wait for one."""
        pool = cast("sqlalchemy.QueuePool", self._engine.pool)
        return Usage(
            in_use=pool.checkedout(),
            idle=pool.checkedin(),
            waiting=self._waiting,
            limit=self._limit,
        )

    def close(self) -> None:
        """Close all pooled connections."""
        self._engine.dispose()

    def _read_once(self, work: Callable[[Connection], T]) -> T:
        with translated(lost=ConnectionLostError), self._connection() as connection:
            return work(connection)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """Take a connection of the pool, for which no call waits longer than it may take."""
        if not (self._places.acquire(blocking=False) or self._has_waited()):
            raise RateLimitError("all database connections are busy", retry_after=RETRY_AFTER)
        try:
            with self._engine.connect() as connection:
                yield connection
        finally:
            self._places.release()

    def _has_waited(self) -> bool:
        seconds = max(0, min(self._most_wait, deadlines.seconds_left()))
        with self._lock:
            self._waiting += 1
        try:
            return self._places.acquire(timeout=seconds)
        finally:
            with self._lock:
                self._waiting -= 1


def _opener(endpoint: Endpoint, name: str) -> Callable[[], Any]:
    settings, guard = endpoint.settings, endpoint.guard
    options = GENERIC_PLANS if settings.prepare else ""
    arguments = {
        **address(endpoint.url),
        **connect_arguments(settings, name=name, options=options),
    }

    def open_session() -> Any:
        session = psycopg2.connect(**arguments)
        if endpoint.begin_session is not None:
            session.autocommit = True
            endpoint.begin_session(session)
        return session

    def open_watched() -> Any:
        session = guard.connect(open_session)
        # SQLAlchemy asks the first session of a pool about the server. That ends with the call too.
        guard.watch(session)
        return session

    return open_watched


def address(url: str) -> dict[str, Any]:
    """Return the address, user and password of a database as psycopg2 takes them."""
    parsed = sqlalchemy.make_url(url)
    _, arguments = parsed.get_dialect()().create_connect_args(parsed)
    return dict(arguments)


def connect_arguments(
    settings: DatabaseSettings, *, name: str = CALLS, options: str = ""
) -> dict[str, str | int]:
    """Return what every connection of Kith is opened with, for psycopg2."""
    milliseconds = round(settings.statement_timeout.total_seconds() * 1000)
    return {
        "application_name": name,
        # Instead of what the role, the database or PGCLIENTENCODING says.
        "client_encoding": "utf8",
        "connect_timeout": _CONNECT_TIMEOUT_SECONDS,
        "options": f"-c statement_timeout={milliseconds} -c timezone=UTC -c jit=off "
        # Several statements in one message count on it, also if a database has another default.
        f"-c default_transaction_isolation=read\\ committed {_SERVER_KEEPALIVES} {options}",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }


@contextmanager
def in_transaction(connection: Connection) -> Iterator[None]:
    """Open a transaction on a connection, commit it at the end of the block, or roll it back.

    It begins with the first statement of the block; a block without one sends nothing. Where its
    position is wanted, the commit tells it in the same message.
    """
    with translated(lost=ConnectionLostError), _rolled_back_on_error(connection):
        session = _session(connection)
        session.is_in_block = True
        yield
    with _rolled_back_on_error(connection):
        if not session.is_idle or session.with_commit:
            with session.around_commit:
                _commit(connection, session)
    session.leave_block()


def run(connection: Connection, *statements: Statement, parameters: Mapping[str, object]) -> Rows:
    """Return the rows of the last of these statements, which share their parameters.

    They are prepared, once for each session, and sent in one message past SQLAlchemy; PostgreSQL
    runs them in this order, each with a snapshot of its own. Raises IntegrityError as SQLAlchemy
    does, and other errors as psycopg2 does. A connection that no `Database` has opened runs them
    unprepared, through SQLAlchemy.
    """
    if not _is_of_database(connection):
        message = "; ".join(statement.plain for statement in statements)
        result = connection.exec_driver_sql(message, dict(parameters))
        return [tuple(row) for row in result] if result.returns_rows else []
    session = _session(connection)
    with _failing(connection, session):
        return session.rows([(statement, parameters) for statement in statements])


def send_with_begin(
    connection: Connection, statement: Statement, parameters: Mapping[str, object]
) -> None:
    """Have a statement sent in the message of the transaction's first one, and before it.

    It costs no round trip. What it returns is lost, but what it raises is raised there. None of its
    values may be a text.
    """
    if _is_of_database(connection):
        _session(connection).with_begin.append((statement, parameters))
    else:
        run(connection, statement, parameters=parameters)


def send_with_commit(
    connection: Connection, statement: Statement, parameters: Mapping[str, object]
) -> None:
    """Have a statement sent in the message of the transaction's COMMIT, as above.

    There may be several, which are sent in this order.
    """
    if _is_of_database(connection):
        _session(connection).with_commit.append((statement, parameters))
    else:
        run(connection, statement, parameters=parameters)


def around_commit(connection: Connection, block: AbstractContextManager[None]) -> None:
    """Have the transaction's COMMIT surrounded by a block, which is entered right before it.

    If that raises, the transaction is rolled back. If the block is left with an exception, nobody
    knows whether the COMMIT took effect.
    """
    _session(connection).around_commit = block


def _commit(connection: Connection, session: Session) -> None:
    noted = positions.commits.get()
    with _failing(connection, session):
        told = session.commit("COMMIT" if noted is None else _TELLING_COMMIT)
    if noted is not None:
        [position] = told
        noted.append(Position.of(*position))


def _is_of_database(connection: Connection) -> bool:
    return connection.invalidated or _SESSION in connection.info


def _session(connection: Connection) -> Session:
    if connection.invalidated:
        # SQLAlchemy would open another, on which the block has not begun.
        raise psycopg2.InterfaceError("the connection of this block is lost")
    session: Session = connection.info[_SESSION]
    return session


@contextmanager
def _failing(connection: Connection, session: Session) -> Iterator[None]:
    """Do for what goes past SQLAlchemy what it and `_Statements` do when a statement fails."""
    try:
        yield
    except psycopg2.Error as error:
        forget_texts(error)
        if _is_lost(error) and not connection.invalidated:
            _lose(connection, session)
        if isinstance(error, psycopg2.IntegrityError):
            raise IntegrityError(None, None, error) from error
        raise
    finally:
        if session.is_broken and not connection.invalidated:
            connection.invalidate()


def _is_lost(error: psycopg2.Error) -> bool:
    """Whether what broke one connection has probably broken them all."""
    if (code := error.pgcode) is None:
        return isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
    # Another server is the primary now, and the pool's other connections lead here as well; or
    # their plans are as old.
    return code == _READ_ONLY or _is_stale_plan(error) or _is_ending(error)


def _lose(connection: Connection, session: Session) -> None:
    """Let SQLAlchemy find that a connection is closed, for which it opens all of the pool anew."""
    session.driver.close()
    with suppress(DBAPIError):
        connection.exec_driver_sql("SELECT")


def _position(connection: Connection) -> Position:
    [told] = connection.exec_driver_sql(positions.HERE)
    return Position.of(*told)


class _Statements:
    """What is done around every statement of SQLAlchemy."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._guard = endpoint.guard
        self._latency = endpoint.latency

    def listen_to(self, engine: Engine) -> None:
        """Be told of the statements of an engine."""
        event.listen(engine, "connect", self._connected)
        event.listen(engine, "before_cursor_execute", self._before, retval=True)
        event.listen(engine, "after_cursor_execute", self._after)
        event.listen(engine, "handle_error", self._failed)

    def _connected(self, driver: Any, record: ConnectionPoolEntry) -> None:
        # One that was shut down fails its next statement.
        self._guard.release(driver)
        record.info[_SESSION] = Session(driver, self._endpoint)

    def _before(
        self,
        connection: Connection,
        cursor: Any,
        statement: str,
        parameters: object,
        context: ExecutionContext | None,
        _executemany: bool,  # noqa: FBT001 -- so SQLAlchemy calls it
    ) -> tuple[str, object]:
        if (told := beside.asked.get()) is not None:
            told.forget()
        # What is to be ended is ended in any case.
        before = "" if statement == _ROLLBACK else _session(connection).before(cursor)
        context._kith_started = time.perf_counter()  # type: ignore[union-attr]  # noqa: SLF001 -- SQLAlchemy's own way to time a statement
        self._guard.watch(cursor.connection)
        text = f"{before}{statement}"
        if (span := begun(_first_word(statement), SPAN)) is None:
            return commented(text), parameters
        context._kith_span = span  # type: ignore[union-attr]  # noqa: SLF001 -- as above
        return commented(text, span.trace), parameters

    def _after(
        self,
        connection: Connection,
        cursor: Any,
        _statement: str,
        _parameters: object,
        context: ExecutionContext | None,
        _executemany: bool,  # noqa: FBT001 -- as above
    ) -> None:
        if not self._guard.release(cursor.connection):
            connection.invalidate()
        started = context._kith_started  # type: ignore[union-attr]  # noqa: SLF001 -- as above
        self._latency.observe(time.perf_counter() - started)
        _end_span(context)
        if (count := statements_in_call.get()) is not None:
            count[0] += 1

    def _failed(self, context: ExceptionContext) -> None:
        code = getattr(context.original_exception, "pgcode", None)
        if code == _READ_ONLY or _is_ending(context.original_exception):
            # Another server is the primary now, or this one ends. The pool's other connections lead
            # here as well.
            context.is_disconnect = True
        elif is_of_node(context.original_exception):
            # It may quote what SQLAlchemy would take for the end of this connection.
            context.is_disconnect = False
        forget_texts(context.original_exception)
        forget_texts(context.sqlalchemy_exception)
        execution = context.execution_context
        _end_span(execution, context.original_exception)
        if execution is not None and not self._guard.release(execution.cursor.connection):
            context.is_disconnect = True


def _end_span(context: ExecutionContext | None, error: BaseException | None = None) -> None:
    """End the span of a statement of SQLAlchemy, if it has one."""
    if (span := getattr(context, "_kith_span", None)) is not None:
        span.end(error)


def _first_word(statement: str) -> str:
    """Return what names a statement that has no name, such as SELECT."""
    found = _WORD.search(statement)
    return "SQL" if found is None else found[0].upper()


def _unlock(connection: Connection, name: str) -> None:
    """Release a lock, if only by closing the connection: the pool would keep it with the lock."""
    if not connection.invalidated:
        try:
            connection.execute(_UNLOCK, {"name": name})
        except DBAPIError:
            connection.invalidate()


@contextmanager
def _rolled_back_on_error(connection: Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        # In autocommit the pool would hand the open transaction to the next caller.
        if not connection.invalidated:
            _roll_back(connection)
        raise


def _roll_back(connection: Connection) -> None:
    session = _session(connection)
    session.leave_block()
    if session.is_idle:
        return
    try:
        connection.exec_driver_sql(_ROLLBACK)
    except DBAPIError:
        connection.invalidate()


@contextmanager
def translated(lost: type[UnavailableError] = UnavailableError) -> Iterator[None]:
    """Turn the faults of a database in a block into what callers may see."""
    try:
        yield
    except (DBAPIError, psycopg2.Error) as error:
        found = translate(error, lost)
        if found is None:
            raise
        raise found from error


def translate(
    error: DBAPIError | psycopg2.Error, lost: type[UnavailableError]
) -> AppException | None:
    """Return what callers may see of a fault, `lost` for a broken connection; None for a bug."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "pgcode", None)
    if code == _CANCELLED or deadlines.is_over():
        return DeadlineError("the database did not finish before the deadline")
    if code == _NO_NUMBER and positions.proof.get():
        return BehindError("the replica is too far behind")
    if code in _CONTENTION:
        return AbortedError("the call conflicted with concurrent changes; repeat it")
    is_broken = isinstance(error, DBAPIError) and error.connection_invalidated
    is_operational = isinstance(cause, psycopg2.OperationalError | psycopg2.InterfaceError)
    if is_broken or (code is None and is_operational):
        return lost("the database cannot be reached", retry_after=RETRY_AFTER)
    is_unavailable = code in _UNAVAILABLE_CODES or (code or "")[:2] in _UNAVAILABLE_CLASSES
    if is_unavailable or is_of_node(cause) or _is_ending(cause) or _is_stale_plan(cause):
        return lost("the database is not available", retry_after=RETRY_AFTER)
    return None


def forget_texts(error: BaseException | None) -> None:
    """Leave nothing in what the server said of a fault but its code and names of the schema.

    The server quotes rows in a DETAIL, and the driver the statement with its values. Both would be
    in every log to which the fault or its traceback gets, so they go where the fault comes from.
    """
    cause = error.orig if isinstance(error, DBAPIError) else error
    if error is None or not isinstance(cause, psycopg2.Error):
        return
    if (code := cause.pgcode) is None:
        # Said by the driver, of the connection.
        return
    names = {
        "constraint": cause.diag.constraint_name,
        "table": cause.diag.table_name,
        "column": cause.diag.column_name,
    }
    lost = _NODE_LOST.search(str(cause)) or _ENDING.search(str(cause))
    said = [lost[0]] if lost else []
    said += [f"{kind} {name}" for kind, name in names.items() if name]
    error.args = (f"{type(cause).__name__}: {', '.join([f'SQLSTATE {code}', *said])}",)


def why(error: Exception) -> str:
    """Return for the log what a check of this service has failed for, for example a wrong password.

    Callers are told less: what the driver says of a connection names hosts, users and databases.
    """
    if not isinstance(error, AppException):
        return repr(error)
    cause = error.__cause__
    if isinstance(cause, psycopg2.Error) and cause.pgcode is None:
        return f"{error.message}: {' '.join(str(cause).split())}"
    return error.message


def violates(error: IntegrityError, constraint: str) -> bool:
    """Whether a statement failed for this constraint or unique index, and for no other."""
    said = error.orig.diag if error.orig is not None else None  # type: ignore[attr-defined]  # it is psycopg2's
    if said is None:
        return False
    # A coordinator of Citus passes on in words what a shard's node has said, and not the name.
    names = re.findall(r"\w+", said.constraint_name or said.message_primary or "")
    # Each shard of a distributed table has its own number behind the name.
    return any(re.fullmatch(rf"{re.escape(constraint)}(_\d+)?", name) for name in names)


def _is_stale_plan(error: BaseException | None) -> bool:
    """Whether a migration changed what a prepared statement returns, which is of no more use."""
    if not isinstance(error, psycopg2.errors.FeatureNotSupported):
        return False
    return bool(error.diag.source_function == _STALE_PLAN)


def _is_ending(error: BaseException | None) -> bool:
    """Whether the server that one is connected with ends, and says so in words only."""
    code = getattr(error, "pgcode", None)
    return code == _INTERNAL and bool(_ENDING.search(str(error)))


def is_of_node(error: BaseException | None) -> bool:
    """Whether a node behind the database is lost, and the connection as good as before."""
    code = getattr(error, "pgcode", None) or ""
    return code[:2] == "08" or (code == _INTERNAL and bool(_NODE_LOST.search(str(error))))
