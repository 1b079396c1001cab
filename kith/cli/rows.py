"""The rows of files that are imported, each with the number of its line."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain

from kith.cli.arguments import LARGEST_ID
from kith.cli.files import LONGEST_LINE, Input
from kith.cli.terminal import CommandError

PAIR_COLUMNS = ("first_user_id", "second_user_id", "connect_time")
_TIME = PAIR_COLUMNS[2]
_IDS = 2
_ID = re.compile(r"[+-]?[0-9]{1,30}")
_NAME = re.compile(r"[^\W\d][\w ]*")
_MOST_SHOWN = 100


@dataclass(frozen=True)
class Pair:
    """Two people who are connected, since when if that is known."""

    first_user_id: int
    second_user_id: int
    connect_time: datetime | None = None


def read_pairs(source: Input, *, id_offset: int) -> Iterator[tuple[int, Pair]]:
    """Yield line and pair of each row of a CSV file whose first two columns are ids.

    The first row is a header if its first two fields are names: letters, digits, underscores and
    spaces, a digit not being the first. A column that it calls connect_time is read, others are
    ignored; without a header there are only the ids. Raises CommandError naming the line when a row
    is something else.
    """
    rows = _csv_rows(source)
    first = next(rows, None)
    if first is None:
        return
    has_header = _is_header(first[1])
    names = [name.strip() for name in first[1]] if has_header else []
    time_column = names.index(_TIME) if _TIME in names else None
    for line, row in rows if has_header else chain([first], rows):
        if not has_header and len(row) > _IDS and any(field.strip() for field in row[_IDS:]):
            raise CommandError(f"line {line} has more than two columns, and no header names them")
        yield line, _pair(line, row, id_offset, time_column)


def read_texts(source: Input, *, column: str | None) -> Iterator[tuple[int, str]]:
    """Yield line and text: of a column of a CSV file, for None of each line that is not blank.

    Raises CommandError when there is no such column.
    """
    if column is None:
        for number, line in enumerate(source.lines(), 1):
            if text := line.strip() and line.rstrip("\r\n"):
                yield number, text
        return
    rows = _csv_rows(source)
    _, header = next(rows, (0, list[str]()))
    names = [name.strip() for name in header]
    if column not in names:
        raise CommandError(
            f"there is no column {column!r}, but {_shown(names)}; choose one with --column"
        )
    position = names.index(column)
    yield from ((line, row[position] if position < len(row) else "") for line, row in rows)


def _csv_rows(source: Input) -> Iterator[tuple[int, list[str]]]:
    """Yield line and fields of each row that is not blank, nor of commas alone."""
    # A text that is too long is the service's to refuse, which goes on with the next one.
    csv.field_size_limit(LONGEST_LINE)
    rows = csv.reader(source.lines())
    begin = 1
    try:
        for row in rows:
            begin = rows.line_num + 1
            if row and (row[0].strip() or any(field.strip() for field in row)):
                yield rows.line_num, row
    except csv.Error as error:
        raise CommandError(
            f"the row that begins in line {begin} is not valid CSV: {error}"
        ) from error


def _is_header(row: Sequence[str]) -> bool:
    return len(row) >= _IDS and all(_NAME.fullmatch(field.strip()) for field in row[:_IDS])


def _pair(line: int, row: Sequence[str], id_offset: int, time_column: int | None) -> Pair:
    texts = row[0].strip(), row[1].strip() if len(row) >= _IDS else ""
    if not (_ID.fullmatch(texts[0]) and _ID.fullmatch(texts[1])):
        hint = "; commas separate columns" if len(row) < _IDS else ""
        raise CommandError(f"line {line} is not a pair of ids: {_shown(row)}{hint}")
    first, second = int(texts[0]) + id_offset, int(texts[1]) + id_offset
    if not (0 < first <= LARGEST_ID and 0 < second <= LARGEST_ID):
        raise CommandError(
            f"line {line}: ids must be from 1 to {LARGEST_ID}; --id-offset shifts them"
        )
    if time_column is None or time_column >= len(row) or not row[time_column].strip():
        return Pair(first, second)
    return Pair(first, second, _time(line, row[time_column].strip()))


def _time(line: int, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (OverflowError, ValueError):
        pass
    raise CommandError(
        f"line {line}: {_TIME} must be a time with its zone, such as 2020-01-31T12:00:00Z, "
        f"not {_shown(text)}"
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
