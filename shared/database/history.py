"""The histories of both schemas, as Alembic knows them, and databases being moved along them.

Imported only where that is done: Alembic takes a third of what a service takes to start.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationInfo

_MIGRATIONS: Final = Path(__file__).parents[2] / "migrations"


def configuration(service: str, url: str = "") -> Config:
    """Return Alembic's configuration for `graph` or `feed`."""
    config = Config(str(_MIGRATIONS / "alembic.ini"), ini_section=service)
    if url:
        # Alembic interpolates, so a percent sign in a password must be doubled.
        config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def upgrade(service: str, url: str, revision: str, progress: Callable[[str], None]) -> None:
    """Bring a database forward to a revision, or to `head`; tells each revision once applied."""
    command.upgrade(_reporting(configuration(service, url), progress), revision)


def downgrade(service: str, url: str, revision: str, progress: Callable[[str], None]) -> None:
    """Bring a database back to a revision, or to `base`; tells each revision once reverted."""
    command.downgrade(_reporting(configuration(service, url), progress), revision)


def _reporting(config: Config, progress: Callable[[str], None]) -> Config:
    def report(*, step: MigrationInfo, **_others: object) -> None:
        progress(str(step.up_revision_id))

    config.attributes["on_version_apply"] = report  # for env.py
    return config
