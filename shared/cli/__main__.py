"""Reading the command line."""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from rich.console import Console

from kith.client.sessions import FEED, GRAPH
from shared.cli import databases, erasure, pages, schemas, shards, transfers
from shared.cli.arguments import LARGEST_ID, Parser, Version, day, identifier, whole, zone
from shared.cli.clients import connected
from shared.cli.files import written
from shared.cli.outcome import outcome
from shared.cli.run import run
from shared.cli.terminal import Terminal
from shared.cli.transfers import Spread
from shared.setting_names import unknown_settings

_Command: TypeAlias = Callable[[Namespace, Console], None]

# Who writes what is drawn for all authors at once, in memory.
_MOST_AUTHORS = 1_000_000
_MOST_DAYS = 20_000  # posts are not from before 1970
_MOST_PAGES = 1_000_000
_MOST_SHARDS = 64_000  # Citus has no more
_INPUT = "input file; `-` is standard input; .gz is unpacked"
_OUTPUT = "output file, compressed if it ends in .gz; `-` or nothing is standard output"
_STATUSES = """\
exit status: 0 done; 1 failed; 2 invalid arguments or settings; 3 import complete, but rows were
refused; 130 interrupted; 141 the reader of the output closed it
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, of this process's arguments for None; returns the exit status."""
    return outcome(lambda: _run_command(arguments))


def _run_command(arguments: Sequence[str] | None) -> None:
    try:
        parsed = _parser().parse_args(arguments)
    except SystemExit:  # after --help and --version, which are printed
        return
    command: _Command = parsed.command
    command(parsed, Terminal())


def _parser() -> ArgumentParser:
    parser = Parser(
        prog="kith", description="A social graph and the feed behind it.", epilog=_STATUSES
    )
    parser.add_argument("--version", action=Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add(commands.add_parser, "run", _run, "start PostgreSQL and both services with sample data")
    _add(
        commands.add_parser, "gateway", _gateway, "start Envoy in front of both services, for HTTP"
    )
    schema = _add(
        commands.add_parser, "migrate", _migrate, "migrate both databases to the newest schema"
    )
    schema.add_argument(
        "--check",
        action="store_true",
        help="print what would be applied, change nothing; exit status 1 if anything",
    )
    schema.add_argument(
        "--service", choices=databases.SERVICES, help="migrate the database of this service only"
    )
    schema.add_argument(
        "--to",
        metavar="REVISION",
        help="target revision, forward or back, such as graph_0005; needs --service",
    )
    _add(commands.add_parser, "doctor", _doctor, "check settings, databases and clocks")

    feed = _add(commands.add_parser, "feed", _feed, "print a person's feed")
    feed.add_argument("user", type=identifier)
    feed.add_argument(
        "--pages", type=whole(1, _MOST_PAGES), default=1, help="number of pages (default 1)"
    )
    digest = _add(commands.add_parser, "digest", _digest, "print a person's digest of a week")
    digest.add_argument("user", type=identifier)
    digest.add_argument(
        "--week-of",
        type=day,
        help="any day of the week, as YYYY-MM-DD (default today)",
    )
    digest.add_argument(
        "--time-zone",
        type=zone,
        default="UTC",
        help="IANA time zone, such as Europe/Lisbon (default UTC)",
    )
    explain = _add(
        commands.add_parser, "explain", _explain, "explain why a person sees a post or not"
    )
    for name, what in (
        ("author", "id of the post's author"),
        ("post", "id of the post, which `kith feed` prints"),
        ("viewer", "id of the person who reads it"),
    ):
        explain.add_argument(name, type=identifier, help=what)
    connections = _add(
        commands.add_parser, "connections", _connections, "print a person's connections"
    )
    connections.add_argument("user", type=identifier)

    imports = commands.add_parser("import", help="import data from a file").add_subparsers(
        required=True, metavar="WHAT"
    )
    edges = _add(
        imports.add_parser,
        "connections",
        _import_connections,
        "import connections from a CSV file with pairs of ids",
    )
    edges.add_argument("file", type=Path, help=f"{_INPUT}; a header may have connect_time")
    edges.add_argument(
        "--id-offset",
        type=whole(-LARGEST_ID, LARGEST_ID),
        default=0,
        help="number added to every id; ids must be positive",
    )
    texts = _add(
        imports.add_parser,
        "posts",
        _import_posts,
        "import posts for all connections from a file of texts",
    )
    texts.add_argument("file", type=Path, help=f"{_INPUT}; CSV, or one text a line")
    texts.add_argument(
        "--column", help="CSV column of the texts (default text); with it every file is read as CSV"
    )
    texts.add_argument(
        "--authors",
        type=whole(1, _MOST_AUTHORS),
        required=True,
        help="number of authors: people 1 to AUTHORS",
    )
    texts.add_argument(
        "--days",
        type=whole(1, _MOST_DAYS),
        default=14,
        help="spread the posts over so many past days (default 14)",
    )
    texts.add_argument(
        "--seed",
        type=whole(-LARGEST_ID, LARGEST_ID),
        default=1,
        help="seed of the random authors and times (default 1)",
    )

    exports = commands.add_parser("export", help="export data").add_subparsers(
        required=True, metavar="WHAT"
    )
    out = _add(exports.add_parser, "connections", _export_connections, "export connections as CSV")
    out.add_argument("file", type=Path, nargs="?", help=_OUTPUT)
    person = _add(
        exports.add_parser, "user", _export_user, "export all data of a person as JSON lines"
    )
    person.add_argument("user", type=identifier)
    person.add_argument("file", type=Path, nargs="?", help=_OUTPUT)
    erase = _add(commands.add_parser, "erase", _erase, "erase a person from both services")
    erase.add_argument("user", type=identifier)
    erase.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    erase.add_argument(
        "--dry-run", action="store_true", help="print what would be erased, erase nothing"
    )
    spread = commands.add_parser(
        "shards", help="distribute the feed's database with Citus"
    ).add_subparsers(required=True, metavar="WHAT")
    create = _add(
        spread.add_parser,
        "create",
        _create_shards,
        "distribute all tables that are not distributed yet",
    )
    create.add_argument(
        "--count",
        type=whole(1, _MOST_SHARDS),
        default=8,
        help="number of shards, if there are none yet (default 8)",
    )
    _add(
        spread.add_parser,
        "report",
        _report_shards,
        "print the shards of each node and how even they are",
    )
    for command in (feed, digest, explain, connections, edges, texts, out, person, erase):
        _add_targets(command)
    return parser


def _add(
    add_parser: Callable[..., ArgumentParser], name: str, command: _Command, summary: str
) -> ArgumentParser:
    parser = add_parser(name, help=summary, description=summary)
    parser.set_defaults(command=command)
    return parser


def _add_targets(parser: ArgumentParser) -> None:
    for service, default in (("graph", GRAPH), ("feed", FEED)):
        variable = f"{service.upper()}_TARGET"
        parser.add_argument(
            f"--{service}",
            metavar="HOST:PORT",
            default="",
            help=f"address of {service}_service (default {variable}, then {default})",
        )


def _point_out_unknown_settings() -> None:
    for name, meant in unknown_settings(os.environ).items():
        sys.stderr.write(f"kith: {name} is not a setting{meant and f'; {meant} is'}\n")


def _run(_arguments: Namespace, console: Console) -> None:
    _point_out_unknown_settings()
    run(console)


def _gateway(_arguments: Namespace, console: Console) -> None:
    from shared.cli.gateway import gateway  # noqa: PLC0415 -- other commands need no Envoy

    _point_out_unknown_settings()
    gateway(console)


def _migrate(arguments: Namespace, console: Console) -> None:
    _point_out_unknown_settings()
    services = [arguments.service] if arguments.service else databases.SERVICES
    if arguments.to is not None:
        schemas.require_revision(arguments.service, arguments.to)
    work = schemas.check if arguments.check else schemas.migrate
    work(services, console, revision=arguments.to)


def _doctor(_arguments: Namespace, console: Console) -> None:
    from shared.cli import doctor  # noqa: PLC0415 -- other commands wait for no database driver

    _point_out_unknown_settings()
    doctor.examine(console)


def _feed(arguments: Namespace, console: Console) -> None:
    with connected(graph=arguments.graph, feed=arguments.feed) as kith:
        pages.print_feed(arguments.user, kith, console, pages=arguments.pages)


def _digest(arguments: Namespace, console: Console) -> None:
    with connected(graph=arguments.graph, feed=arguments.feed) as kith:
        pages.print_digest(
            arguments.user,
            kith,
            console,
            week_of=arguments.week_of,
            zone=arguments.time_zone,
        )


def _explain(arguments: Namespace, console: Console) -> None:
    with connected(graph=arguments.graph, feed=arguments.feed) as kith:
        pages.print_explanation(arguments.author, arguments.post, arguments.viewer, kith, console)


def _connections(arguments: Namespace, console: Console) -> None:
    with connected(graph=arguments.graph, feed=arguments.feed) as kith:
        pages.print_connections(arguments.user, kith, console)


def _import_connections(arguments: Namespace, console: Console) -> None:
    with connected(graph=arguments.graph, feed=arguments.feed) as kith:
        transfers.import_connections(arguments.file, kith, console, id_offset=arguments.id_offset)


def _import_posts(arguments: Namespace, console: Console) -> None:
    with connected(graph=arguments.graph, feed=arguments.feed) as kith:
        transfers.import_posts(
            arguments.file,
            kith,
            console,
            column=arguments.column,
            spread=Spread(authors=arguments.authors, days=arguments.days, seed=arguments.seed),
        )


def _export_connections(arguments: Namespace, _console: Console) -> None:
    with (
        connected(graph=arguments.graph, feed=arguments.feed) as kith,
        written(arguments.file) as out,
    ):
        transfers.export_connections(kith, out)


def _export_user(arguments: Namespace, _console: Console) -> None:
    with (
        connected(graph=arguments.graph, feed=arguments.feed) as kith,
        written(arguments.file) as out,
    ):
        transfers.export_user(arguments.user, kith, out)


def _erase(arguments: Namespace, console: Console) -> None:
    with connected(graph=arguments.graph, feed=arguments.feed) as kith:
        if arguments.dry_run:
            erasure.print_erasure(arguments.user, kith, console)
        else:
            erasure.erase_user(arguments.user, kith, console, is_agreed=arguments.yes)


def _create_shards(arguments: Namespace, _console: Console) -> None:
    shards.become("create", "--count", str(arguments.count))


def _report_shards(_arguments: Namespace, _console: Console) -> None:
    shards.become("report")


if __name__ == "__main__":
    sys.exit(main())
