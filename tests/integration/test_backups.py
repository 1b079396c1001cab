"""What docs/backups.md says is done here: a backup is restored, and both services go on with it."""

import subprocess
from pathlib import Path

import pytest
import sqlalchemy

from shared.cli.__main__ import main
from shared.embedded_postgres import binaries
from tests.support.pair import ENVIRONMENT, Cluster, Databases, running_pair
from tests.support.people import People
from tests.support.processes import Session


def _dump(url: str, file: Path) -> None:
    # What the services' URLs add for SQLAlchemy is nothing to libpq.
    _run("pg_dump", "--format=custom", f"--file={file}", _plain(url))


def _restore(file: Path, url: str) -> None:
    _run("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={_plain(url)}", file)


def _plain(url: str) -> str:
    return (
        sqlalchemy.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    )


def _run(program: str, *arguments: str | Path) -> None:
    subprocess.run([binaries() / program, *arguments], check=True)


def _everything(url: str) -> dict[str, list[tuple[object, ...]]]:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    tables = sqlalchemy.inspect(engine).get_table_names()
    with Session(url) as session:
        return {
            name: [tuple(row) for row in session.rows(f"SELECT * FROM {name} ORDER BY 1")]
            for name in tables
        }


def test_what_was_dumped_is_restored_and_the_doctor_finds_nothing(
    databases: Databases,
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with running_pair(databases) as pair:
        people = People(pair)
        alice, bob = people.connected(2)
        people.tag(alice, "friends", bob)
        people.post(alice)
        urls = {"graph": pair.graph_url, "feed": pair.feed_url}
    monkeypatch.setenv("PAGE_TOKEN_KEYS", ENVIRONMENT["PAGE_TOKEN_KEYS"])

    for service, url in urls.items():
        restored = cluster.url(f"restored_{service}")
        _dump(url, tmp_path / service)
        _restore(tmp_path / service, restored)
        assert _everything(restored) == _everything(url)
        monkeypatch.setenv(f"{service.upper()}_DATABASE_URL", restored)
    status = main(["doctor"])

    assert (status, capsys.readouterr().out.count("good")) == (0, 5)


def test_the_doctor_fails_on_a_database_without_a_schema(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PAGE_TOKEN_KEYS", ENVIRONMENT["PAGE_TOKEN_KEYS"])
    for service in ("graph", "feed"):
        monkeypatch.setenv(f"{service.upper()}_DATABASE_URL", cluster.url(f"ill_{service}"))

    status = main(["doctor"])

    assert status == 1
    assert "run `kith migrate`" in capsys.readouterr().out
