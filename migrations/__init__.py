"""The two schema histories, one for each service's database.

upgrade("graph", url)     bring a database to the newest revision
head("graph")             the newest revision there is
"""

from functools import cache
from pathlib import Path

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from shared.database import Database
from shared.errors import UnavailableError

_HERE = Path(__file__).parent


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


def current(connection: sqlalchemy.Connection) -> str | None:
    """Return the revision that a database is at, or None when it was never migrated."""
    exists = sqlalchemy.text("SELECT to_regclass('alembic_version')")
    if connection.execute(exists).scalar() is None:
        return None
    version: str | None = connection.execute(
        sqlalchemy.text("SELECT version_num FROM alembic_version")
    ).scalar()
    return version


def check(database: Database, service: str) -> None:
    """Raise UnavailableError unless the database answers with a schema that this code can use.

    A revision that this code does not know is a later one: during a rolling upgrade the database is
    migrated first, and every migration can meet the previous version of the code.
    """
    found = database.read(current)
    if found is None or found in _past(service):
        raise UnavailableError(f"the schema is at {found}, the code wants {head(service)}")


@cache
def _past(service: str) -> frozenset[str]:
    script = ScriptDirectory.from_config(configuration(service))
    return frozenset(revision.revision for revision in script.walk_revisions()) - {head(service)}
