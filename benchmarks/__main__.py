"""Measure how fast Kith is.

    python -m benchmarks [quick|full]            the table, also written to benchmarks/results/
    python -m benchmarks quick --rows feed,hubs  some of its rows, which are only printed and kept
                                                 beside the data, as all are while they are measured
    python -m benchmarks citus                   one PostgreSQL against a Citus, also written there
    python -m benchmarks pythons PYTHON PYTHON   interpreters in turns, likewise; each needs Kith
                                                 and the packages of the group `services`
    python -m benchmarks versions CHECKOUT       another checkout of Kith and this one, likewise
    python -m benchmarks load [MIX ...]          rates and latencies under mixes of calls
    python -m benchmarks costs                   the CPU of a call and the bytes of a row, likewise,
                                                 and quoted in deploy/CAPACITY.md
    python -m benchmarks capacity                what so many people take, by the last costs

The data is kept in KITH_BENCH_DIR, by default .bench.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks import citus, pythons, versions
from benchmarks.capacity import PEOPLE, Assumptions, markdown, option, write_page
from benchmarks.costs import Costs, last_costs, measure_costs
from benchmarks.loads import MIXES, Load, run_loads
from benchmarks.report import Report, print_report, report, write_report
from benchmarks.rounds import Effort
from benchmarks.row import Row
from benchmarks.stage import Stage, prepared_stage
from benchmarks.table import BY_NAME, Measurement, measured
from benchmarks.world import FULL, QUICK, SMALL, Size

_LOG_WIDTH = 160
_GIGABYTE = 10**9
# What the databases of a data set, and of the small one, take on a disk.
_GIGABYTES = {QUICK.name: 1.6, FULL.name: 17}
_SIZES = {size.name: size for size in (QUICK, FULL)}
_EFFORTS = {
    "quick": Effort(
        rounds=7,
        calls=40,
        segment_seconds=1,
        mixed_calls=2_000,
        imported_pairs=100_000,
        imported_posts=20_000,
    ),
    "full": Effort(
        rounds=15,
        calls=100,
        segment_seconds=3,
        mixed_calls=100_000,
        imported_pairs=1_000_000,
        imported_posts=200_000,
    ),
}


def main() -> None:
    """Run what the command line names."""
    arguments = _arguments()
    console = Console()
    if not console.is_terminal:
        console = Console(width=_LOG_WIDTH)
    directory = Path(os.environ.get("KITH_BENCH_DIR") or ".bench").absolute()
    if arguments.what == "load":
        run_loads(
            arguments.mixes or list(MIXES),
            size=_SIZES[arguments.size],
            load=Load(seconds=arguments.seconds, callers=arguments.callers),
            directory=directory,
            console=console,
        )
    elif arguments.what == "citus":
        _compare_citus(directory, console)
    elif arguments.what == "pythons":
        _compare_pythons(arguments.interpreters, directory, console)
    elif arguments.what == "versions":
        _compare_versions(arguments.checkout.absolute(), directory, console)
    elif arguments.what == "costs":
        write_page(measure_costs(_SIZES[arguments.size], directory, console))
    elif arguments.what == "capacity":
        _print_plans(last_costs(), arguments, console)
    else:
        _measure(arguments.what, arguments.rows, directory, console)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="what", metavar="WHAT")
    parser.set_defaults(what="quick", rows=list(BY_NAME))
    for size in _SIZES.values():
        table = commands.add_parser(size.name, help=f"the table, on {size.posts:,} posts")
        table.add_argument(
            "--rows",
            type=lambda names: names.split(","),
            default=list(BY_NAME),
            metavar="NAME,NAME",
            help=f"only these, of {', '.join(BY_NAME)}; not written to benchmarks/results/",
        )
    commands.add_parser("citus", help="one PostgreSQL against a Citus of the same data")
    interpreters = commands.add_parser("pythons", help="GetFeed by several interpreters of Python")
    interpreters.add_argument(
        "interpreters",
        nargs="+",
        metavar="PYTHON",
        help="the first is what others are compared with",
    )
    checkouts = commands.add_parser("versions", help="GetFeed by another checkout and this one")
    checkouts.add_argument(
        "checkout", type=Path, metavar="CHECKOUT", help="a folder with Kith and its packages"
    )
    load = commands.add_parser("load", help="rates and latencies under mixes of calls")
    load.add_argument("mixes", nargs="*", metavar="MIX", help=f"of {', '.join(MIXES)}")
    load.add_argument("--seconds", type=float, default=20, help="of each mix")
    load.add_argument("--callers", type=int, default=8, help="at once")
    costs = commands.add_parser("costs", help="the CPU of a call and the bytes of a row")
    for command in (load, costs):
        command.add_argument("--size", default="quick", choices=sorted(_SIZES), help="of the data")
    capacity = commands.add_parser("capacity", help="what so many people take, by the last costs")
    _add_assumptions(capacity)
    arguments = parser.parse_args()
    if unknown := set(getattr(arguments, "mixes", ())) - set(MIXES):
        parser.error(f"there is no mix {', '.join(sorted(unknown))}")
    if unknown := set(arguments.rows) - set(BY_NAME):
        parser.error(f"there are no rows {', '.join(sorted(unknown))}")
    return arguments


def _add_assumptions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--people", type=int, nargs="+", default=PEOPLE, help="how many there are")
    for each in fields(Assumptions):
        parser.add_argument(
            option(each.name),
            type=float,
            default=each.default,
            help=f"{each.metadata['meaning']} (default {each.default:g})",
        )


def _print_plans(costs: Costs, arguments: argparse.Namespace, console: Console) -> None:
    chosen = {each.name: getattr(arguments, each.name) for each in fields(Assumptions)}
    text = markdown(costs, Assumptions(**chosen), arguments.people)
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _measure(size: str, names: Sequence[str], directory: Path, console: Console) -> None:
    _require_room(_SIZES[size], directory)
    started, rows, failed = time.monotonic(), list[Row](), list[str]()
    with prepared_stage(
        size=_SIZES[size], effort=_EFFORTS[size], directory=directory, console=console
    ) as stage:
        for name in [name for name in BY_NAME if name in names]:
            measured_rows = attempted(BY_NAME[name], stage, console)
            if measured_rows is None:
                failed.append(name)
                continue
            rows.extend(measured_rows)
            # So that an interruption costs no more than what is measured then.
            write_report(_report(size, rows, started), directory / "results")
    made = _report(size, rows, started)
    print_report(made, console)
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")
    if set(names) == set(BY_NAME):
        write_report(made)


def _report(size: str, rows: Sequence[Row], started: float) -> Report:
    return report(size, rows, seconds=round(time.monotonic() - started))


def _require_room(size: Size, directory: Path) -> None:
    """Leave at once instead of when the disk is full, unless the data is there already."""
    copies = 1 if (directory / f"{size.name}.json").exists() else 2
    needed = copies * _GIGABYTES[size.name]
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free / _GIGABYTE
    if free < needed:
        sys.exit(
            f"the data set {size.name!r} and a copy of it take {needed:.0f} GB more in {directory},"
            f" which has {free:.0f}; KITH_BENCH_DIR may name another directory"
        )


def attempted(measurement: Measurement, stage: Stage, console: Console) -> Sequence[Row] | None:
    """Return the rows of a measurement; None if it failed, so that the others can go on."""
    started = time.monotonic()
    try:
        rows = measured(measurement, stage)
    except Exception:  # noqa: BLE001 -- whatever it is, the other rows are still wanted
        console.print_exception()
        return None
    seconds = time.monotonic() - started
    console.print(f"{measurement.name}, {seconds:,.0f} s", highlight=False)
    for row in rows:
        busy = ", while the machine was busy" if row.is_disturbed else ""
        console.print(f"  {row.name}: {row.verdict}{busy}", highlight=False)
    return rows


def _compare_citus(directory: Path, console: Console) -> None:
    started = time.monotonic()
    try:
        rows = citus.compare(_EFFORTS["quick"], directory, console)
    except LookupError as error:
        sys.exit(str(error))
    made = report(citus.SIZE.name, rows, seconds=round(time.monotonic() - started))
    print_report(made, console)
    write_report(made)


def _compare_pythons(interpreters: Sequence[str], directory: Path, console: Console) -> None:
    try:
        starts = pythons.starts_of(interpreters)
    except LookupError as error:
        sys.exit(str(error))
    console.print(f"In turns: {', '.join(starts)}", highlight=False)
    compare = partial(pythons.compare, starts=starts)
    _compare_on_small("pythons", compare, directory, console)


def _compare_versions(checkout: Path, directory: Path, console: Console) -> None:
    try:
        fill = versions.fill_by(checkout)
    except LookupError as error:
        sys.exit(str(error))
    compare = partial(versions.compare, fill=fill, start=versions.started_from(checkout))
    _compare_on_small("versions", compare, directory, console)


def _compare_on_small(
    name: str, compare: Callable[[Stage], Sequence[Row]], directory: Path, console: Console
) -> None:
    started, effort = time.monotonic(), _EFFORTS["full"]
    with prepared_stage(size=SMALL, effort=effort, directory=directory, console=console) as stage:
        rows = measured(Measurement(name=name, run=compare), stage)
    made = report(name, rows, seconds=round(time.monotonic() - started))
    print_report(made, console)
    write_report(made)


if __name__ == "__main__":
    main()
