"""Spreading the feed's database over the nodes of Citus, and showing how it lies there."""

import os
import sys
from pathlib import Path
from typing import NoReturn

from shared.cli.databases import require_feed_url


def become(*arguments: str) -> NoReturn:
    """Go on as the program that knows the tables; raises CommandError without a database."""
    require_feed_url()
    # Paths in settings are relative to the folder that this was started in, so it stays.
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "migrations.shards", *arguments]
    os.execve(sys.executable, command, environment)  # noqa: S606 -- a module of ours
