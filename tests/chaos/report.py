"""The table of faults for a person, and its figures for a machine."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.report import RESULTS, bound, figure, machine, today
from benchmarks.row import Row
from tests.chaos.fault import Fault

_STYLES: Final = {"kept": "green", "broken": "bold red", "not built": "yellow"}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a promise; without rows, what would break does not exist."""

    fault: Fault
    seconds: float
    rows: Sequence[Row]

    @property
    def verdict(self) -> str:
        """Whether the promise was kept."""
        if not self.rows:
            return "not built"
        return "broken" if any(row.verdict == "missed" for row in self.rows) else "kept"


def print_verdict(outcome: Outcome, console: Console) -> None:
    """Print what became of a promise, and what broke it."""
    console.print(f"  {outcome.fault.name}: {outcome.verdict}", highlight=False)
    for row in outcome.rows:
        if row.verdict == "missed":
            console.print(f"    {_line(row)}", highlight=False)


def print_report(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print the table."""
    table = Table(title=f"faults under load · {machine()} · {today()}", show_lines=True)
    for column in ("fault", "promise", "figures", "verdict"):
        table.add_column(column)
    for outcome in outcomes:
        verdict = outcome.verdict
        table.add_row(
            f"{outcome.fault.what}\n[dim]{outcome.fault.name}, {outcome.seconds:.0f} s[/]",
            outcome.fault.promise,
            "\n".join(map(_line, outcome.rows)),
            f"[{_STYLES[verdict]}]{verdict}[/]",
        )
    console.print(table)


def write_report(outcomes: Sequence[Outcome], *, name: str) -> None:
    """Write the figures beside those of the benchmarks."""
    figures = {
        "machine": machine(),
        "date": today(),
        "seconds": round(sum(outcome.seconds for outcome in outcomes)),
        "faults": [_figures(outcome) for outcome in outcomes],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")


def _figures(outcome: Outcome) -> dict[str, object]:
    return {
        "fault": outcome.fault.name,
        "what": outcome.fault.what,
        "promise": outcome.fault.promise,
        "verdict": outcome.verdict,
        "seconds": round(outcome.seconds),
        "rows": [{**asdict(row), "verdict": row.verdict} for row in outcome.rows],
    }


def _line(row: Row) -> str:
    missed = row.verdict == "missed"
    text = f"{row.name} {figure(row.measured, row.unit)} ({bound(row, row.target)})"
    note = f" [dim]{row.note}[/]" if row.note else ""
    return f"[red]{text}[/]{note}" if missed else f"{text}{note}"
