"""Hot reads: prepared once, one message a call, and as robust as every other read."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
import sqlalchemy
from sqlalchemy import text

from kith.exceptions import DeadlineError, UnavailableError
from shared.database.reader import Reader, Statement
from shared.database.session import statements_in_call
from tests.support.pair import Databases
from tests.support.reading import new_reader
from tests.support.wire import WireTap

_AMOUNTS = Statement(
    "amounts",
    """SELECT id, amount FROM accounts
       WHERE id = ANY (CAST(:ids AS bigint[])) AND amount >= :least AND note LIKE '1%'
       ORDER BY id""",
)
_SLOW = Statement("slow", "SELECT pg_sleep(:seconds)")
_ALL = {"ids": "{1,2}", "least": 0}


@pytest.fixture
def url(databases: Databases) -> str:
    """A database with two accounts of 10."""
    url = databases.new("graph")
    _change(url, "CREATE TABLE accounts (id bigint PRIMARY KEY, amount int, note text)")
    _change(url, "INSERT INTO accounts VALUES (1, 10, '1'), (2, 10, '1')")
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
def reader(url: str, tap: WireTap) -> Iterator[Reader]:
    """A reader of the database, through the proxy."""
    reader = new_reader(_through(url, tap))
    yield reader
    reader.close()


def _change(url: str, statement: str) -> None:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.execute(text(statement))


def _through(url: str, tap: WireTap) -> str:
    through = sqlalchemy.make_url(url).set(port=tap.port).update_query_dict({"sslmode": "disable"})
    return through.render_as_string(hide_password=False)


@pytest.mark.parametrize("prepare", ["on", "off"])
def test_rows_are_the_same_prepared_or_not(url: str, prepare: str) -> None:
    reader = new_reader(url, {"DATABASE_PREPARE": prepare})

    for ids, least in [("{1,2}", 0), ("{2}", 0), ("{1,2}", 11), ("{}", 0), ("{2,1,1}", 10)]:
        expected = [(id_, 10) for id_ in (1, 2) if str(id_) in ids and least <= 10]
        assert reader.rows(_AMOUNTS, {"ids": ids, "least": least}) == expected

    reader.close()


def test_every_call_is_one_message_the_first_one_as_well(reader: Reader, tap: WireTap) -> None:
    for _ in range(3):
        assert len(reader.rows(_AMOUNTS, _ALL)) == 2

    assert len(tap.statements) == 3


def test_a_statement_is_prepared_once_for_a_connection(url: str) -> None:
    reader = new_reader(url, {"DATABASE_PREPARE": "on"})
    prepared = Statement("prepared", "SELECT name FROM pg_prepared_statements ORDER BY name")

    reader.rows(_AMOUNTS, _ALL)
    reader.rows(_AMOUNTS, _ALL)

    assert reader.rows(prepared, {}) == [("amounts",), ("prepared",)]
    reader.close()


def test_without_preparing_nothing_is_left_on_the_connection(url: str) -> None:
    reader = new_reader(url, {"DATABASE_PREPARE": "off"})
    reader.rows(_AMOUNTS, _ALL)

    assert reader.rows(Statement("prepared", "SELECT FROM pg_prepared_statements"), {}) == []
    reader.close()


def test_a_read_hides_that_all_connections_had_broken(reader: Reader, tap: WireTap) -> None:
    both_read = threading.Barrier(2)

    def read() -> None:
        both_read.wait(10)
        reader.rows(_SLOW, {"seconds": 0.1})

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(read) for _ in range(2)]:
            done.result()
    tap.break_connections()

    assert len(reader.rows(_AMOUNTS, _ALL)) == 2


def test_a_read_hides_that_a_migration_changed_what_it_returns(url: str, reader: Reader) -> None:
    reader.rows(_AMOUNTS, _ALL)
    _change(url, "ALTER TABLE accounts ALTER amount TYPE bigint")

    assert reader.rows(_AMOUNTS, _ALL) == [(1, 10), (2, 10)]


def test_a_read_that_takes_too_long_is_stopped(url: str) -> None:
    reader = new_reader(url, {"DATABASE_STATEMENT_TIMEOUT_SECONDS": "0.1"})

    with pytest.raises(DeadlineError):
        reader.rows(_SLOW, {"seconds": 30})

    assert len(reader.rows(_AMOUNTS, _ALL)) == 2
    reader.close()


def test_a_database_that_is_not_there_is_unavailable(reader: Reader, tap: WireTap) -> None:
    tap.close()

    with pytest.raises(UnavailableError) as caught:
        reader.rows(_AMOUNTS, _ALL)

    assert caught.value.retry_after


def test_a_mistake_in_a_statement_is_not_hidden_and_harms_no_later_read(reader: Reader) -> None:
    wrong = Statement("wrong", "SELECT nothing FROM accounts WHERE id = :id")

    for _ in range(2):
        with pytest.raises(psycopg2.errors.UndefinedColumn):
            reader.rows(wrong, {"id": 1})

    assert len(reader.rows(_AMOUNTS, _ALL)) == 2


def test_reads_of_many_threads_keep_to_themselves(reader: Reader) -> None:
    def read(number: int) -> bool:
        wanted = number % 2 + 1
        return reader.rows(_AMOUNTS, {"ids": f"{{{wanted}}}", "least": 0}) == [(wanted, 10)]

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(400)))


def test_reads_are_counted_for_the_call_they_belong_to(reader: Reader) -> None:
    count = [0]
    token = statements_in_call.set(count)

    reader.rows(_AMOUNTS, _ALL)
    reader.rows(_AMOUNTS, _ALL)

    statements_in_call.reset(token)
    assert count == [2]
