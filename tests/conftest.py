"""What every test may ask for.

Tests can run in several processes (`make test N=auto`), all tests of a file in the same one. Each
process has a PostgreSQL of its own, because tests change roles, passwords and settings, which are
the whole server's. Starting one costs two seconds, less than what tests would wait for each other.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import hypothesis
import pytest
import sqlalchemy

from shared.database.embedded_postgres import EmbeddedPostgres
from tests.support.citus import NO_CITUS, SINGLE_NODE, URL, Citus, running_citus
from tests.support.clients import ThreadsLibrary, running_aio_library
from tests.support.credentials import Issuer
from tests.support.following import until_followed
from tests.support.memory import folder_for_postgres, free_memory_of_killed_runs
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import People
from tests.support.processes import is_ready, until
from tests.support.rows import row_counts
from tests.support.upkeep import cleaning, cleaning_feed

# However busy the machine is, an example that takes long is no failure.
hypothesis.settings.register_profile("kith", deadline=None)
hypothesis.settings.load_profile("kith")
# Objects that come before the youngest are looked at, and how often that happens before the next.
_GARBAGE = (20_000, 20, 20)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes run tests: three more than cores, because tests wait a lot."""
    return (os.cpu_count() or 1) + 3


def pytest_sessionstart() -> None:
    """Begin with the memory that killed runs have left, before processes are started."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        free_memory_of_killed_runs()


def pytest_collection() -> None:
    """Let collection be: what it makes stays, and looking for garbage in it takes a fifth of it."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Collect garbage from now on, but not among what was collected, and not all the time.

    Looking for it as often as the interpreter does by itself took a fourteenth of the CPU of tests.
    """
    gc.freeze()
    gc.set_threshold(*_GARBAGE)
    gc.enable()


@pytest.fixture(scope="session")
def cluster() -> Iterator[EmbeddedPostgres]:
    """One PostgreSQL for all tests of this process."""
    # pytest's own temporary directories are closed to the account that PostgreSQL runs as when the
    # tests run as root.
    with folder_for_postgres() as directory, EmbeddedPostgres(directory / "postgres") as running:
        _prepare(running.url("postgres"))
        yield running


@pytest.fixture(scope="session")
def _citus() -> Iterator[Citus | None]:
    with running_citus() as running:
        yield running


@pytest.fixture(scope="session")
def citus(_citus: Citus | None) -> Citus:
    """The Citus that the feed is on. Skips what takes one, where there is none."""
    if _citus is None:
        pytest.skip(NO_CITUS)
    return _citus


@pytest.fixture(scope="session")
def single_node() -> None:
    """Skips what is about plans or failures of one PostgreSQL, where the feed is on a Citus."""
    if URL:
        pytest.skip(SINGLE_NODE)


def _prepare(url: str) -> None:
    """Wait for no disk, and let plans depend on nothing but what tests store and analyse.

    Processes are killed here, but never the machine. Autovacuum comes once a minute, so that it
    meets other tests in every run, and takes locks and statistics of a moment.
    """
    engine = sqlalchemy.create_engine(
        url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
    )
    with engine.connect() as connection:
        connection.exec_driver_sql("ALTER SYSTEM SET fsync = off")
        connection.exec_driver_sql("ALTER SYSTEM SET full_page_writes = off")
        connection.exec_driver_sql("ALTER SYSTEM SET max_wal_size = '256MB'")
        connection.exec_driver_sql("ALTER SYSTEM SET autovacuum = off")
        connection.exec_driver_sql("SELECT pg_reload_conf()")


@pytest.fixture(scope="session")
def databases(cluster: EmbeddedPostgres, _citus: Citus | None) -> Databases:
    """A maker of databases."""
    return Databases(cluster, _citus)


@pytest.fixture(scope="session")
def pair(databases: Databases) -> Iterator[Pair]:
    """The two services, shared by all tests that keep to people of their own."""
    with running_pair(databases) as running:
        until(lambda: is_ready(running.feed_server.address))
        yield running


@pytest.fixture
def people(pair: Pair) -> People:
    """A maker of people that no other test uses, and of what is between them."""
    return People(pair)


@pytest.fixture(scope="module", params=["threads", "asyncio"])
def library(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The client in Python, in each of its two forms."""
    is_aio = request.param == "asyncio"
    with running_aio_library() if is_aio else nullcontext(ThreadsLibrary) as chosen:
        yield chosen


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    """Whose tokens are believed, with the first of its keys."""
    issuer = Issuer(tmp_path_factory.mktemp("issuer"))
    issuer.add_key("first")
    return issuer


@pytest.fixture(scope="module")
def _finished(pair: Pair) -> None:
    """What earlier files have left to the work beside the calls is done."""
    until_followed(pair)
    with cleaning(pair) as of_graph, cleaning_feed(pair) as of_feed:
        of_graph.run()
        of_feed.run()


@pytest.fixture
def unchanged(pair: Pair, _finished: None) -> Iterator[None]:
    """Fails the test when it leaves another number of rows in any table of either database."""
    before = row_counts(pair)
    yield
    assert row_counts(pair) == before
