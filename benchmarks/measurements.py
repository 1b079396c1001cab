"""The rows of the table: one function each, from measurements that several rows may share."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import parse_qs, urlsplit

import boto3
import prometheus_client
from botocore.config import Config

from benchmarks import dataset as datasets
from benchmarks.baselines import CALL, Plan, viewer_message
from benchmarks.capture import Sent, Sessions
from benchmarks.dataset import Dataset, Session
from benchmarks.processes import (
    PHOTO_STORE,
    MeasuredProcess,
    PostgresClock,
    backend_cpu_seconds,
    calls_of,
    cpu_seconds,
    resident_bytes,
    running_pair,
)
from benchmarks.rounds import Contender, Segment, interleaved, ratio
from benchmarks.stage import Captured, Stage, connected_ids, feed_page
from benchmarks.world import Kind
from feed_service.url_signer import Signing
from shared.gen.kith.feed.v1 import feed_pb2
from shared.gen.kith.graph.v1 import graph_pb2
from shared.reader import Reader, Statement
from shared.settings import DatabaseSettings, Environment

_GET_FEED: Final = "/kith.feed.v1.FeedService/GetFeed"
_MEBIBYTE: Final = 1024 * 1024
_URLS: Final = 500
_PAIRS_A_CHUNK: Final = 10_000
_POSTS_A_CHUNK: Final = 1_000

Segments = Mapping[str, Sequence[Segment]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: what was measured, and what it has to reach; `stretch` is None when there is none.

    `measured` is None when it cannot be measured, and the note says why.
    """

    name: str
    measured: float | None
    target: float
    stretch: float | None = None
    unit: str = "×"
    at_least: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        """What became of the target."""
        if self.measured is None:
            return "not measurable yet"
        if self.stretch is not None and self._reaches(self.stretch):
            return "stretch"
        return "met" if self._reaches(self.target) else "missed"

    def _reaches(self, bound: float) -> bool:
        measured = self.measured or 0.0
        return measured >= bound if self.at_least else measured <= bound


def end_to_end(stage: Stage) -> Segments:
    """Measure GetFeed through everything, and the baselines, in turns."""
    with ExitStack() as stack:
        contenders = _feed_contenders(stage, stack)
        effort = stage.effort
        for contender in contenders.values():
            contender.segment(len(contender.calls), effort.segment_seconds)
        return interleaved(
            {
                name: partial(contender.segment, effort.calls, effort.segment_seconds)
                for name, contender in contenders.items()
            },
            rounds=effort.rounds,
        )


def python_cpu_vs_floor(segments: Segments) -> Row:
    """GetFeed's cost in both services against the least that is possible."""
    return Row(
        name="GetFeed, degree 150: Python CPU vs floor",
        measured=_ratio(segments, "kith 150", "floor", lambda segment: segment.python_cpu),
        target=1.35,
        stretch=1.2,
        note=_microseconds(segments, ("kith 150", "floor"), lambda segment: segment.python_cpu),
    )


def total_cpu_vs_floor(segments: Segments) -> Row:
    """The same with what PostgreSQL does."""
    return Row(
        name="GetFeed, degree 150: total CPU vs floor",
        measured=_ratio(segments, "kith 150", "floor", lambda segment: segment.total_cpu),
        target=1.15,
        stretch=1.05,
        note=_microseconds(segments, ("kith 150", "floor"), lambda segment: segment.total_cpu),
    )


def p50_vs_floor(segments: Segments) -> Row:
    """The same as a caller sees it."""
    return Row(
        name="GetFeed, degree 150: p50 vs floor",
        measured=_ratio(segments, "kith 150", "floor", lambda segment: segment.p50),
        target=1.15,
        stretch=1.05,
        note=_microseconds(segments, ("kith 150", "floor"), lambda segment: segment.p50),
    )


def p50_by_degree(segments: Segments) -> list[Row]:
    """How GetFeed grows with the number of connections."""
    return [
        Row(
            name=f"GetFeed p50: degree {degree:,} vs 10",
            measured=_ratio(segments, f"kith {degree}", "kith 10", lambda segment: segment.p50),
            target=target,
            stretch=stretch,
            note=_microseconds(segments, (f"kith {degree}", "kith 10"), lambda some: some.p50),
        )
        for degree, target, stretch in ((150, 1.6, 1.4), (1_000, 1.8, 1.6), (5_000, 3, 2))
    ]


def vs_plain(segments: Segments) -> Row:
    """How much more Python the same SQL costs when nobody looks at it."""
    return Row(
        name="plain vs GetFeed, degree 150: Python CPU",
        measured=_ratio(segments, "plain", "kith 150", lambda segment: segment.python_cpu),
        target=4,
        at_least=True,
        note=_microseconds(segments, ("plain", "kith 150"), lambda segment: segment.python_cpu),
    )


def vs_n_plus_one(segments: Segments) -> Row:
    """How much longer the predecessor's way takes."""
    return Row(
        name="N+1 vs GetFeed, degree 150: p50",
        measured=_ratio(segments, "n+1", "kith 150", lambda segment: segment.p50),
        target=5,
        at_least=True,
        note=_microseconds(segments, ("n+1", "kith 150"), lambda segment: segment.p50),
    )


def statements(stage: Stage) -> Row:
    """The most statements, each a round trip, that one call sends to one database."""
    captured = stage.captured
    calls = {
        "GetFeed": captured.feed_page.values(),
        "GetDigest": captured.digest.values(),
        "GetConnectedUserIds": [*captured.connected_ids.values(), captured.batch],
    }
    most = {
        name: max(max(len(sent.graph), len(sent.feed)) for sent in some)
        for name, some in calls.items()
    }
    return Row(
        name="statements and round trips per service and call",
        measured=max(most.values()),
        target=1,
        unit="",
        note=", ".join(f"{name} {count}" for name, count in most.items()),
    )


def hot_read(stage: Stage) -> Row:
    """What the Reader costs this process around a page's statement, against bare psycopg2."""
    sessions, url = stage.captured.feed_sessions, stage.dataset.feed_url
    [sent, *_] = stage.captured.feed_page[stage.dataset.viewer_ids(150)[0]].feed
    read = sessions.unprepared(sent)
    statement = Statement("hot_read", read.sql)
    settings = DatabaseSettings.read(Environment({}), "FEED")
    latency = prometheus_client.Histogram("latency", "Of statements.", registry=None)
    with (
        closing(sessions.open()) as session,
        closing(Reader(settings, url, latency=latency)) as reader,
        session.cursor() as cursor,
    ):
        cursor.execute(statement.prepare.replace("%%", "%"))

        def bare() -> None:
            cursor.execute(statement.execute, read.parameters)
            cursor.fetchall()

        results = _turns(
            stage,
            {"reader": [lambda: reader.rows(statement, read.parameters)], "bare": [bare]},
            clocks={"client": time.thread_time},
        )
    return Row(
        name="hot reads through the Reader vs bare psycopg2",
        measured=_ratio(results, "reader", "bare", lambda segment: segment.total_cpu),
        target=1.1,
        note=_microseconds(results, ("reader", "bare"), lambda segment: segment.total_cpu),
    )


def scale(stage: Stage) -> Row:
    """What the feed's SQL costs on much data against little, at the same degree."""
    much, little = stage.captured, stage.captured_small
    ratios = {
        degree: _sql_ratio(
            stage,
            (much.feed_sessions, _feed_sql(much, stage.dataset, degree)),
            (little.feed_sessions, _feed_sql(little, stage.small, degree)),
        )
        for degree in (10, 150, 1_000)
    }
    return Row(
        name=f"feed SQL, {stage.dataset.name} data vs 100 k posts, equal degree",
        # In the small world 1,000 connections are half of everybody, and the newest posts theirs.
        measured=max(ratios[10], ratios[150]),
        target=1.2,
        stretch=1.1,
        note=", ".join(f"degree {degree:,}: {value:.2f}" for degree, value in ratios.items()),
    )


def depth(stage: Stage) -> list[Row]:
    """What pages far from the first cost."""
    pages, sessions = stage.captured.deep_pages, stage.captured.feed_sessions
    return [
        Row(
            name=f"feed SQL, {name} vs page 1",
            measured=_sql_ratio(
                stage, (sessions, _feed_of(pages[name])), (sessions, _feed_of(pages["page 1"]))
            ),
            target=1.1,
            note="degree 150",
        )
        for name in ("page 50", "300 days back")
    ]


def unlucky_viewers(stage: Stage) -> list[Row]:
    """What the feeds cost that have hardly anything in them."""
    captured, sessions = stage.captured, stage.captured.feed_sessions
    ordinary = _feed_sql(captured, stage.dataset, 5_000)
    return [
        Row(
            name=f"feed SQL, 5,000 connections {what} vs ordinary",
            measured=_sql_ratio(
                stage,
                (sessions, _feed_sql(captured, stage.dataset, 5_000, kind)),
                (sessions, ordinary),
            ),
            target=4,
            stretch=2,
        )
        for kind, what in ((Kind.RARE, "who rarely post"), (Kind.INVISIBLE, "seen of nobody"))
    ]


def connected_ids_backend(stage: Stage) -> list[Row]:
    """What PostgreSQL does for each connected id, for one user and for many."""
    captured = stage.captured
    hubs = stage.dataset.viewer_ids(5_000)
    with closing(captured.graph_sessions.open()) as session:
        results = _turns(
            stage,
            {
                "single": _runs(
                    session, chain(*(captured.connected_ids[hub].graph for hub in hubs))
                ),
                "batch": _runs(session, captured.batch.graph),
            },
            clocks={"backend": partial(backend_cpu_seconds, session)},
        )
    single = median(segment.total_cpu for segment in results["single"]) / 5_000
    batch = median(segment.total_cpu for segment in results["batch"]) / captured.batch_id_count
    return [
        Row(
            name="GetConnectedUserIds, degree 5,000: backend time per id",
            measured=single * 1e6,
            target=0.3,
            unit="µs",
        ),
        Row(
            name="GetConnectedUserIds: per id in a batch of 100 vs single",
            measured=batch / single,
            target=1.5,
            note=f"{captured.batch_id_count:,} ids in the batch",
        ),
    ]


def digest_sql(stage: Stage) -> Row:
    """How the choice of a week's posts grows with the number of connections."""
    captured = stage.captured

    def choices(degree: int) -> tuple[Sessions, list[str]]:
        viewers = stage.dataset.viewer_ids(degree)
        return captured.feed_sessions, [_choice(captured, viewer) for viewer in viewers]

    return Row(
        name="digest SQL: degree 5,000 vs 150",
        measured=_sql_ratio(stage, choices(5_000), choices(150)),
        target=7,
        stretch=4,
    )


def photo_urls(stage: Stage) -> Row:
    """What boto3 takes for a signed URL against Kith, which has to sign the very same."""
    session = boto3.Session(
        aws_access_key_id=PHOTO_STORE["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=PHOTO_STORE["AWS_SECRET_ACCESS_KEY"],
        region_name=PHOTO_STORE["S3_REGION"],
    )
    client = session.client("s3", config=Config(signature_version="s3v4"))

    def by_boto3(key: str) -> str:
        parameters = {"Bucket": PHOTO_STORE["S3_BUCKET"], "Key": key}
        return str(client.generate_presigned_url("get_object", Params=parameters))

    keys = [f"photos/{number}/{number:032x}.jpg" for number in range(_URLS)]
    example = by_boto3(keys[0])
    credentials = session.get_credentials()
    if credentials is None:
        raise LookupError("the credentials above")
    [signed_at] = parse_qs(urlsplit(example).query)["X-Amz-Date"]
    [lifetime] = parse_qs(urlsplit(example).query)["X-Amz-Expires"]
    signing = Signing.of(
        credentials.get_frozen_credentials(),
        base_url=example.partition(keys[0])[0],
        region=PHOTO_STORE["S3_REGION"],
        signed_at=datetime.strptime(signed_at, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
        lifetime=timedelta(seconds=int(lifetime)),
    )
    results = _turns(
        stage,
        {
            "boto3": [partial(by_boto3, key) for key in keys],
            "kith": [partial(signing.url, key) for key in keys],
        },
        calls=_URLS,
        clocks={"client": time.thread_time},
    )
    is_equal = signing.url(keys[0]) == example
    return Row(
        name="photo URLs: boto3 vs Kith",
        measured=_ratio(results, "boto3", "kith", lambda segment: segment.total_cpu)
        if is_equal
        else 0,
        target=40,
        at_least=True,
        note=_microseconds(results, ("boto3", "kith"), lambda segment: segment.total_cpu)
        + (", byte for byte the same" if is_equal else ", but not the same URL"),
    )


def two_workers(_stage: Stage) -> Row:
    """What a call costs when two processes share a port."""
    return _not_yet(
        "CPU per call with two worker processes vs one", 1.05, "a service is one process"
    )


def memory(stage: Stage) -> Row:
    """What a process holds after many calls of many kinds, and whether it still grows."""
    half = stage.effort.mixed_calls // 2
    sizes = []
    for part in range(2):
        for number in range(part * half, (part + 1) * half):
            _mixed_call(stage, number)
        sizes.append([resident_bytes(pid) / _MEBIBYTE for pid in stage.pair.pids.values()])
    growth = max(after - before for before, after in zip(*sizes, strict=True))
    return Row(
        name=f"memory of a service after {2 * half:,} mixed calls",
        measured=max(sizes[1]),
        target=150,
        unit="MiB",
        note=f"grew by {growth:.1f} MiB in the second half",
    )


def imports(stage: Stage) -> list[Row]:
    """How fast connections and posts are adopted, into empty databases."""
    data = datasets.empty(stage.cluster, "imports")
    pairs, posts = stage.effort.imported_pairs, stage.effort.imported_posts
    with running_pair(data, logs=stage.logs) as pair:
        pair_requests, post_requests = list(_pair_requests(pairs)), list(_post_requests(posts))
        pair_seconds = _seconds_of(
            lambda: pair.clients.graph.ImportConnections(iter(pair_requests))
        )
        post_seconds = _seconds_of(lambda: pair.clients.feed.ImportPosts(iter(post_requests)))
    datasets.drop(stage.cluster, "imports")
    return [
        Row(
            name="import of connections",
            measured=pairs / pair_seconds,
            target=30_000,
            unit="rows/s",
            at_least=True,
        ),
        Row(
            name="import of posts",
            measured=posts / post_seconds,
            target=10_000,
            unit="rows/s",
            at_least=True,
        ),
    ]


def _feed_contenders(stage: Stage, stack: ExitStack) -> dict[str, Contender]:
    postgres = stack.enter_context(closing(PostgresClock(stage.dataset.feed_url))).seconds
    viewers = stage.dataset.viewer_ids(150)
    kith = stack.enter_context(calls_of(stage.pair.feed_address, _GET_FEED))
    feed_requests = {
        viewer.user_id: feed_pb2.GetFeedRequest(user_id=viewer.user_id).SerializeToString()
        for viewer in stage.dataset.viewers
    }
    contenders = {
        f"kith {degree}": Contender(
            calls=[
                partial(kith, feed_requests[viewer]) for viewer in stage.dataset.viewer_ids(degree)
            ],
            clocks={**_clocks(stage.pair.pids), "postgres": postgres},
        )
        for degree in (10, 150, 1_000, 5_000)
    }
    baselines = {
        "floor": (("floor-graph", "floor-feed"), {id_: viewer_message(id_) for id_ in viewers}),
        "plain": (("plain-graph", "plain-feed"), feed_requests),
        "n+1": (("n-plus-one",), feed_requests),
    }
    for name, (modes, requests) in baselines.items():
        address, pids = _start_baseline(stage, stack, modes)
        call = stack.enter_context(calls_of(address, CALL))
        contenders[name] = Contender(
            calls=[partial(call, requests[viewer]) for viewer in viewers],
            clocks={**_clocks(pids), "postgres": postgres},
        )
    return contenders


def _start_baseline(
    stage: Stage, stack: ExitStack, modes: Sequence[str]
) -> tuple[str, dict[str, int]]:
    """Start the processes of a baseline, each calling the one before; return whom to call."""
    captured, pids = stage.captured, {}
    address = stage.dataset.graph_url if modes == ("n-plus-one",) else ""
    sent = {id_: captured.feed_page[id_] for id_ in stage.dataset.viewer_ids(150)}
    for mode in modes:
        plan = (
            Plan(
                sessions=captured.graph_sessions,
                statements={id_: some.graph for id_, some in sent.items()},
            )
            if mode.endswith("graph")
            else Plan(
                sessions=captured.feed_sessions,
                statements={id_: some.feed for id_, some in sent.items()},
            )
        )
        path = plan.write(stage.directory / f"{mode}.json")
        process = stack.enter_context(_baseline(mode, path, address, stage.logs))
        address, pids[mode] = process.address(), process.pid
    return address, pids


@contextmanager
def _baseline(mode: str, plan: Path, upstream: str, logs: Path) -> Iterator[MeasuredProcess]:
    arguments = [mode, str(plan), *([upstream] if upstream else [])]
    log = logs / f"{mode}.log"
    with MeasuredProcess("benchmarks.baselines", *arguments, environment={}, log=log) as process:
        yield process


def _clocks(pids: Mapping[str, int]) -> dict[str, Callable[[], float]]:
    return {name: partial(cpu_seconds, pid) for name, pid in pids.items()}


def _turns(
    stage: Stage,
    calls_by_name: Mapping[str, Sequence[Callable[[], object]]],
    *,
    calls: int = 0,
    clocks: Mapping[str, Callable[[], float]] | None = None,
) -> dict[str, list[Segment]]:
    """Make these calls in turns, each side a segment a round."""
    effort = stage.effort
    contenders = {
        name: Contender(calls=some, clocks=clocks or {}) for name, some in calls_by_name.items()
    }
    for contender in contenders.values():
        contender.segment(len(contender.calls), effort.segment_seconds)
    return interleaved(
        {
            name: partial(contender.segment, calls or effort.calls, effort.segment_seconds)
            for name, contender in contenders.items()
        },
        rounds=effort.rounds,
    )


def _sql_ratio(
    stage: Stage, these: tuple[Sessions, Sequence[str]], those: tuple[Sessions, Sequence[str]]
) -> float:
    """Return how the median times of statements relate, by psycopg2 with nothing around it."""
    with closing(these[0].open()) as this_session, closing(those[0].open()) as that_session:
        results = _turns(
            stage,
            {"these": _runs(this_session, these[1]), "those": _runs(that_session, those[1])},
        )
    return _ratio(results, "these", "those", lambda segment: segment.p50)


def _runs(session: Session, statements: Iterable[str]) -> list[Callable[[], object]]:
    return [partial(_run, session, statement) for statement in statements]


def _run(session: Session, statement: str) -> None:
    with session.cursor() as cursor:
        cursor.execute(statement)
        cursor.fetchall()


def _feed_sql(
    captured: Captured, dataset: Dataset, degree: int, kind: Kind = Kind.ORDINARY
) -> list[str]:
    return _feed_of(captured.feed_page[id_] for id_ in dataset.viewer_ids(degree, kind))


def _feed_of(sent: Iterable[Sent]) -> list[str]:
    return [statement for some in sent for statement in some.feed]


def _choice(captured: Captured, viewer_id: int) -> str:
    """The statement by which a digest is chosen: only the first reading sends it."""
    again = set(captured.digest[viewer_id].feed)
    [choice, *_] = [
        statement
        for statement in captured.first_digest[viewer_id].feed
        if statement not in again and "INSERT" not in statement
    ]
    return choice


def _mixed_call(stage: Stage, number: int) -> None:
    ids = stage.dataset.ordinary_ids
    person, clients = ids[number % len(ids)], stage.pair.clients
    if number % 10 == 0:
        connected_ids(clients, ids[number % 50 : number % 50 + 20])
    elif number % 10 == 1:
        clients.feed.ListPosts(feed_pb2.ListPostsRequest(user_id=person, author_id=person))
    elif number % 10 == 2:  # noqa: PLR2004 -- a share of the mix
        clients.graph.ListConnections(graph_pb2.ListConnectionsRequest(user_id=person))
    else:
        feed_page(clients, person)


def _pair_requests(count: int) -> Iterator[graph_pb2.ImportConnectionsRequest]:
    """Return different pairs, a ring with ever longer chords, in chunks."""
    people = max(1_000, count // 50)
    pairs = [
        graph_pb2.ConnectionPair(
            first_user_id=number % people + 1,
            second_user_id=(number % people + number // people + 1) % people + 1,
        )
        for number in range(count)
    ]
    for start in range(0, count, _PAIRS_A_CHUNK):
        yield graph_pb2.ImportConnectionsRequest(connections=pairs[start : start + _PAIRS_A_CHUNK])


def _post_requests(count: int) -> Iterator[feed_pb2.ImportPostsRequest]:
    audience = feed_pb2.Audience(kind=feed_pb2.AUDIENCE_KIND_ALL)
    for start in range(0, count, _POSTS_A_CHUNK):
        request = feed_pb2.ImportPostsRequest()
        for number in range(start, min(start + _POSTS_A_CHUNK, count)):
            post = request.posts.add(
                author_id=number % 1_000 + 1,
                external_id=str(number),
                body="Adopted from elsewhere, with a text of an ordinary length.",
                audience=audience,
            )
            post.create_time.FromSeconds(1_700_000_000 + number)
        yield request


def _seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _ratio(segments: Segments, this: str, that: str, figure: Callable[[Segment], float]) -> float:
    return ratio(map(figure, segments[this]), map(figure, segments[that]))


def _microseconds(
    segments: Segments, names: Sequence[str], figure: Callable[[Segment], float]
) -> str:
    return " / ".join(f"{median(map(figure, segments[name])) * 1e6:,.0f}" for name in names) + " µs"


def _not_yet(name: str, target: float, reason: str) -> Row:
    return Row(name=name, measured=None, target=target, note=reason)
