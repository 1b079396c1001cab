"""The same world on one PostgreSQL and on a Citus, read by whole calls in turns.

Both get the same connections of the same graph, and their answers are compared before anything is
measured. The Citus is that of the tests: KITH_TEST_CITUS_URL. Its database holds a copy of the one
PostgreSQL's rows and is dropped afterwards.
"""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from benchmarks import dataset as datasets
from benchmarks import graph_on_citus
from benchmarks.dataset import Dataset, connect
from benchmarks.end_to_end import GET_FEED
from benchmarks.processes import RunningPair, calls_of, running_pair
from benchmarks.rounds import Contender, Effort, in_turns
from benchmarks.row import Row, comparison
from benchmarks.world import Size
from feed_service.models import DISTRIBUTED_BY
from kith.cli.terminal import progress
from kith.feed.v1 import feed_pb2
from shared.database.embedded_postgres import EmbeddedPostgres
from tests.support.citus import running_citus

SIZE: Final = Size(
    name="citus", people=20_000, connections=400_000, posts=300_000, special_people=0
)
SHARDS: Final = 4
"""A statement is planned on every shard: two for a core, of which each of two workers has one."""

_GET_DIGEST: Final = "/kith.feed.v1.FeedService/GetDigest"
_TARGETS: Final = {10: 4.0, 150: 4.0, 1_000: 4.0, 5_000: 3.0}
_DIGEST_DEGREE: Final = 150
_WEEK: Final = datetime(2025, 7, 2, tzinfo=UTC)
_NEITHER_COPIED: Final = {"authors"}


def compare(effort: Effort, directory: Path, console: Console) -> list[Row]:
    """Measure both in turns. Raises LookupError when no Citus is named."""
    with ExitStack() as stack:
        citus = stack.enter_context(running_citus(shard_count=SHARDS))
        if citus is None:
            raise LookupError("KITH_TEST_CITUS_URL has to name the coordinator of a running Citus")
        cluster = stack.enter_context(EmbeddedPostgres(directory))
        single = datasets.prepared(cluster, directory, SIZE, console)
        distributed = replace(single, feed_url=citus.new())
        with progress(console) as bar:
            task = bar.add_task("copying", total=len(DISTRIBUTED_BY))
            for _ in _copied(single.feed_url, distributed.feed_url):
                bar.advance(task)
        pairs = {
            layout: stack.enter_context(_pair(dataset, directory / "logs" / layout, layout))
            for layout, dataset in (("single", single), ("distributed", distributed))
        }
        rows = _rows(effort, single, pairs, stack)
        return [*rows, *graph_on_citus.compare(effort, citus)]


def _pair(dataset: Dataset, logs: Path, layout: str) -> AbstractContextManager[RunningPair]:
    logs.mkdir(parents=True, exist_ok=True)
    return running_pair(dataset, logs=logs, settings={"FEED_LAYOUT": layout})


def _copied(source: str, target: str) -> Iterator[str]:
    """Copy the rows of every distributed table, and yield each table that is done."""
    with closing(connect(target)) as session, session.cursor() as cursor:
        for table in DISTRIBUTED_BY:
            if table not in _NEITHER_COPIED:
                _copy(table, source, target)
            yield table
        cursor.execute(
            "INSERT INTO authors SELECT DISTINCT author_id FROM posts ON CONFLICT DO NOTHING"
        )
        cursor.execute(f"VACUUM ANALYZE {', '.join(DISTRIBUTED_BY)}")


def _copy(table: str, source: str, target: str) -> None:
    reading, writing = os.pipe()

    def send() -> None:
        with (
            os.fdopen(writing, "wb") as pipe,
            closing(connect(source)) as session,
            session.cursor() as cursor,
        ):
            cursor.copy_expert(f"COPY {table} ({columns}) TO STDOUT", pipe)

    with (
        os.fdopen(reading, "rb") as pipe,
        closing(connect(target)) as session,
        session.cursor() as cursor,
    ):
        cursor.execute(f"SELECT * FROM {table} LIMIT 0")
        columns = ", ".join(column.name for column in cursor.description or ())
        sender = threading.Thread(target=send)
        sender.start()
        cursor.copy_expert(f"COPY {table} ({columns}) FROM STDIN", pipe)
        sender.join()


def _rows(
    effort: Effort, dataset: Dataset, pairs: Mapping[str, RunningPair], stack: ExitStack
) -> list[Row]:
    contenders = dict[str, Contender]()
    for degree in _TARGETS:
        requests = [
            feed_pb2.GetFeedRequest(user_id=id_).SerializeToString()
            for id_ in dataset.viewer_ids(degree)
        ]
        contenders |= _contenders(f"feed {degree}", GET_FEED, requests, pairs, stack)
    digests = [_digest_request(id_) for id_ in dataset.viewer_ids(_DIGEST_DEGREE)]
    contenders |= _contenders("digest", _GET_DIGEST, digests, pairs, stack)
    segments = in_turns(effort, contenders)
    p50 = attrgetter("p50")
    return [
        *(
            comparison(
                f"GetFeed p50, degree {degree:,}: distributed vs single",
                segments,
                (f"distributed feed {degree}", f"single feed {degree}"),
                p50,
                target=target,
            )
            for degree, target in _TARGETS.items()
        ),
        comparison(
            f"GetDigest p50, frozen, degree {_DIGEST_DEGREE}: distributed vs single",
            segments,
            ("distributed digest", "single digest"),
            p50,
            target=4,
        ),
    ]


def _contenders(
    name: str,
    method: str,
    requests: Sequence[bytes],
    pairs: Mapping[str, RunningPair],
    stack: ExitStack,
) -> dict[str, Contender]:
    """Return both ways to the same answers. Raises ValueError when they are not the same."""
    calls = {
        layout: stack.enter_context(calls_of(pair.feed_address, method))
        for layout, pair in pairs.items()
    }
    for request in requests:
        _require_same(method, [call(request) for call in calls.values()])
    return {
        f"{layout} {name}": Contender(calls=[partial(call, request) for request in requests])
        for layout, call in calls.items()
    }


def _require_same(method: str, answers: Sequence[bytes]) -> None:
    """Compare the posts: signed URLs and tokens have the time in them."""
    kind = feed_pb2.GetFeedResponse if method == GET_FEED else feed_pb2.GetDigestResponse
    shown = [[post.post_id for post in _posts(kind.FromString(answer))] for answer in answers]
    if shown[0] != shown[1] or not shown[0]:
        raise ValueError(f"{method} answers {shown}")


def _posts(
    answer: feed_pb2.GetFeedResponse | feed_pb2.GetDigestResponse,
) -> list[feed_pb2.Post]:
    if isinstance(answer, feed_pb2.GetFeedResponse):
        return list(answer.posts)
    return [item.post for item in answer.items]


def _digest_request(viewer_id: int) -> bytes:
    week = Timestamp()
    week.FromDatetime(_WEEK)
    return feed_pb2.GetDigestRequest(user_id=viewer_id, week_of=week).SerializeToString()
