"""`kith migrate`: forward and back, and what it says of that, in one line for each database."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.cli.__main__ import main
from shared.database import schema
from shared.database.embedded_postgres import EmbeddedPostgres
from tests.support.pair import Databases
from tests.support.processes import Session

_NEWEST = {service: schema.head(service) for service in ("graph", "feed")}
_GRAPH = schema.revisions("graph")
_FEED_IS_UP_TO_DATE = f"feed: at {_NEWEST['feed']}; nothing to do\n"
_UP_TO_DATE = f"graph: at {_NEWEST['graph']}; nothing to do\n" + _FEED_IS_UP_TO_DATE
# By people, in tables of the first revisions.
_WRITTEN = {
    "graph": """INSERT INTO connections (user_a_id, user_b_id, status, requested_by)
                VALUES (1, 2, 'accepted', 1)""",
    "feed": "INSERT INTO tags (owner_user_id, id, name) VALUES (1, 10, 'family')",
}
_READ = {"graph": "SELECT * FROM connections", "feed": "SELECT * FROM tags"}

Kith = Callable[..., tuple[int, str, str]]


@pytest.fixture
def kith(capsys: pytest.CaptureFixture[str]) -> Kith:
    """Runs a command in this process; returns its status, its output and its errors."""

    def run(command: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(command.split())
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def urls(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Databases of both services with the newest schema, which the settings name."""
    urls = {service: databases.new_single(service) for service in _NEWEST}
    for service, url in urls.items():
        monkeypatch.setenv(f"{service.upper()}_DATABASE_URL", url)
    return urls


_numbers = itertools.count()


@pytest.fixture
def empty_graph(
    urls: dict[str, str], cluster: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A database of the graph that was never migrated; the feed's is at the newest revision."""
    assert urls
    url = cluster.url(f"never_migrated_{next(_numbers)}")
    monkeypatch.setenv("GRAPH_DATABASE_URL", url)
    return url


def test_databases_that_are_up_to_date_are_said_to_be(kith: Kith, urls: dict[str, str]) -> None:
    assert urls
    assert kith("migrate --check") == (0, _UP_TO_DATE, "")
    assert kith("migrate") == (0, _UP_TO_DATE, "")


def test_a_check_says_what_would_be_applied_and_changes_nothing(
    kith: Kith, empty_graph: str
) -> None:
    for _ in range(2):
        assert kith("migrate --check") == (
            1,
            f"graph: never migrated; would apply {', '.join(_GRAPH)}\n" + _FEED_IS_UP_TO_DATE,
            "kith: not at the revision: graph\n",
        )
    with Session(empty_graph) as session:
        assert session.rows("SELECT FROM pg_tables WHERE schemaname = 'public'") == []


def test_a_migration_says_which_revisions_it_applied(kith: Kith, empty_graph: str) -> None:
    first = kith("migrate --service graph --to graph_0005")
    assert first == (0, f"graph: applied {', '.join(_GRAPH[:5])}\n", "")
    assert schema.current(empty_graph) == "graph_0005"

    assert kith("migrate") == (
        0,
        f"graph: applied {', '.join(_GRAPH[5:])}\n" + _FEED_IS_UP_TO_DATE,
        "",
    )


@pytest.mark.parametrize("service", ["graph", "feed"])
def test_the_newest_revision_is_taken_back_and_applied_again_and_the_data_stays(
    kith: Kith, urls: dict[str, str], service: str
) -> None:
    before, newest = schema.revisions(service)[-2:]
    with Session(urls[service]) as session:
        session.rows(_WRITTEN[service])
        session.commit()
        written = session.rows(_READ[service])
    back = f"migrate --service {service} --to {before}"

    assert kith(f"{back} --check") == (
        1,
        f"{service}: at {newest}; would revert {newest}\n",
        f"kith: not at the revision: {service}\n",
    )
    assert kith(back) == (0, f"{service}: reverted {newest}\n", "")
    assert kith(f"{back} --check") == (0, f"{service}: at {before}; nothing to do\n", "")
    assert kith(f"migrate --service {service}") == (0, f"{service}: applied {newest}\n", "")
    with Session(urls[service]) as session:
        assert session.rows(_READ[service]) == written
        assert len(written) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        "--to graph_0001",
        "--service graph --to graph_9999",
        "--service graph --to feed_0001",
        "--service graph --to graph_00",
        "--service graph --to base",
        "--service graph --to=-1",
        f"--service graph --to {'9' * 5_000}",
        "--service photos",
        "--check --service graph --to graph_9999",
    ],
)
def test_a_revision_that_is_not_of_the_service_is_refused_in_one_line(
    kith: Kith, urls: dict[str, str], arguments: str
) -> None:
    status, out, error = kith(f"migrate {arguments}")
    assert (status, out) == (2, "")
    assert error.startswith("kith: ")
    assert error.count("\n") == 1
    assert len(error) < 200
    assert schema.current(urls["graph"]) == _NEWEST["graph"]


def _set_revision(url: str, revision: str) -> None:
    with Session(url) as session:
        session.rows(f"UPDATE alembic_version SET version_num = '{revision}'")
        session.commit()


def test_the_version_before_leaves_a_newer_schema_as_it_is(
    kith: Kith, urls: dict[str, str]
) -> None:
    _set_revision(urls["graph"], "graph_9999")

    for command in ("migrate", "migrate --check"):
        status, out, error = kith(command)
        assert (status, error) == (0, "")
        assert "graph: at graph_9999 of a later version; nothing to do\n" in out
    schema.upgrade("graph", urls["graph"])
    assert schema.current(urls["graph"]) == "graph_9999"


def test_the_version_before_cannot_take_a_newer_schema_back(
    kith: Kith, urls: dict[str, str]
) -> None:
    _set_revision(urls["graph"], "graph_9999")

    status, out, error = kith(f"migrate --service graph --to {_GRAPH[-2]}")

    assert (status, out) == (1, "")
    assert "graph is at graph_9999, which this version does not know" in error
    assert schema.current(urls["graph"]) == "graph_9999"


def test_the_database_of_the_other_service_is_not_taken_for_a_newer_one(
    kith: Kith, urls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPH_DATABASE_URL", urls["feed"])

    for command in ("migrate", "migrate --check"):
        status, _, error = kith(command)
        assert status == 1
        assert f"the database of graph is at {_NEWEST['feed']}" in error


def test_what_was_applied_before_a_migration_failed_is_said(kith: Kith, empty_graph: str) -> None:
    with Session(empty_graph) as session:
        session.rows("CREATE TABLE erased_events (seq int)")
        session.commit()

    status, out, error = kith("migrate --service graph")

    assert (status, out) == (1, f"graph: applied {', '.join(_GRAPH[:6])}\n")
    assert error == (
        'kith: the database refuses a statement: relation "erased_events" already exists\n'
    )
    assert schema.current(empty_graph) == "graph_0006"


def test_a_check_does_not_start_the_embedded_database(
    kith: Kith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for service in _NEWEST:
        monkeypatch.delenv(f"{service.upper()}_DATABASE_URL", raising=False)
    monkeypatch.setenv("KITH_DATA_DIR", str(tmp_path / "data"))

    status, out, _ = kith("migrate --check")

    assert (status, out.count("the embedded database")) == (0, 2)
    assert not (tmp_path / "data").exists()
