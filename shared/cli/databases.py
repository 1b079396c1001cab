"""The two databases, wherever they are, with the newest schema."""

import os
from contextlib import ExitStack

import migrations
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
