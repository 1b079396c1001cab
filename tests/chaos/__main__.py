"""Break things under load, and print which promises were kept.

    python -m tests.chaos [--quick] [FAULT ...]

Without names all faults but the soak and those of replicas. Exits with 1 when a promise was broken.
A whole run is also written to benchmarks/results/. A quick one breaks things once or twice, and
only counts what must not happen at all.
"""

import argparse
import logging
import signal
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from tests.chaos.fault import FULL, QUICK, Effort, Fault, NotBuiltError
from tests.chaos.report import Outcome, print_report, print_verdict, write_report
from tests.chaos.stage import Stage, prepared_stage
from tests.chaos.table import FAULTS

_LOG_WIDTH = 160
_ON_REQUEST = {"replicas", "failover", "soak"}
_FAULTS = {fault.name: fault for fault in FAULTS}


def main(given: Sequence[str] | None = None) -> int:
    """Run what the command line names, that of this process for None; returns the exit status."""
    arguments = _arguments(given)
    names = arguments.faults or [name for name in _FAULTS if name not in _ON_REQUEST]
    effort = QUICK if arguments.quick else FULL
    console = Console()
    if not console.is_terminal:
        console = Console(width=_LOG_WIDTH)
    outcomes = []
    with prepared_stage() as stage:
        for name in names:
            outcomes.append(_outcome(stage, _FAULTS[name], effort))
            print_verdict(outcomes[-1], console)
    print_report(outcomes, console)
    if not arguments.quick and not arguments.faults:
        write_report(outcomes, name="chaos")
    return int(any(outcome.verdict == "broken" for outcome in outcomes))


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(_FAULTS)}")
    parser.add_argument("--quick", action="store_true", help="a fiftieth of everything")
    arguments = parser.parse_args(given)
    if unknown := set(arguments.faults) - set(_FAULTS):
        parser.error(f"there is no fault {', '.join(sorted(unknown))}")
    return arguments


def _outcome(stage: Stage, fault: Fault, effort: Effort) -> Outcome:
    started = time.monotonic()
    try:
        rows = [row for row in fault.run(stage, effort) if effort.is_timed or not row.unit]
    except NotBuiltError:
        rows = []
    return Outcome(fault=fault, seconds=time.monotonic() - started, rows=rows)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    # So that everything that was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
