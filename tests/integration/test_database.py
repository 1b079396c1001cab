"""Reads and writes against a database that fails in the ways databases do."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg2
import psycopg2.errors
import pytest
import sqlalchemy
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from kith.environment import Environment
from kith.exceptions import AbortedError, DeadlineError, RateLimitError, UnavailableError
from shared.database.database import (
    Database,
    in_transaction,
    run,
    send_with_begin,
    send_with_commit,
    violates,
)
from shared.database.endpoint import Endpoint
from shared.database.metrics import database_latency
from shared.database.settings import DatabaseSettings
from shared.database.statement import Rows, Statement
from tests.support.pair import Databases
from tests.support.processes import until
from tests.support.wire import WireTap


@pytest.fixture
def url(databases: Databases) -> str:
    """A database with two accounts of 10."""
    url = databases.new("graph")
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE accounts (id int PRIMARY KEY, amount int)"))
        connection.execute(text("INSERT INTO accounts VALUES (1, 10), (2, 10)"))
    return url


@pytest.fixture
def tap(url: str) -> Iterator[WireTap]:
    """A proxy in front of that database."""
    parsed = sqlalchemy.make_url(url)
    assert parsed.host
    assert parsed.port
    with WireTap(parsed.host, parsed.port) as tap:
        yield tap


@pytest.fixture
def database(url: str, tap: WireTap) -> Iterator[Database]:
    """The database, through the proxy."""
    database = _database(url, tap, {})
    yield database
    database.close()


def _database(url: str, tap: WireTap, variables: dict[str, str]) -> Database:
    environment = Environment(variables)
    settings = replace(DatabaseSettings.read(environment, "GRAPH"), data_dir=Path())
    through = sqlalchemy.make_url(url).set(port=tap.port).update_query_dict({"sslmode": "disable"})
    url = through.render_as_string(hide_password=False)
    return Database(Endpoint.of(settings, url, database_latency(CollectorRegistry())))


def _is_free(database: Database, lock: str) -> bool:
    with database.advisory_lock(lock) as connection:
        return connection is not None


def _amounts(connection: Connection) -> list[int]:
    return list(connection.execute(text("SELECT amount FROM accounts ORDER BY id")).scalars())


def _words(statement: str, number: int = 2) -> str:
    return " ".join(statement.split()[:number])


def _take(connection: Connection, account: int, amount: int = 1) -> None:
    connection.execute(
        text("UPDATE accounts SET amount = amount - :amount WHERE id = :id"),
        {"amount": amount, "id": account},
    )


def test_nothing_stays_of_a_transaction_that_raises(database: Database) -> None:
    def work(connection: Connection) -> None:
        _take(connection, 1)
        raise KeyError

    with pytest.raises(KeyError):
        database.write(work)

    assert database.read(_amounts) == [10, 10]


def test_a_connection_that_raised_is_fit_for_the_next_call(
    database: Database, tap: WireTap
) -> None:
    with pytest.raises(sqlalchemy.exc.ProgrammingError):
        database.write(lambda connection: connection.execute(text("SELECT nothing")))
    tap.reset()

    database.write(lambda connection: _take(connection, 1))

    assert [_words(statement) for statement in tap.statements] == ["BEGIN; UPDATE", "COMMIT"]
    assert database.read(_amounts) == [9, 10]


def test_a_transaction_without_a_statement_sends_nothing(database: Database, tap: WireTap) -> None:
    database.read(_amounts)
    tap.reset()

    database.write(lambda _connection: None)

    assert tap.statements == []


def test_what_follows_a_statement_that_nobody_understands_is_in_the_transaction(
    database: Database,
) -> None:
    def work(connection: Connection) -> None:
        with pytest.raises(sqlalchemy.exc.ProgrammingError):
            connection.execute(text("SELEKT"))
        _take(connection, 1)
        raise KeyError

    with pytest.raises(KeyError):
        database.write(work)

    assert database.read(_amounts) == [10, 10]


def test_reads_after_a_transaction_on_the_same_connection_are_in_none(
    database: Database, tap: WireTap
) -> None:
    with database.advisory_lock("one") as connection:
        assert connection is not None
        with in_transaction(connection):
            _take(connection, 1)
        with pytest.raises(sqlalchemy.exc.ProgrammingError), in_transaction(connection):
            connection.execute(text("SELECT nothing"))
        tap.reset()

        assert _amounts(connection) == [9, 10]
        assert [_words(statement, 1) for statement in tap.statements] == ["SELECT"]


def test_a_read_hides_that_its_connection_had_broken(database: Database, tap: WireTap) -> None:
    database.read(_amounts)
    tap.break_connections()

    assert database.read(_amounts) == [10, 10]


def test_a_write_hides_that_its_connection_had_broken(database: Database, tap: WireTap) -> None:
    database.read(_amounts)
    tap.break_connections()

    database.write(lambda connection: _take(connection, 1))

    assert database.read(_amounts) == [9, 10]


def test_a_connection_that_breaks_in_the_middle_changes_nothing_twice(
    database: Database, tap: WireTap
) -> None:
    breaks = iter([True])

    def work(connection: Connection) -> None:
        _take(connection, 1)
        if next(breaks, False):
            tap.break_connections()
        _take(connection, 2)

    database.write(work)

    assert database.read(_amounts) == [9, 9]


def test_a_commit_without_an_answer_is_reported_and_not_repeated(
    database: Database, tap: WireTap
) -> None:
    def break_after_commit(statement: str) -> None:
        if statement == "COMMIT":
            tap.break_connections()

    tap.after_statement = break_after_commit

    with pytest.raises(UnavailableError) as caught:
        database.write(lambda connection: _take(connection, 1))

    assert caught.value.retry_after
    assert database.read(_amounts) == [9, 10]


def test_two_writes_that_lock_each_other_out_both_succeed(database: Database) -> None:
    both_have_one = threading.Barrier(2)

    def move(first: int, second: int) -> None:
        attempts = iter([True])

        def work(connection: Connection) -> None:
            _take(connection, first)
            if next(attempts, False):
                both_have_one.wait(10)
            _take(connection, second)

        database.write(work)

    threads = [threading.Thread(target=move, args=pair, daemon=True) for pair in [(1, 2), (2, 1)]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert database.read(_amounts) == [8, 8]


def test_a_write_that_always_loses_is_aborted(database: Database) -> None:
    def work(connection: Connection) -> None:
        connection.execute(
            text("DO $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = '40001'; END $$")
        )

    with pytest.raises(AbortedError):
        database.write(work)


def test_a_statement_that_takes_too_long_is_stopped(url: str, tap: WireTap) -> None:
    database = _database(url, tap, {"DATABASE_STATEMENT_TIMEOUT_SECONDS": "0.1"})

    with pytest.raises(DeadlineError):
        database.read(lambda connection: connection.execute(text("SELECT pg_sleep(30)")))

    database.close()


def test_a_pool_without_a_free_connection_refuses_after_a_while(url: str, tap: WireTap) -> None:
    database = _database(
        url,
        tap,
        {
            "DATABASE_POOL_SIZE": "1",
            "DATABASE_MAX_OVERFLOW": "0",
            "DATABASE_POOL_TIMEOUT_SECONDS": "0.1",
        },
    )

    with database.transaction(), pytest.raises(RateLimitError) as caught:
        database.read(_amounts)

    assert caught.value.retry_after
    database.close()


def test_a_database_that_is_not_there_is_unavailable(url: str, tap: WireTap) -> None:
    tap.close()
    database = _database(url, tap, {})

    with pytest.raises(UnavailableError) as caught:
        database.read(_amounts)

    assert caught.value.retry_after
    assert "SELECT" not in caught.value.message
    database.close()


def test_one_block_has_a_lock_at_a_time(database: Database) -> None:
    with (
        database.advisory_lock("one") as first,
        database.advisory_lock("one") as second,
        database.advisory_lock("another") as other,
    ):
        assert first is not None
        assert second is None
        assert other is not None

    with database.advisory_lock("one") as again:
        assert again is not None


def test_a_lock_is_free_after_a_block_that_raised(database: Database) -> None:
    with pytest.raises(KeyError), database.advisory_lock("one"):
        raise KeyError

    with database.advisory_lock("one") as again:
        assert again is not None


def test_who_has_lost_the_connection_of_a_lock_cannot_write_and_others_can(
    database: Database, tap: WireTap
) -> None:
    with database.advisory_lock("one") as first:
        assert first is not None
        tap.break_connections()
        # PostgreSQL releases the lock when it has noticed that the connection is gone.
        until(lambda: _is_free(database, "one"))
        with database.advisory_lock("one") as second:
            assert second is not None
            with in_transaction(second):
                _take(second, 2)

        with pytest.raises(UnavailableError), in_transaction(first):
            _take(first, 1)

    assert database.read(_amounts) == [10, 9]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "08006",
            "connection to the remote node failed: server closed the connection unexpectedly",
        ),
        ("XX000", "could not commit transaction for shard 102031 on at least one active node"),
        ("XX000", "failure on connection marked as essential: 10.0.0.2:5432"),
    ],
)
def test_a_node_that_a_coordinator_has_lost_costs_no_connection_to_it(
    database: Database, code: str, message: str
) -> None:
    backend = text("SELECT pg_backend_pid()")
    before = database.read(lambda connection: connection.execute(backend).scalar_one())
    fault = text(f"DO $$ BEGIN RAISE EXCEPTION '{message}' USING ERRCODE = '{code}'; END $$")

    with pytest.raises(UnavailableError) as caught:
        database.write(lambda connection: connection.execute(fault))

    assert caught.value.retry_after
    assert database.read(lambda connection: connection.execute(backend).scalar_one()) == before


def test_a_coordinator_that_says_that_it_ends_is_connected_with_anew(database: Database) -> None:
    backend = text("SELECT pg_backend_pid()")
    before = database.read(lambda connection: connection.execute(backend).scalar_one())
    # What is said in place of 57P01 by a session that waits for a node when its server is killed.
    fault = "RAISE EXCEPTION 'postmaster was shut down, exiting' USING ERRCODE = 'XX000'"

    with pytest.raises(UnavailableError) as caught:
        database.write(
            lambda connection: connection.exec_driver_sql(f"DO $$ BEGIN {fault}; END $$")
        )

    assert caught.value.retry_after
    assert database.read(lambda connection: connection.execute(backend).scalar_one()) != before


def test_what_a_database_calls_a_fault_of_its_own_is_none_of_a_node(database: Database) -> None:
    fault = text("DO $$ BEGIN RAISE EXCEPTION 'out of order' USING ERRCODE = 'XX000'; END $$")

    with pytest.raises(sqlalchemy.exc.InternalError):
        database.write(lambda connection: connection.execute(fault))


@pytest.mark.parametrize("suffix", ["", "_102025"])
def test_a_violation_is_known_by_its_constraint_also_where_only_words_name_it(
    database: Database, suffix: str
) -> None:
    # So a coordinator of Citus tells what the node of a shard has refused.
    said = f'duplicate key value violates unique constraint "pk_keys{suffix}"'

    with pytest.raises(IntegrityError) as caught:
        database.read(
            lambda connection: connection.exec_driver_sql(
                f"DO $$ BEGIN RAISE unique_violation USING MESSAGE = '{said}'; END $$"
            )
        )

    assert violates(caught.value, "pk_keys")
    assert not violates(caught.value, "keys")
    assert not violates(caught.value, "pk_key")


_ADD = Statement("add", "INSERT INTO accounts VALUES (:id, :amount)")
_GIVE = Statement("give", "UPDATE accounts SET amount = amount + :amount WHERE id = :id")
_SEEN = Statement("seen", "SELECT id, amount FROM accounts WHERE id = :id")
_PREPARED = Statement("prepared", "SELECT name FROM pg_prepared_statements ORDER BY name")
_FIRST = {"id": 1, "amount": 5}


def _give(connection: Connection) -> Rows:
    return run(connection, _GIVE, _SEEN, parameters=_FIRST)


def test_several_statements_are_one_message_and_each_sees_what_the_one_before_did(
    database: Database, tap: WireTap
) -> None:
    database.read(_amounts)
    tap.reset()

    assert database.write(_give) == [(1, 15)]

    given, committed = tap.statements
    assert given.startswith("BEGIN; ")
    assert "UPDATE" in given
    assert "SELECT" in given
    assert committed == "COMMIT"


def test_statements_are_prepared_once_for_a_session(database: Database) -> None:
    for _ in range(2):
        database.write(_give)

    prepared = database.read(lambda connection: run(connection, _PREPARED, parameters={}))
    assert prepared == [("give",), ("prepared",), ("seen",)]


def test_without_preparing_statements_do_the_same_and_leave_nothing_behind(
    url: str, tap: WireTap
) -> None:
    database = _database(url, tap, {"DATABASE_PREPARE": "off"})

    assert database.write(_give) == [(1, 15)]
    assert database.read(lambda connection: run(connection, _PREPARED, parameters={})) == []
    database.close()


def test_what_fails_behind_begin_leaves_the_session_and_what_it_has_prepared(
    database: Database, tap: WireTap
) -> None:
    def work(connection: Connection) -> None:
        send_with_begin(connection, _ADD, _FIRST)
        _give(connection)

    database.read(_amounts)
    tap.reset()
    for _ in range(2):
        with pytest.raises(IntegrityError) as caught:
            database.write(work)
        assert violates(caught.value, "accounts_pkey")

    assert database.write(_give) == [(1, 15)]
    assert [_words(statement, 1) for statement in tap.statements] == [
        *["BEGIN;", "ROLLBACK"] * 2,
        *["BEGIN;", "COMMIT"],
    ]


def test_a_statement_with_a_mistake_harms_no_later_call(database: Database) -> None:
    wrong = Statement("wrong", "SELECT nothing FROM accounts WHERE id = :id")

    for _ in range(2):
        with pytest.raises(psycopg2.errors.UndefinedColumn):
            database.write(lambda connection: run(connection, _GIVE, wrong, parameters=_FIRST))

    assert database.write(_give) == [(1, 15)]


def test_what_is_sent_with_the_commit_fails_with_it(database: Database) -> None:
    def work(connection: Connection) -> None:
        _give(connection)
        send_with_commit(connection, _ADD, _FIRST)

    with pytest.raises(IntegrityError):
        database.write(work)

    assert database.read(_amounts) == [10, 10]


def test_a_write_hides_that_all_connections_had_broken(database: Database, tap: WireTap) -> None:
    with database.transaction(), database.transaction():
        database.write(_give)
    tap.break_connections()

    assert database.write(_give) == [(1, 20)]


def test_a_write_hides_that_a_migration_changed_what_it_returns(
    url: str, database: Database
) -> None:
    database.write(_give)
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE accounts ALTER amount TYPE bigint"))

    assert database.write(_give) == [(1, 20)]


def test_nothing_goes_on_in_a_block_whose_connection_broke(
    database: Database, tap: WireTap
) -> None:
    def work(connection: Connection) -> None:
        _give(connection)
        tap.break_connections()
        with pytest.raises(psycopg2.Error):
            _give(connection)
        _give(connection)

    with pytest.raises(UnavailableError):
        database.write(work)

    assert database.read(_amounts) == [10, 10]
