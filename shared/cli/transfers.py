"""Connections and posts in and out of files."""

import csv
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import accumulate, islice
from pathlib import Path
from random import Random
from typing import TextIO

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from shared.cli.clients import TIMEOUT_SECONDS, Clients, in_parallel, request_id, sentence
from shared.cli.terminal import CommandError, progress
from shared.gen.kith.feed.v1 import feed_pb2
from shared.gen.kith.graph.v1 import graph_pb2

IMPORT_CHUNK = 5_000

_COLUMNS = ("first_user_id", "second_user_id", "connect_time")
_LARGEST_ID = 2**63 - 1


@dataclass(frozen=True)
class Pair:
    """Two people who are connected, since when if that is known."""

    first_user_id: int
    second_user_id: int
    connect_time: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A post to be created, and the line of its file."""

    line: int
    author_id: int
    body: str


def import_chunk(clients: Clients, pairs: Sequence[Pair]) -> graph_pb2.ImportConnectionsResponse:
    """Import up to 10,000 pairs in one transaction.

    One stream for a whole file would be faster by a round trip in 5,000 rows, and could say neither
    how far it has come nor, when it breaks, what took effect.
    """
    request = graph_pb2.ImportConnectionsRequest(connections=[_message(pair) for pair in pairs])
    return clients.graph.ImportConnections(iter([request]), timeout=TIMEOUT_SECONDS)


def import_connections(path: Path, clients: Clients, console: Console, *, id_offset: int) -> None:
    """Import an edge list, and print what became of it."""
    total = graph_pb2.ImportConnectionsResponse()
    started = time.monotonic()
    with _opened(path) as file, progress(console) as bar:
        task = bar.add_task("connections", total=_line_count(path))
        pairs = read_pairs(file, id_offset=id_offset)
        while chunk := list(islice(pairs, IMPORT_CHUNK)):
            done = import_chunk(clients, chunk)
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


def import_posts(
    path: Path, clients: Clients, console: Console, *, column: str, authors: int, seed: int
) -> None:
    """Post every text of a file, and print what became of it."""

    def create(draft: Draft) -> str:
        problem = _refusal(clients, draft, key=(seed, authors))
        bar.advance(task)
        return problem and f"line {draft.line}: {problem}"

    started = time.monotonic()
    with _opened(path) as file, progress(console) as bar:
        task = bar.add_task("posts", total=_line_count(path))
        drafts = assigned(read_texts(file, path, column=column), authors=authors, seed=seed)
        refused = [problem for problem in in_parallel(create, drafts) if problem]
        rows = int(bar.tasks[task].completed)
        bar.update(task, total=rows)
    console.print(f"{rows - len(refused):,} posted; {_rate(rows, started)}", soft_wrap=True)
    if refused:
        console.print(
            f"{len(refused):,} refused, the first in {refused[0]}", markup=False, soft_wrap=True
        )


def export_connections(clients: Clients, out: TextIO) -> None:
    """Write every connection once, in the form that `import_connections` reads."""
    writer = csv.writer(out)
    writer.writerow(_COLUMNS)
    chunks = clients.graph.ExportConnections(graph_pb2.ExportConnectionsRequest())
    try:
        for chunk in chunks:
            writer.writerows(
                (
                    pair.first_user_id,
                    pair.second_user_id,
                    pair.connect_time.ToDatetime(UTC).isoformat(),
                )
                for pair in chunk.connections
            )
    finally:
        chunks.cancel()


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


def assigned(texts: Iterator[tuple[int, str]], *, authors: int, seed: int) -> Iterator[Draft]:
    """Yield each text with an author from 1 to `authors`, the same for the same seed.

    The author in place n writes 1/n times as often as the first (Zipf's law); who is in which place
    is drawn too.
    """
    random = Random(seed)  # noqa: S311 -- it has to be repeatable, not unpredictable
    people = random.sample(range(1, authors + 1), authors)
    weights = list(accumulate(1 / place for place in range(1, authors + 1)))
    for line, body in texts:
        yield Draft(line=line, author_id=random.choices(people, cum_weights=weights)[0], body=body)


def _refusal(clients: Clients, draft: Draft, *, key: tuple[int, int]) -> str:
    """Create a post; return why not when the service refuses its text, otherwise nothing."""
    try:
        clients.feed.CreatePost(
            feed_pb2.CreatePostRequest(
                user_id=draft.author_id,
                body=draft.body,
                audience=feed_pb2.Audience(kind=feed_pb2.AUDIENCE_KIND_ALL),
                request_id=request_id("import", key, draft),
            ),
            timeout=TIMEOUT_SECONDS,
        )
    except grpc.RpcError as error:
        if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.INVALID_ARGUMENT:
            return sentence(error)
        raise
    return ""


def _message(pair: Pair) -> graph_pb2.ConnectionPair:
    message = graph_pb2.ConnectionPair(
        first_user_id=pair.first_user_id, second_user_id=pair.second_user_id
    )
    if pair.connect_time is not None:
        moment = Timestamp()
        moment.FromDatetime(pair.connect_time)
        message.connect_time.CopyFrom(moment)
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
