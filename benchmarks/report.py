"""The table for a person, the figures for a machine, and a picture of both."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from html import escape
from math import log10
from operator import attrgetter
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.row import Row

RESULTS: Final = Path(__file__).parent / "results"

_STYLES: Final = {"stretch": "bold green", "met": "green", "missed": "red"}
_COLOURS: Final = {"stretch": "#1a7f37", "met": "#4ac26b", "missed": "#cf222e"}
_SVG: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
    ' font-family="sans-serif" font-size="13">'
)
_ROW_HEIGHT: Final = 24
_NAME_WIDTH: Final = 440
_BAR_WIDTH: Final = 360
_DECADES: Final = 2


@dataclass(frozen=True, kw_only=True)
class Report:
    """The rows of one run, and where and when it was."""

    size: str
    machine: str
    date: str
    seconds: float
    rows: Sequence[Row]

    @property
    def disturbance(self) -> str:
        """What others took of the machine meanwhile; empty where nobody has looked."""
        seen = [row.others for row in self.rows if row.others is not None]
        if not seen:
            return ""
        cores, throttled = (max(map(attrgetter(of), seen)) for of in ("cores", "throttled"))
        disturbed = sum(row.is_disturbed for row in self.rows)
        taken = f"other processes took up to {cores:.2f} cores"
        if throttled:
            taken += f" and the limit of CPU kept back up to {throttled:.2f}"
        if not disturbed:
            return f"The machine was quiet: {taken}."
        return (
            f"The machine was busy: {taken}. Do not quote the {disturbed} of {len(self.rows)} rows"
            " that are marked; measure them again when nothing else runs."
        )


def report(size: str, rows: Sequence[Row], *, seconds: float) -> Report:
    """Return a report of this machine and this moment."""
    return Report(
        size=size,
        machine=machine(),
        date=today(),
        seconds=seconds,
        rows=rows,
    )


def machine() -> str:
    """Return what this machine is."""
    return f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def today() -> str:
    """Return when it is, to the minute."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def print_report(made: Report, console: Console) -> None:
    """Print the table."""
    table = Table(title=f"{made.size} data set · {made.machine} · {made.date}")
    for column in ("", "measured", "target", "stretch", "verdict", "note"):
        justify = "right" if column in ("measured", "target", "stretch") else "left"
        table.add_column(column, justify=justify)  # type: ignore[arg-type]  # mypy widens the literal
    for row in made.rows:
        style = _STYLES.get(row.verdict, "yellow")
        table.add_row(
            row.name,
            figure(row.measured, row.unit),
            bound(row, row.target),
            "" if row.stretch is None else bound(row, row.stretch),
            f"[{style}]{row.verdict}[/]{', busy' if row.is_disturbed else ''}",
            row.note,
        )
    console.print(table)
    if made.disturbance:
        console.print(made.disturbance, highlight=False)


def write_report(made: Report, directory: Path = RESULTS) -> None:
    """Write the figures and the picture, beside the code unless another directory is given."""
    directory.mkdir(exist_ok=True)
    figures = {
        **asdict(made),
        "disturbance": made.disturbance,
        "rows": [
            {**asdict(row), "verdict": row.verdict, "disturbed": row.is_disturbed}
            for row in made.rows
        ],
    }
    (directory / f"{made.size}.json").write_text(
        json.dumps(figures, indent=2, ensure_ascii=False) + "\n"
    )
    (directory / f"{made.size}.svg").write_text(_picture(made))


def _picture(made: Report) -> str:
    """Draw each figure relative to its target, which is the line in the middle; left is better."""
    rows = [row for row in made.rows if row.measured]
    width, height = _NAME_WIDTH + _BAR_WIDTH + 20, _ROW_HEIGHT * (len(rows) + 2)
    middle = _NAME_WIDTH + _BAR_WIDTH / 2
    lines = [
        _SVG.format(width=width, height=height),
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="8" y="17">{escape(made.size)} data set, {escape(made.date)}</text>',
        f'<text x="{middle}" y="17" text-anchor="middle">better ← target → worse</text>',
        *(_bar(row, number, middle) for number, row in enumerate(rows, start=1)),
        f'<line x1="{middle}" x2="{middle}" y1="22" y2="{height - 8}" stroke="black"/>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _bar(row: Row, number: int, middle: float) -> str:
    share = (row.measured or 1) / row.target
    decades = log10(1 / share if row.at_least else share)
    length = max(-1.0, min(1.0, decades * 2 / _DECADES)) * _BAR_WIDTH / 2
    top = number * _ROW_HEIGHT + 4
    name = f"{row.name}, busy" if row.is_disturbed else row.name
    return (
        f'<text x="8" y="{top + 13}">{escape(name)}</text>'
        f'<rect x="{min(middle, middle + length):.0f}" y="{top}" width="{abs(length):.0f}"'
        f' height="{_ROW_HEIGHT - 8}" fill="{_COLOURS[row.verdict]}"/>'
    )


def bound(row: Row, value: float) -> str:
    """Return what a row has to reach, for a person."""
    return f"{'≥' if row.at_least else '≤'} {figure(value, row.unit)}"


def figure(value: float, unit: str) -> str:
    """Return a figure with as many digits as count."""
    digits = 0 if value >= 100 or unit == "" else 2 if value < 10 else 1  # noqa: PLR2004 -- three figures that count
    separator = "" if unit == "×" else " "
    return f"{value:,.{digits}f}{separator}{unit}".strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
