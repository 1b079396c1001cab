"""The two databases, wherever they are, with the newest schema."""

import os
from contextlib import ExitStack

import migrations
from shared.cli.terminal import CommandError
from shared.embedded_postgres import EmbeddedPostgres
from shared.settings import DatabaseSettings, Environment

SERVICES = ("graph", "feed")


def migrate(stack: ExitStack) -> None:
    """Bring both databases forward, each the one that its service would use.

    The embedded PostgreSQL, where one of them is in it, is held until the stack is closed.
    """
    environment = Environment(os.environ)
    settings = {name: DatabaseSettings.read(environment, name.upper()) for name in SERVICES}
    environment.check()
    for name, database in settings.items():
        url = database.url
        if not url:
            url = stack.enter_context(EmbeddedPostgres(database.data_dir)).url(f"kith_{name}")
        migrations.upgrade(name, url)


def feed_url() -> str:
    """Return where the feed's database is, which must be one of the operator's own."""
    environment = Environment(os.environ)
    url = DatabaseSettings.read(environment, "FEED").url
    environment.check()
    if not url:
        raise CommandError("FEED_DATABASE_URL must name a database with Citus")
    return url
