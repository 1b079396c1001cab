"""Connections and posts in and out of files."""

import csv
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate, islice
from pathlib import Path
from random import Random
from typing import TextIO

from google.protobuf.json_format import MessageToJson
from rich.console import Console

from shared.cli.terminal import CommandError, progress
from shared.client import KithClient, imported, resumed
from shared.errors import ValidationError
from shared.gen.kith.feed.v1 import feed_pb2
from shared.gen.kith.graph.v1 import graph_pb2
from shared.messages import timestamp

IMPORT_CHUNK = 5_000

POSTS_CHUNK = 1_000
ImportedPost = feed_pb2.ImportPostsRequest.ImportedPost

_ERASURE_TIMEOUT_SECONDS = 600
_IN_CHUNK = re.compile(r"posts\[(\d+)\]\.(.+)")
_COLUMNS = ("first_user_id", "second_user_id", "connect_time")
_LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Over how many people and days imported posts are spread; the same for the same seed."""

    authors: int
    days: float
    seed: int


@dataclass(frozen=True)
class Pair:
    """Two people who are connected, since when if that is known."""

    first_user_id: int
    second_user_id: int
    connect_time: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A post to be imported, the line of its file, and how old it is to be."""

    line: int
    author_id: int
    body: str
    age: timedelta


def import_chunk(kith: KithClient, pairs: Sequence[Pair]) -> graph_pb2.ImportConnectionsResponse:
    """Import up to 10,000 pairs in one transaction."""
    request = graph_pb2.ImportConnectionsRequest(connections=[_message(pair) for pair in pairs])
    return imported(kith.graph.ImportConnections, request)


def import_connections(path: Path, kith: KithClient, console: Console, *, id_offset: int) -> None:
    """Import an edge list, and print what became of it."""
    total = graph_pb2.ImportConnectionsResponse()
    started = time.monotonic()
    with _opened(path) as file, progress(console) as bar:
        task = bar.add_task("connections", total=_line_count(path))
        pairs = read_pairs(file, id_offset=id_offset)
        while chunk := list(islice(pairs, IMPORT_CHUNK)):
            done = import_chunk(kith, chunk)
            total.imported_count += done.imported_count
            total.existing_count += done.existing_count
            total.blocked_count += done.blocked_count
            total.over_limit_count += done.over_limit_count
            bar.advance(task, len(chunk))
        rows = int(bar.tasks[task].completed)
        bar.update(task, total=rows)
    console.print(
        f"{total.imported_count:,} imported, {total.existing_count:,} there already, "
        f"{total.blocked_count:,} left out for a block, {total.over_limit_count:,} for the limit "
        f"of connections; {_rate(rows, started)}",
        soft_wrap=True,
    )


def import_posts_chunk(
    kith: KithClient, posts: Sequence[ImportedPost]
) -> tuple[feed_pb2.ImportPostsResponse, dict[int, str]]:
    """Import up to 1,000 posts in one transaction, but for those that are refused.

    Returns what became of them, and why each of those was refused by its place in the chunk.
    """
    refused: dict[int, str] = {}
    while True:
        places = [place for place in range(len(posts)) if place not in refused]
        request = feed_pb2.ImportPostsRequest(posts=[posts[place] for place in places])
        try:
            return imported(kith.feed.ImportPosts, request), refused
        except ValidationError as error:
            faults = _faults(error)
            if not faults:
                raise
            refused |= {places[place]: fault for place, fault in faults.items()}


def import_posts(
    path: Path, kith: KithClient, console: Console, *, column: str, spread: Spread
) -> None:
    """Import every text of a file as a post, and print what became of it."""
    total = feed_pb2.ImportPostsResponse()
    refused: list[str] = []
    started, now = time.monotonic(), datetime.now(UTC)
    with _opened(path) as file, progress(console) as bar:
        task = bar.add_task("posts", total=_line_count(path))
        drafts = assigned(read_texts(file, path, column=column), spread)
        while chunk := list(islice(drafts, POSTS_CHUNK)):
            posts = [_imported_post(draft, spread, now) for draft in chunk]
            done, faults = import_posts_chunk(kith, posts)
            total.imported_count += done.imported_count
            total.existing_count += done.existing_count
            refused += [f"line {chunk[place].line}: {faults[place]}" for place in sorted(faults)]
            bar.advance(task, len(chunk))
        rows = int(bar.tasks[task].completed)
        bar.update(task, total=rows)
    console.print(
        f"{total.imported_count:,} imported, {total.existing_count:,} there already; "
        f"{_rate(rows, started)}",
        soft_wrap=True,
    )
    if refused:
        console.print(
            f"{len(refused):,} refused, the first in {refused[0]}", markup=False, soft_wrap=True
        )


def export_connections(kith: KithClient, out: TextIO) -> None:
    """Write every connection once, in the form that `import_connections` reads."""
    writer = csv.writer(out)
    writer.writerow(_COLUMNS)
    request = graph_pb2.ExportConnectionsRequest()
    for chunk in resumed(kith.graph.ExportConnections, request):
        writer.writerows(
            (
                pair.first_user_id,
                pair.second_user_id,
                pair.connect_time.ToDatetime(UTC).isoformat(),
            )
            for pair in chunk.connections
        )


def export_user(user_id: int, kith: KithClient, out: TextIO) -> None:
    """Write everything that feed_service holds of a person, a JSON object in each line."""
    request = feed_pb2.ExportUserRequest(user_id=user_id)
    for chunk in resumed(kith.feed.ExportUser, request):
        for field, items in chunk.ListFields():
            if field.name != "cursor":
                out.writelines(
                    f'{{"{field.name}": {MessageToJson(item, indent=None)}}}\n' for item in items
                )


def erase_user(user_id: int, kith: KithClient, console: Console) -> None:
    """Erase a person from both services, first from the graph, so that nobody sees more of them."""
    erased = kith.graph.DeleteUser(graph_pb2.DeleteUserRequest(user_id=user_id))
    kith.feed.DeleteUser(
        feed_pb2.DeleteUserRequest(user_id=user_id), timeout=_ERASURE_TIMEOUT_SECONDS
    )
    console.print(
        f"Person {user_id} is erased; {erased.removed_connection_count:,} connections ended.",
        highlight=False,
    )


def read_pairs(file: TextIO, *, id_offset: int) -> Iterator[Pair]:
    """Yield the pairs of a CSV file whose first two columns are ids.

    A first line without numbers is a header; a third column that it calls connect_time is read.
    Raises CommandError naming the line when one is not a pair.
    """
    rows = csv.reader(file)
    has_times = False
    for row in rows:
        if not row:
            continue
        if rows.line_num == 1 and not row[0].strip().lstrip("-").isdecimal():
            has_times = row[2:3] == ["connect_time"]
            continue
        try:
            pair = Pair(int(row[0]) + id_offset, int(row[1]) + id_offset)
            if has_times and row[2]:
                pair = replace(pair, connect_time=datetime.fromisoformat(row[2]))
        except (IndexError, ValueError):
            raise CommandError(f"line {rows.line_num} is not a pair of ids: {row}") from None
        if not 0 < min(pair.first_user_id, pair.second_user_id) <= _LARGEST_ID:
            raise CommandError(
                f"line {rows.line_num}: ids must be positive; --id-offset adds to all of them"
            )
        yield pair


def read_texts(file: TextIO, path: Path, *, column: str) -> Iterator[tuple[int, str]]:
    """Yield line number and text: of a column of a .csv file, otherwise of each line that has one.

    Raises CommandError when there is no such column.
    """
    if path.suffix != ".csv":
        yield from ((n, line.rstrip("\n")) for n, line in enumerate(file, 1) if line.strip())
        return
    rows = csv.DictReader(file)
    if column not in (rows.fieldnames or ()):
        raise CommandError(
            f"{path} has no column {column!r}, but {rows.fieldnames}; choose with --column"
        )
    yield from ((rows.line_num, row[column] or "") for row in rows)


def assigned(texts: Iterator[tuple[int, str]], spread: Spread) -> Iterator[Draft]:
    """Yield each text with an author from 1 to `authors` and an age, the same for the same seed.

    The author in place n writes 1/n times as often as the first (Zipf's law); who is in which place
    is drawn too.
    """
    random = Random(spread.seed)  # noqa: S311 -- it has to be repeatable, not unpredictable
    people = random.sample(range(1, spread.authors + 1), spread.authors)
    weights = list(accumulate(1 / place for place in range(1, spread.authors + 1)))
    for line, body in texts:
        yield Draft(
            line=line,
            author_id=random.choices(people, cum_weights=weights)[0],
            body=body,
            age=timedelta(days=spread.days) * random.random(),
        )


def _imported_post(draft: Draft, spread: Spread, now: datetime) -> ImportedPost:
    return ImportedPost(
        author_id=draft.author_id,
        external_id=f"{spread.seed}/{spread.authors}/{draft.line}",
        body=draft.body,
        create_time=timestamp(now - draft.age),
        audience=feed_pb2.Audience(kind=feed_pb2.AUDIENCE_KIND_ALL),
    )


def _faults(error: ValidationError) -> dict[int, str]:
    """Return what is wrong with which post of a chunk, when that is why it was refused."""
    return {
        int(match[1]): f"{error.reason_name}: {match[2]} {violation.description}"
        for violation in error.violations
        if (match := _IN_CHUNK.fullmatch(violation.field))
    }


def _message(pair: Pair) -> graph_pb2.ConnectionPair:
    message = graph_pb2.ConnectionPair(
        first_user_id=pair.first_user_id, second_user_id=pair.second_user_id
    )
    if pair.connect_time is not None:
        message.connect_time.CopyFrom(timestamp(pair.connect_time))
    return message


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is not UTF-8 text") from error


def _line_count(path: Path) -> int:
    """Return about how many rows there are: enough for a progress bar."""
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _rate(rows: int, started: float) -> str:
    seconds = time.monotonic() - started
    return f"{rows:,} rows in {seconds:.1f} s, {rows / max(seconds, 0.001):,.0f} rows/s"
