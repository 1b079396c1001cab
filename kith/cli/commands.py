"""The command line of the client: parsing it, and running one of its commands."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from rich.console import Console

from kith.cli import (
    document_imports,
    erasure,
    exports,
    imports,
    moderation,
    pages,
    suspensions,
    watches,
)
from kith.cli.arguments import (
    LARGEST_ID,
    Parser,
    Version,
    day,
    identifier,
    source_name,
    whole,
    zone,
)
from kith.cli.clients import connected
from kith.cli.files import written
from kith.cli.imports import Spread
from kith.cli.outcome import outcome
from kith.cli.terminal import Terminal
from kith.client.settings import FEED, GRAPH
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2

Command: TypeAlias = Callable[[Namespace, Console], None]
AddParser: TypeAlias = Callable[..., ArgumentParser]
"""Adds a command by its name, as the `add_parser` of argparse does."""

# The author of each text is drawn for all texts at once, in memory.
_MOST_AUTHORS = 1_000_000
_MOST_DAYS = 20_000  # posts are not from before 1970
_MOST_PAGES = 1_000_000
_INPUT = "input file; `-` is standard input; .gz is unpacked"
_OUTPUT = "output file, compressed if it ends in .gz; `-` or nothing is standard output"
_STATUSES = """\
exit status: 0 done; 1 failed; 2 invalid arguments or settings; 3 import complete, but rows were
refused; 130 interrupted; 141 the reader of the output closed it
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, of this process's arguments for None; returns the exit status."""
    parser, add_parser = command_line("The client of Kith, a social graph and a feed behind it.")
    add_client_commands(add_parser)
    return outcome(lambda: run_command(parser, arguments))


def command_line(description: str) -> tuple[ArgumentParser, AddParser]:
    """Return the parser of `kith`, and what adds commands to it."""
    parser = Parser(prog="kith", description=description, epilog=_STATUSES)
    parser.add_argument("--version", action=Version, nargs=0, help="print the version and exit")
    return parser, parser.add_subparsers(required=True, metavar="COMMAND").add_parser


def add_command(add_parser: AddParser, name: str, command: Command, summary: str) -> ArgumentParser:
    """Add a command; returns its parser, for its arguments."""
    parser = add_parser(name, help=summary, description=summary)
    parser.set_defaults(command=command)
    return parser


def run_command(parser: ArgumentParser, arguments: Sequence[str] | None) -> None:
    """Run the command that the arguments name, of this process's arguments for None."""
    try:
        parsed = parser.parse_args(arguments)
    except SystemExit:  # after --help and --version, which are printed
        return
    command: Command = parsed.command
    command(parsed, Terminal())


def add_client_commands(add_parser: AddParser) -> None:
    """Add the commands that call running services."""
    feed = add_command(add_parser, "feed", _feed, "print a person's feed")
    feed.add_argument("user", type=identifier)
    feed.add_argument(
        "--pages", type=whole(1, _MOST_PAGES), default=1, help="number of pages (default 1)"
    )
    digest = add_command(add_parser, "digest", _digest, "print a person's digest of a week")
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
    explain = add_command(
        add_parser, "explain", _explain, "explain why a person sees a post or not"
    )
    for name, what in (
        ("author", "id of the post's author"),
        ("post", "id of the post, which `kith feed` prints"),
        ("viewer", "id of the person who reads it"),
    ):
        explain.add_argument(name, type=identifier, help=what)
    connections = add_command(
        add_parser, "connections", _connections, "print a person's connections"
    )
    connections.add_argument("user", type=identifier)

    imports = add_parser("import", help="import data from a file").add_subparsers(
        required=True, metavar="WHAT"
    )
    edges = add_command(
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
    texts = add_command(
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

    document = add_command(
        imports.add_parser,
        "user",
        _import_user,
        "import a person from the document that `kith export user` writes",
    )
    document.add_argument("file", type=Path, help=_INPUT)
    document.add_argument(
        "--photos", type=Path, metavar="FOLDER", help="folder that `kith export --photos` filled"
    )
    document.add_argument(
        "--source",
        type=source_name,
        default="kith",
        help="name of the system that the document is from; ids of different systems are different"
        " (default kith)",
    )

    exports = add_parser("export", help="export data").add_subparsers(required=True, metavar="WHAT")
    out = add_command(
        exports.add_parser, "connections", _export_connections, "export connections as CSV"
    )
    out.add_argument("file", type=Path, nargs="?", help=_OUTPUT)
    person = add_command(
        exports.add_parser, "user", _export_user, "export all data of a person as JSON lines"
    )
    person.add_argument("user", type=identifier)
    person.add_argument("file", type=Path, nargs="?", help=_OUTPUT)
    person.add_argument(
        "--photos", type=Path, metavar="FOLDER", help="also store the pictures, in this folder"
    )
    erase = add_command(add_parser, "erase", _erase, "erase people from both services")
    erase.add_argument("user", type=identifier, nargs="+")
    erase.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    erase.add_argument(
        "--dry-run", action="store_true", help="print what would be erased, erase nothing"
    )
    moderate = add_command(
        add_parser, "moderate", _moderate, "hide a post or a comment, hold it, or show it again"
    )
    moderate.add_argument("author", type=identifier, help="id of the post's author")
    moderate.add_argument("post", type=identifier, help="id of the post")
    moderate.add_argument("state", choices=moderation.STATES)
    moderate.add_argument(
        "--comment", type=identifier, default=0, help="id of a comment on the post, which is meant"
    )
    moderate.add_argument(
        "--reason", default="", help="for the record, which users never see; needed to hide or hold"
    )
    moderate.add_argument(
        "--until", type=day, help="day, as YYYY-MM-DD, at whose beginning in UTC a hold ends"
    )
    conformance = add_command(
        add_parser,
        "conformance",
        _conformance,
        "try what a deployment promises, with people that it makes and erases",
    )
    conformance.add_argument(
        "--gateway", metavar="URL", default="", help="also try the gateway at this URL"
    )
    conformance.add_argument("--json", action="store_true", help="print JSON instead of a table")
    for command in (
        *(feed, digest, explain, connections),
        *(edges, texts, document, out, person, erase, moderate, conformance),
        *_add_watches(add_parser),
        *_add_suspensions(add_parser),
    ):
        _add_targets(command)


def _add_suspensions(add_parser: AddParser) -> tuple[ArgumentParser, ...]:
    """Add the commands that suspend people, restore them, and list the suspended."""
    suspend = add_command(add_parser, "suspend", _suspend, "take a person out of sight")
    suspend.add_argument("user", type=identifier)
    suspend.add_argument(
        "--reason", default="", help="reason for `kith suspended`; the person is not told"
    )
    restore = add_command(add_parser, "restore", _restore, "end the suspension of a person")
    restore.add_argument("user", type=identifier)
    suspended = add_command(
        add_parser, "suspended", _suspended, "print the suspended people, last suspended first"
    )
    return suspend, restore, suspended


def _add_watches(add_parser: AddParser) -> tuple[ArgumentParser, ArgumentParser]:
    watching = add_parser("watch", help="print changes as they happen, as JSON lines")
    add_watch = watching.add_subparsers(required=True, metavar="WHAT").add_parser
    graph = add_command(
        add_watch, "connections", _watch_connections, "print changes of connections as JSON lines"
    )
    feed = add_command(
        add_watch, "posts", _watch_posts, "print changes of posts and comments as JSON lines"
    )
    feed.add_argument(
        "--from-oldest", action="store_true", help="start with the oldest change that is stored"
    )
    for watch, kinds in ((graph, watches.CONNECTION_KINDS), (feed, watches.CONTENT_KINDS)):
        watch.add_argument("--cursor", default="", help="continue after a line with this cursor")
        watch.add_argument(
            "--kind",
            action="append",
            default=[],
            choices=kinds,
            metavar="KIND",
            help=f"print changes of this kind; may be repeated: {', '.join(kinds)}",
        )
        watch.add_argument(
            "--user",
            type=identifier,
            action="append",
            default=[],
            help="print changes about this person; may be repeated",
        )
        watch.add_argument(
            "--count", type=whole(1, LARGEST_ID), help="end after so many changes (default never)"
        )
    return graph, feed


def _add_targets(parser: ArgumentParser) -> None:
    for service, default in (("graph", GRAPH), ("feed", FEED)):
        variable = f"{service.upper()}_TARGET"
        parser.add_argument(
            f"--{service}",
            metavar="HOST:PORT",
            default="",
            help=f"address of {service}_service (default {variable}, then {default})",
        )


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
        imports.import_connections(arguments.file, kith, console, id_offset=arguments.id_offset)


def _import_posts(arguments: Namespace, console: Console) -> None:
    with connected(graph=arguments.graph, feed=arguments.feed) as kith:
        imports.import_posts(
            arguments.file,
            kith,
            console,
            column=arguments.column,
            spread=Spread(authors=arguments.authors, days=arguments.days, seed=arguments.seed),
        )


def _import_user(arguments: Namespace, console: Console) -> None:
    with connected(graph=arguments.graph, feed=arguments.feed) as kith:
        document_imports.import_user(
            arguments.file, kith, console, photos=arguments.photos, source=arguments.source
        )


def _export_connections(arguments: Namespace, _console: Console) -> None:
    with (
        connected(graph=arguments.graph, feed=arguments.feed) as kith,
        written(arguments.file) as out,
    ):
        exports.export_connections(kith, out)


def _export_user(arguments: Namespace, _console: Console) -> None:
    with (
        connected(graph=arguments.graph, feed=arguments.feed) as kith,
        written(arguments.file) as out,
    ):
        exports.export_user(arguments.user, kith, out, photos=arguments.photos)


def _watch_connections(arguments: Namespace, _console: Console) -> None:
    request = graph_pb2.WatchConnectionsRequest(
        cursor=arguments.cursor,
        kinds=watches.connection_kinds(arguments.kind),
        user_ids=arguments.user,
    )
    with connected(graph=arguments.graph, feed=arguments.feed) as kith:
        watches.write_changes(
            kith.graph.WatchConnections, request, sys.stdout, count=arguments.count
        )


def _watch_posts(arguments: Namespace, _console: Console) -> None:
    request = feed_pb2.WatchPostsRequest(
        cursor=arguments.cursor,
        from_oldest=arguments.from_oldest,
        kinds=watches.content_kinds(arguments.kind),
        user_ids=arguments.user,
    )
    with connected(graph=arguments.graph, feed=arguments.feed) as kith:
        watches.write_changes(kith.feed.WatchPosts, request, sys.stdout, count=arguments.count)


def _suspend(arguments: Namespace, console: Console) -> None:
    with connected(graph=arguments.graph, feed=arguments.feed) as kith:
        suspensions.suspend_user(arguments.user, kith, console, reason=arguments.reason)


def _restore(arguments: Namespace, console: Console) -> None:
    with connected(graph=arguments.graph, feed=arguments.feed) as kith:
        suspensions.restore_user(arguments.user, kith, console)


def _suspended(arguments: Namespace, console: Console) -> None:
    with connected(graph=arguments.graph, feed=arguments.feed) as kith:
        suspensions.print_suspended(kith, console)


def _moderate(arguments: Namespace, console: Console) -> None:
    with connected(graph=arguments.graph, feed=arguments.feed) as kith:
        moderation.moderate(
            feed_pb2.PostName(author_id=arguments.author, post_id=arguments.post),
            kith,
            console,
            comment_id=arguments.comment,
            state=arguments.state,
            reason=arguments.reason,
            until=arguments.until,
        )


def _conformance(arguments: Namespace, console: Console) -> None:
    # Its protocols are of other packages, which no other command needs.
    from kith.cli.conformance import deployments, run  # noqa: PLC0415 -- see above

    with deployments.opened(
        graph=arguments.graph, feed=arguments.feed, gateway=arguments.gateway
    ) as deployment:
        run.check_conformance(deployment, console, as_json=arguments.json)


def _erase(arguments: Namespace, console: Console) -> None:
    with connected(graph=arguments.graph, feed=arguments.feed) as kith:
        if arguments.dry_run:
            for user_id in arguments.user:
                erasure.print_erasure(user_id, kith, console)
        else:
            erasure.erase_users(arguments.user, kith, console, is_agreed=arguments.yes)
