"""What every test may ask for."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from shared.embedded_postgres import EmbeddedPostgres
from tests.support.credentials import Issuer
from tests.support.pair import Databases, Pair, running_pair
from tests.support.people import People
from tests.support.rows import row_counts

# However busy the machine is, an example that takes long is no failure.
hypothesis.settings.register_profile("kith", deadline=None)
hypothesis.settings.load_profile("kith")


@pytest.fixture(scope="session")
def cluster() -> Iterator[EmbeddedPostgres]:
    """One PostgreSQL for the whole run."""
    # pytest's own temporary directories are closed to the account that PostgreSQL runs as when the
    # tests run as root.
    directory = Path(tempfile.mkdtemp(prefix="kith-test-"))
    directory.chmod(0o755)
    with EmbeddedPostgres(directory / "postgres") as running:
        yield running
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def databases(cluster: EmbeddedPostgres) -> Databases:
    """A maker of databases."""
    return Databases(cluster)


@pytest.fixture(scope="session")
def pair(databases: Databases) -> Iterator[Pair]:
    """The two services, shared by all tests that keep to people of their own."""
    with running_pair(databases) as running:
        yield running


@pytest.fixture
def people(pair: Pair) -> People:
    """A maker of people nobody else uses, and of what is between them."""
    return People(pair)


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    """Whose tokens are believed, with the first of its keys."""
    issuer = Issuer(tmp_path_factory.mktemp("issuer"))
    issuer.add_key("first")
    return issuer


@pytest.fixture
def unchanged(pair: Pair) -> Iterator[None]:
    """Fails the test when it leaves another number of rows in any table of either database."""
    before = row_counts(pair)
    yield
    assert row_counts(pair) == before
