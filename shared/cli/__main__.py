"""Reading the command line, and saying in one line what went wrong."""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import TextIO, TypeAlias

from rich.console import Console
from sqlalchemy.exc import DBAPIError

from shared.cli import databases, pages, shards, transfers
from shared.cli.clients import connected, sentence
from shared.cli.run import run
from shared.cli.terminal import CommandError
from shared.cli.transfers import Spread
from shared.client.sessions import FEED, GRAPH
from shared.embedded_postgres import EmbeddedPostgresError
from shared.errors import AppException
from shared.settings import SettingsError

_Command: TypeAlias = Callable[[Namespace, Console], None]
_INTERRUPTED = 130


def main() -> int:
    """Run one command; returns the exit status."""
    # A terminal that cannot show a character shows a question mark instead of a traceback.
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    arguments = _parser().parse_args()
    command: _Command = arguments.command
    try:
        command(arguments, Console())
        sys.stdout.flush()
    except (CommandError, EmbeddedPostgresError, SettingsError) as error:
        return _fail(str(error))
    except AppException as error:
        return _fail(sentence(error))
    except DBAPIError as error:
        return _fail(f"the database does not answer: {error.orig}")
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has enough; Python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="kith", description="A social graph and the feed behind it.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add(commands.add_parser, "run", _run, "start everything on a sample, until Ctrl-C")
    _add(commands.add_parser, "gateway", _gateway, "put Envoy in front of both, until Ctrl-C")
    _add(commands.add_parser, "migrate", _migrate, "bring both databases to the newest schema")

    feed = _add(commands.add_parser, "feed", _feed, "print a person's feed")
    feed.add_argument("user", type=int)
    feed.add_argument("--pages", type=_positive, default=1, help="how many (default 1)")
    digest = _add(commands.add_parser, "digest", _digest, "print a person's digest of a week")
    digest.add_argument("user", type=int)
    digest.add_argument(
        "--week-of",
        type=date.fromisoformat,
        help="any day of it, as YYYY-MM-DD (default today)",
    )
    digest.add_argument("--time-zone", default="UTC", help="such as Europe/Lisbon (default UTC)")
    explain = _add(
        commands.add_parser, "explain", _explain, "say why a person sees a post or does not"
    )
    for name, what in (
        ("author", "who wrote it"),
        ("post", "its number, which `kith feed` prints"),
        ("viewer", "who looks"),
    ):
        explain.add_argument(name, type=int, help=what)
    connections = _add(
        commands.add_parser, "connections", _connections, "print a person's connections"
    )
    connections.add_argument("user", type=int)

    imports = commands.add_parser("import", help="bring data in from a file").add_subparsers(
        required=True, metavar="WHAT"
    )
    edges = _add(
        imports.add_parser, "connections", _import_connections, "from a CSV file of id pairs"
    )
    edges.add_argument("file", type=Path)
    edges.add_argument(
        "--id-offset", type=int, default=0, help="added to every id; ids must be positive"
    )
    texts = _add(
        imports.add_parser, "posts", _import_posts, "from a file of texts, to all connections"
    )
    texts.add_argument("file", type=Path, help=".csv, or any other with one text a line")
    texts.add_argument("--column", default="text", help="of the CSV file (default text)")
    texts.add_argument(
        "--authors", type=_positive, required=True, help="they are people 1 to AUTHORS"
    )
    texts.add_argument(
        "--days", type=_positive, default=14, help="how far back they were written (default 14)"
    )
    texts.add_argument("--seed", type=int, default=1, help="who writes what when (default 1)")

    exports = commands.add_parser("export", help="write data out").add_subparsers(
        required=True, metavar="WHAT"
    )
    out = _add(exports.add_parser, "connections", _export_connections, "as CSV")
    out.add_argument("file", type=Path, nargs="?", help="standard output when left out")
    person = _add(
        exports.add_parser, "user", _export_user, "a person's posts and all, as JSON lines"
    )
    person.add_argument("user", type=int)
    person.add_argument("file", type=Path, nargs="?", help="standard output when left out")
    erase = _add(commands.add_parser, "erase", _erase, "erase a person from both services")
    erase.add_argument("user", type=int)
    spread = commands.add_parser(
        "shards", help="spread the feed's database over the nodes of Citus"
    ).add_subparsers(required=True, metavar="WHAT")
    create = _add(spread.add_parser, "create", _create_shards, "distribute every table that is not")
    create.add_argument(
        "--count", type=_positive, default=8, help="of shards, if there are none yet (default 8)"
    )
    _add(spread.add_parser, "report", _report_shards, "print what lies where, and how evenly")
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
            help=f"where {service}_service is (default {variable}, then {default})",
        )


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def _run(_arguments: Namespace, console: Console) -> None:
    run(console)


def _gateway(_arguments: Namespace, console: Console) -> None:
    # Whoever starts no gateway needs neither Envoy nor what reads its configuration.
    from shared.cli.gateway import gateway  # noqa: PLC0415

    gateway(console)


def _migrate(_arguments: Namespace, console: Console) -> None:
    with ExitStack() as stack:
        databases.migrate(stack)
    console.print("Both databases have the newest schema.")


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
            time_zone=arguments.time_zone,
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
    with connected(graph=arguments.graph, feed=arguments.feed) as kith, _out(arguments) as out:
        transfers.export_connections(kith, out)


def _export_user(arguments: Namespace, _console: Console) -> None:
    with connected(graph=arguments.graph, feed=arguments.feed) as kith, _out(arguments) as out:
        transfers.export_user(arguments.user, kith, out)


def _erase(arguments: Namespace, console: Console) -> None:
    with connected(graph=arguments.graph, feed=arguments.feed) as kith:
        transfers.erase_user(arguments.user, kith, console)


def _create_shards(arguments: Namespace, console: Console) -> None:
    shards.create(databases.feed_url(), console, count=arguments.count)


def _report_shards(_arguments: Namespace, console: Console) -> None:
    shards.print_report(databases.feed_url(), console)


@contextmanager
def _out(arguments: Namespace) -> Iterator[TextIO]:
    """Open the file that is named, or else standard output."""
    if arguments.file is None:
        yield sys.stdout
        return
    with arguments.file.open("w", encoding="utf-8", newline="") as out:
        yield out


def _fail(message: str) -> int:
    sys.stderr.write(f"kith: {message}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
