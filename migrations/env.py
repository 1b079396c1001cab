"""Run by Alembic for the history of the section it was called with."""

import os

import sqlalchemy
from alembic import context

from feed_service import models as feed_models
from graph_service import models as graph_models
from kith.environment import SettingsError
from shared.database import schema

_METADATA = {"graph": graph_models.metadata, "feed": feed_models.metadata}


def run() -> None:
    """Migrate in one session; a second process that comes meanwhile waits for the first."""
    service = context.config.config_ini_section
    url = context.config.get_main_option("sqlalchemy.url") or os.environ.get(
        f"{service.upper()}_DATABASE_URL", ""
    )
    with schema.engine(url).connect() as connection:
        _require_utf8(connection, service)
        connection.execute(sqlalchemy.text("SELECT set_config('lock_timeout', '60s', false)"))
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": schema.LOCK})
        connection.execute(sqlalchemy.text("SELECT set_config('lock_timeout', '5s', false)"))
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=_METADATA[service],
            compare_server_default=False,
            transaction_per_migration=True,
            on_version_apply=context.config.attributes.get("on_version_apply"),
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()


def _require_utf8(connection: sqlalchemy.Connection, service: str) -> None:
    """Refuse a database that has no room for all that people write."""
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        raise SettingsError(
            f"{service.upper()}_DATABASE_URL must name a database encoded in UTF8; its encoding "
            f"is {encoding}"
        )


run()
