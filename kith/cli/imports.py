"""Connections and posts out of files into the services."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate, islice
from pathlib import Path
from random import Random

from google.protobuf.message import Message
from rich.console import Console

from kith.cli.clients import sentence
from kith.cli.files import Input, opened
from kith.cli.rows import Pair, read_pairs, read_texts
from kith.cli.terminal import (
    CommandError,
    InterruptedCommandError,
    RowsRefusedError,
    reading,
)
from kith.client import KithClient, imported
from kith.exceptions import AppException, ValidationError
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2
from kith.timestamps import timestamp

# The most of a message, because each message is a round trip and a commit.
IMPORT_CHUNK = 10_000

POSTS_CHUNK = 1_000
# A thousand of the longest texts are more than a message may be.
_POSTS_CHUNK_BYTES = 1024 * 1024
ImportedPost = feed_pb2.ImportPostsRequest.ImportedPost

_IN_CHUNK = re.compile(r"\w+\[(\d+)\]\.(.+)")
_CONNECTIONS = {
    "imported_count": "imported",
    "existing_count": "there already",
    "blocked_count": "skipped (blocked)",
    "over_limit_count": "skipped (connection limit)",
}
_SKIPPED = ("blocked_count", "over_limit_count")
_POSTS = {"imported_count": "imported", "existing_count": "there already"}


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Over how many people and days imported posts are spread; the same for the same seed."""

    authors: int
    days: float
    seed: int


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
    """Import an edge list, and print what became of it.

    Raises RowsRefusedError at the end when pairs were skipped, and CommandError that names the line
    of the file, and how much took effect, when it ends before.
    """
    with opened(path) as source, counted(source, console, "connections", _CONNECTIONS) as effect:
        rows = read_pairs(source, id_offset=id_offset)
        while chunk := list(islice(rows, IMPORT_CHUNK)):
            lines = [line for line, _ in chunk]
            try:
                done = import_chunk(kith, [pair for _, pair in chunk])
            except ValidationError as error:
                raise CommandError(_located(error, lines)) from error
            effect.add(done, lines)
    console.print(effect.summary(), soft_wrap=True)
    if skipped := sum(effect.counts[_CONNECTIONS[name]] for name in _SKIPPED):
        raise RowsRefusedError(f"{skipped:,} pairs were skipped")


def import_posts_chunk(
    kith: KithClient, posts: Sequence[ImportedPost]
) -> tuple[feed_pb2.ImportPostsResponse, dict[int, str]]:
    """Import up to 1,000 posts in one transaction, but for those that are refused.

    Returns the response, and the reasons of refusals by the index in the chunk.
    """
    refused: dict[int, str] = {}
    while True:
        sent = [index for index in range(len(posts)) if index not in refused]
        request = feed_pb2.ImportPostsRequest(posts=[posts[index] for index in sent])
        try:
            return imported(kith.feed.ImportPosts, request), refused
        except ValidationError as error:
            faults = _faults(error)
            if not faults:
                raise
            refused |= {sent[index]: fault for index, fault in faults.items()}


def import_posts(
    path: Path, kith: KithClient, console: Console, *, column: str | None, spread: Spread
) -> None:
    """Import every text of a file as a post, and print what became of it.

    The file is CSV if its name or a `column` says so; otherwise each line is a text. Raises
    RowsRefusedError at the end when texts were refused, and CommandError as `import_connections`.
    """
    if column is None and path.name.lower().removesuffix(".gz").endswith(".csv"):
        column = "text"
    refused, first_refusal = 0, ""
    now = datetime.now(UTC)
    with opened(path) as source, counted(source, console, "posts", _POSTS) as effect:
        for chunk in _chunks(assigned(read_texts(source, column=column), spread)):
            posts = [_imported_post(draft, spread, now) for draft in chunk]
            done, faults = import_posts_chunk(kith, posts)
            effect.add(done, [draft.line for draft in chunk])
            refused += len(faults)
            if faults and not first_refusal:
                first = min(faults)
                first_refusal = f"line {chunk[first].line}: {faults[first]}"
    console.print(effect.summary(), soft_wrap=True)
    if refused:
        raise RowsRefusedError(f"{refused:,} refused, the first in {first_refusal}")


def assigned(texts: Iterator[tuple[int, str]], spread: Spread) -> Iterator[Draft]:
    """Yield each text with an author from 1 to `authors` and an age, the same for the same seed.

    The author of rank n writes 1/n times as often as the first (Zipf's law); ranks are drawn too.
    """
    random = Random(spread.seed)  # noqa: S311 -- it has to be repeatable, not unpredictable
    people = random.sample(range(1, spread.authors + 1), spread.authors)
    weights = list(accumulate(1 / rank for rank in range(1, spread.authors + 1)))
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
    """Return the faults of the rows of a chunk by their indexes, when rows were refused."""
    return {
        int(match[1]): f"{error.reason_name}: {match[2]} {violation.description}"
        for violation in error.violations
        if (match := _IN_CHUNK.fullmatch(violation.field))
    }


def _located(error: ValidationError, lines: Sequence[int]) -> str:
    """Return the faults with lines of the file, where the service names rows of a chunk."""
    faults = _faults(error)
    named = (f"line {lines[index]}: {faults[index]}" for index in sorted(faults))
    return "; ".join(named) or sentence(error)


def _message(pair: Pair) -> graph_pb2.ConnectionPair:
    message = graph_pb2.ConnectionPair(
        first_user_id=pair.first_user_id, second_user_id=pair.second_user_id
    )
    if pair.connect_time is not None:
        message.connect_time.CopyFrom(timestamp(pair.connect_time))
    return message


def _chunks(drafts: Iterable[Draft]) -> Iterator[list[Draft]]:
    """Yield as many drafts at a time as fit into a message."""
    chunk, size = list[Draft](), 0
    for draft in drafts:
        length = len(draft.body.encode())
        if chunk and (len(chunk) == POSTS_CHUNK or size + length > _POSTS_CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(draft)
        size += length
    if chunk:
        yield chunk


@dataclass(kw_only=True)
class Effect:
    """What an import has done so far, counted by what is said of it."""

    labels: Mapping[str, str]
    """What is said of each field of an answer; of several answers, `KIND.FIELD`."""
    advance: Callable[[int], None]
    shows_zeros: bool = True
    counts: Counter[str] = field(default_factory=Counter)
    line: int = 0
    rows: int = 0
    started: float = field(default_factory=time.monotonic)

    def add(self, done: Message, lines: Sequence[int], *, kind: str = "") -> None:
        """Count a chunk of these lines, which took effect; of the answers of one kind."""
        for name, label in self.labels.items():
            of, _, field_name = name.rpartition(".")
            if of == kind:
                self.counts[label] += getattr(done, field_name)
        self.line = lines[-1]
        self.rows += len(lines)
        self.advance(self.rows)

    def summary(self) -> str:
        """Return what became of the rows, and how fast."""
        seconds = time.monotonic() - self.started
        rate = self.rows / max(seconds, 0.001)
        return f"{self._counts()}; {self.rows:,} rows in {seconds:.1f} s, {rate:,.0f} rows/s"

    def so_far(self, *, perhaps_more: bool = False) -> str:
        """Return how much of the file has taken effect, or at least how much."""
        if not self.rows:
            return "no row is known to have taken effect" if perhaps_more else "no row took effect"
        more = ", perhaps more" if perhaps_more else ""
        return f"the rows up to line {self.line} took effect{more}: {self._counts()}"

    def _counts(self) -> str:
        told = {label: self.counts[label] for label in self.labels.values()}
        listed = [
            f"{count:,} {label}" for label, count in told.items() if count or self.shows_zeros
        ]
        return ", ".join(listed) or "nothing"


@contextmanager
def counted(
    source: Input,
    console: Console,
    what: str,
    labels: Mapping[str, str],
    *,
    shows_zeros: bool = True,
) -> Iterator[Effect]:
    """Count an import and show its progress; errors say how many rows took effect."""
    with reading(console) as bar:
        task = bar.add_task(what, total=source.size, rows=0)
        effect = Effect(
            labels=labels,
            shows_zeros=shows_zeros,
            advance=lambda rows: bar.update(task, completed=source.position, rows=rows),
        )
        try:
            yield effect
        except CommandError as error:
            raise CommandError(f"{error}; {effect.so_far()}") from error
        except AppException as error:
            # The chunk that was on its way may have been committed, and its answer lost.
            so_far = effect.so_far(perhaps_more=not isinstance(error, ValidationError))
            raise CommandError(f"{sentence(error)}; {so_far}") from error
        except KeyboardInterrupt:
            so_far = effect.so_far(perhaps_more=True)
            raise InterruptedCommandError(f"interrupted; {so_far}") from None
        end = source.size or 1
        bar.update(task, total=end, completed=end)
