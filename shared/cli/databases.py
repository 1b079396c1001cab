"""The two databases, wherever they are."""

import os
from collections.abc import Sequence
from contextlib import ExitStack

from kith.cli.terminal import CommandError
from kith.environment import Environment
from shared.database import schema
from shared.database.embedded_postgres import EmbeddedPostgres
from shared.database.settings import DatabaseSettings

SERVICES = ("graph", "feed")


def settings(services: Sequence[str] = SERVICES) -> dict[str, DatabaseSettings]:
    """Return where each service would look for its database."""
    environment = Environment(os.environ)
    found = {name: DatabaseSettings.read(environment, name.upper()) for name in services}
    environment.check()
    return found


def url(service: str, database: DatabaseSettings, stack: ExitStack) -> str:
    """Return the URL of a database; the embedded PostgreSQL runs until the stack is closed."""
    if database.url:
        return database.url
    return stack.enter_context(EmbeddedPostgres(database.data_dir)).url(f"kith_{service}")


def migrate(stack: ExitStack) -> None:
    """Bring both databases forward, each the one that its service would use.

    The embedded PostgreSQL, where one of them is in it, runs until the stack is closed.
    """
    for name, database in settings().items():
        schema.upgrade(name, url(name, database, stack))


def require_feed_url() -> None:
    """Raise CommandError unless the feed's database is one of the operator's own."""
    if not settings(["feed"])["feed"].url:
        raise CommandError("FEED_DATABASE_URL must name a database with Citus")
