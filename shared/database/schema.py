"""The schema of a service's database: which revision it is at, and how it is brought to another.

The two histories are in migrations/, where Alembic finds them: `graph` and `feed`. Every process
that serves asks which revisions there are, so the names of the files tell that without Alembic.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

import sqlalchemy
from psycopg2.errors import UndefinedTable

from kith.exceptions import UnavailableError
from shared.database.reader import Reader, Statement

LOCK: Final = 7_215_118
"""The advisory lock of every change of a schema. Any number would do."""

_HISTORIES = Path(__file__).parents[2] / "migrations"
_TABLE = "alembic_version"
_READ = "SELECT version_num FROM alembic_version"
# Asked all the time, to say whether a service is ready.
_CURRENT = Statement("alembic_version", _READ)

Progress: TypeAlias = Callable[[str], None]
"""Called with each revision once it is applied, or taken back."""


def upgrade(
    service: str, url: str, revision: str = "head", *, progress: Progress = lambda _: None
) -> None:
    """Bring a database forward to a revision. Safe to call from several processes at once.

    A database at a revision of a later version has all that `head` means to this version.
    """
    from shared.database import history  # noqa: PLC0415 -- imports Alembic, which serving does without

    if revision == "head" and is_later(service, current(url)):
        return
    history.upgrade(service, url, revision, progress)


def downgrade(
    service: str, url: str, revision: str, *, progress: Progress = lambda _: None
) -> None:
    """Bring a database back to a revision; `base` is the empty one."""
    from shared.database import history  # noqa: PLC0415 -- as above

    history.downgrade(service, url, revision, progress)


def engine(url: str) -> sqlalchemy.Engine:
    """Return an engine for a migration's one session."""
    return sqlalchemy.create_engine(
        url.replace("postgresql://", "postgresql+psycopg2://", 1),
        poolclass=sqlalchemy.NullPool,
        hide_parameters=True,
        # A migration that waits for a lock blocks all calls that queue behind it, so it gives up
        # soon and is run again; building an index on a large table may take long.
        connect_args={
            "client_encoding": "utf8",
            "options": "-c lock_timeout=5s -c statement_timeout=30min -c timezone=UTC",
        },
    )


def current(url: str) -> str | None:
    """Return the revision of a database, or None if it was never migrated. Changes nothing."""
    with engine(url).connect() as connection:
        if not sqlalchemy.inspect(connection).has_table(_TABLE):
            return None
        found: str | None = connection.exec_driver_sql(_READ).scalar()
        return found


@cache
def revisions(service: str) -> tuple[str, ...]:
    """Return the revisions of a history, from the oldest to the newest.

    The file of a revision begins with its number.
    """
    files = sorted((_HISTORIES / service / "versions").glob("[0-9]*.py"))
    return tuple(f"{service}_{file.name.partition('_')[0]}" for file in files)


def head(service: str) -> str:
    """Return the newest revision of a history."""
    return revisions(service)[-1]


def is_later(service: str, revision: str | None) -> bool:
    """Return whether a revision is of this history, but of a later version of the code."""
    return (
        revision is not None
        and revision not in revisions(service)
        and revision.startswith(f"{service}_")
    )


def check(reader: Reader, service: str) -> None:
    """Raise UnavailableError unless the database answers with a schema that this code can use.

    A revision that this code does not know is a later one: during a rolling upgrade the database is
    migrated first, and every migration can meet the previous version of the code.
    """
    found = _read_current(reader)
    if found is None or found in revisions(service)[:-1]:
        raise UnavailableError(
            f"the schema is at {found}, the code needs {head(service)}; run `kith migrate`"
        )


def _read_current(reader: Reader) -> str | None:
    """Return the revision that a database is at, or None when it was never migrated."""
    try:
        rows = reader.rows(_CURRENT, {})
    except UndefinedTable:
        return None
    return rows[0][0] if rows else None
