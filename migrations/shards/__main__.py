"""Spreads the feed's database over the nodes of Citus, and shows how it lies there.

`kith shards` is this program: the command line knows no tables.
"""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from kith.cli.terminal import CommandError, Terminal, progress
from kith.environment import Environment
from migrations.shards.distribution import Shard, ShardsError, distribute, report, skew
from shared.cli.outcome import outcome
from shared.database.settings import DatabaseSettings


def create(url: str, console: Console, *, count: int) -> None:
    """Distribute every table that is not yet, with a progress bar."""
    with progress(console) as bar:
        tables = bar.add_task("tables")
        try:
            distributed = distribute(
                url,
                shard_count=count,
                progress=lambda done, total: bar.update(tables, completed=done, total=total),
            )
        except ShardsError as error:
            raise CommandError(str(error)) from error
    console.print(f"{distributed} tables were distributed now, and all are.")


def print_report(url: str, console: Console) -> None:
    """Print what lies where, and how much more than the mean the fullest has."""
    try:
        found = report(url)
    except ShardsError as error:
        raise CommandError(str(error)) from error
    shards = {f"{number} on {one.node}": one for number, one in enumerate(found.shards, 1)}
    for title, parts in (("shard", shards), ("node", found.nodes)):
        console.print(_table(title, parts))
        console.print(_evenness(title, list(parts.values())))
    if found.not_distributed:
        console.print(f"Not distributed: {', '.join(found.not_distributed)}.")


def _table(title: str, parts: Mapping[str, Shard]) -> Table:
    table = Table(title, "rows", "bytes")
    for name, part in parts.items():
        table.add_row(name, f"{part.rows:,}", decimal(part.size))
    return table


def _evenness(title: str, parts: Sequence[Shard]) -> str:
    found = skew(parts)
    return (
        f"The fullest {title} has {found.rows:.2f} times the mean rows, {found.size:.2f} the size."
    )


def main() -> int:
    """Run one command; returns the exit status."""
    return outcome(_run_command)


def _run_command() -> None:
    parser = ArgumentParser(prog="python -m migrations.shards")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("create").add_argument("--count", type=int, required=True)
    commands.add_parser("report")
    parsed = parser.parse_args()
    environment = Environment(os.environ)
    url = DatabaseSettings.read(environment, "FEED").url
    environment.check()
    if parsed.command == "create":
        create(url, Terminal(), count=parsed.count)
    else:
        print_report(url, Terminal())


if __name__ == "__main__":
    sys.exit(main())
