"""Spreading the feed's database over the nodes of Citus, and showing how it lies there."""

from typing import NoReturn

from shared.cli.databases import require_feed_url
from shared.cli.processes import become as become_program


def become(*arguments: str) -> NoReturn:
    """Go on as the program that knows the tables; raises CommandError without a database."""
    require_feed_url()
    become_program("migrations.shards", *arguments)
