"""The whole command line: the operator's commands, and beside them those of the client.

Those of the client are called most often and take twice the time where the libraries of a server
are imported for them, so each of the operator's commands imports what it needs.
"""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from rich.console import Console

from kith.cli.arguments import whole
from kith.cli.commands import (
    AddParser,
    add_client_commands,
    add_command,
    command_line,
    run_command,
)
from kith.cli.outcome import outcome
from shared.setting_names import unknown_settings

_MOST_SHARDS = 64_000  # Citus has no more


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, of this process's arguments for None; returns the exit status."""
    return outcome(lambda: run_command(command_parser(), arguments), explain=_explanation)


def command_parser() -> ArgumentParser:
    """Return the parser of all commands."""
    parser, add_parser = command_line("A social graph and the feed behind it.")
    _add_operator_commands(add_parser)
    add_client_commands(add_parser)
    _add_shards(add_parser)
    return parser


def _add_operator_commands(add_parser: AddParser) -> None:
    add_command(add_parser, "run", _run, "start PostgreSQL and both services with sample data")
    add_command(add_parser, "gateway", _gateway, "start Envoy in front of both services, for HTTP")
    schema = add_command(
        add_parser, "migrate", _migrate, "migrate both databases to the newest schema"
    )
    schema.add_argument(
        "--check",
        action="store_true",
        help="print what would be applied, change nothing; exit status 1 if anything",
    )
    schema.add_argument(
        "--service", choices=("graph", "feed"), help="migrate the database of this service only"
    )
    schema.add_argument(
        "--to",
        metavar="REVISION",
        help="target revision, forward or back, such as graph_0005; needs --service",
    )
    add_command(
        add_parser, "doctor", _doctor, "check settings, databases, clocks and the photo bucket"
    )
    fences = add_command(
        add_parser, "fences", _fences, "list open fences and what each of them waits for"
    )
    fences.add_argument(
        "--forget",
        metavar="TARGET",
        help="tell the keeper at this address of no change any more; it must never come back",
    )


def _add_shards(add_parser: AddParser) -> None:
    spread = add_parser("shards", help="distribute the feed's database with Citus").add_subparsers(
        required=True, metavar="WHAT"
    )
    create = add_command(
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
    add_command(
        spread.add_parser,
        "report",
        _report_shards,
        "print the shards of each node and how even they are",
    )


def _explanation(error: BaseException) -> str | None:
    from shared.cli.outcome import explanation  # noqa: PLC0415 -- see above

    return explanation(error)


def _point_out_unknown_settings() -> None:
    for name, meant in unknown_settings(os.environ).items():
        sys.stderr.write(f"kith: {name} is not a setting{meant and f'; {meant} is'}\n")


def _run(_arguments: Namespace, console: Console) -> None:
    from shared.cli.run import run  # noqa: PLC0415 -- see above

    _point_out_unknown_settings()
    run(console)


def _gateway(_arguments: Namespace, console: Console) -> None:
    from shared.cli.gateway import gateway  # noqa: PLC0415 -- see above

    _point_out_unknown_settings()
    gateway(console)


def _migrate(arguments: Namespace, console: Console) -> None:
    from shared.cli import databases, schemas  # noqa: PLC0415 -- see above

    _point_out_unknown_settings()
    services = [arguments.service] if arguments.service else databases.SERVICES
    if arguments.to is not None:
        schemas.require_revision(arguments.service, arguments.to)
    work = schemas.check if arguments.check else schemas.migrate
    work(services, console, revision=arguments.to)


def _doctor(_arguments: Namespace, console: Console) -> None:
    from shared.cli import doctor  # noqa: PLC0415 -- see above

    _point_out_unknown_settings()
    doctor.examine(console)


def _fences(arguments: Namespace, _console: Console) -> None:
    from shared.cli import processes  # noqa: PLC0415 -- see above

    wanted = () if arguments.forget is None else ("forget", arguments.forget)
    processes.become("graph_service.fence_registrations", *wanted)


def _create_shards(arguments: Namespace, _console: Console) -> None:
    from shared.cli import shards  # noqa: PLC0415 -- see above

    shards.become("create", "--count", str(arguments.count))


def _report_shards(_arguments: Namespace, _console: Console) -> None:
    from shared.cli import shards  # noqa: PLC0415 -- see above

    shards.become("report")


if __name__ == "__main__":
    sys.exit(main())
