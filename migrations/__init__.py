"""The two schema histories, one for each service's database.

upgrade("graph", url)     bring a database to the newest revision
head("graph")             the newest revision there is
"""

from functools import cache
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg2.errors import UndefinedTable

from shared.errors import UnavailableError
from shared.reader import Reader, Statement

LOCK: Final = 7_215_118
"""Whom everybody who changes a schema waits for, as an advisory lock. Any number would do."""

_HERE = Path(__file__).parent
# Asked all the time, to say whether a service is ready.
_CURRENT = Statement("alembic_version", "SELECT version_num FROM alembic_version")


def configuration(service: str, url: str = "") -> Config:
    """Return Alembic's configuration for `graph` or `feed`."""
    config = Config(str(_HERE / "alembic.ini"), ini_section=service)
    if url:
        # Alembic interpolates, so a percent sign in a password must be doubled.
        config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def upgrade(service: str, url: str, revision: str = "head") -> None:
    """Bring a database forward to a revision. Safe to call from several processes at once."""
    command.upgrade(configuration(service, url), revision)


def downgrade(service: str, url: str, revision: str) -> None:
    """Bring a database back to a revision; `base` is the empty one."""
    command.downgrade(configuration(service, url), revision)


@cache
def head(service: str) -> str:
    """Return the newest revision of a history."""
    revision = ScriptDirectory.from_config(configuration(service)).get_current_head()
    if revision is None:
        raise LookupError(service)
    return revision


def check(reader: Reader, service: str) -> None:
    """Raise UnavailableError unless the database answers with a schema that this code can use.

    A revision that this code does not know is a later one: during a rolling upgrade the database is
    migrated first, and every migration can meet the previous version of the code.
    """
    found = _current(reader)
    if found is None or found in _past(service):
        raise UnavailableError(
            f"the schema is at {found}, the code wants {head(service)}; run `kith migrate`"
        )


def _current(reader: Reader) -> str | None:
    """Return the revision that a database is at, or None when it was never migrated."""
    try:
        rows = reader.rows(_CURRENT, {})
    except UndefinedTable:
        return None
    return rows[0][0] if rows else None


@cache
def _past(service: str) -> frozenset[str]:
    script = ScriptDirectory.from_config(configuration(service))
    return frozenset(revision.revision for revision in script.walk_revisions()) - {head(service)}
