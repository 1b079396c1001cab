"""What the services do besides reading feeds: URLs, memory over time, imports."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Final
from urllib.parse import parse_qs, urlsplit

from botocore.credentials import ReadOnlyCredentials

from benchmarks import dataset as datasets
from benchmarks.baselines import boto3_signer
from benchmarks.end_to_end import GET_FEED
from benchmarks.fenced import running_fenced_pair
from benchmarks.interceptors import bare_server
from benchmarks.processes import (
    PHOTO_STORE,
    PostgresClock,
    calls_of,
    cpu_seconds,
    resident_bytes,
    running_pair,
)
from benchmarks.rounds import Contender, in_turns
from benchmarks.row import Row, comparison
from benchmarks.stage import Stage, connected_ids, feed_page
from feed_service.url_signer import Signing
from kith.feed.v1 import feed_pb2
from kith.graph.v1 import graph_pb2

_FEWEST_IDLE_SECONDS: Final = 0.1
_SEGMENTS_OF_IDLENESS: Final = 10
_MEBIBYTE: Final = 1024 * 1024
_URLS: Final = 500
_CLIENTS_A_WORKER: Final = 8
_PAGES_A_SECOND_AND_WORKER: Final = 100
_WARMING_SECONDS: Final = 10
_PAIRS_A_CHUNK: Final = 10_000
_POSTS_A_CHUNK: Final = 1_000


def photo_urls(stage: Stage) -> list[Row]:
    """What boto3 takes for a signed URL against Kith, which has to sign the very same."""
    keys = [f"photos/{number}/{number:032x}.jpg" for number in range(_URLS)]
    by_boto3 = boto3_signer()
    example = by_boto3(keys[0])
    signing = _signing_like(example, keys[0])
    clocks = {"client": time.thread_time}
    results = in_turns(
        stage.effort,
        {
            "boto3": Contender(calls=[partial(by_boto3, key) for key in keys], clocks=clocks),
            "kith": Contender(calls=[partial(signing.url, key) for key in keys], clocks=clocks),
        },
        calls=_URLS,
    )
    row = comparison(
        "photo URLs: boto3 vs Kith",
        results,
        ("boto3", "kith"),
        attrgetter("total_cpu"),
        target=40,
        at_least=True,
    )
    if signing.url(keys[0]) != example:
        return [replace(row, measured=0, note="not the same URL")]
    return [replace(row, note=f"{row.note}, byte for byte the same")]


def two_workers(stage: Stage) -> list[Row]:
    """What a call costs when two processes of each service share a port, both as busy as one."""
    with ExitStack() as stack:
        contenders = {
            name: _many_clients(stage, stack, workers=workers)
            for name, workers in (("two", 2), ("one", 1))
        }
        for contender in contenders.values():
            # Until each thread of each worker has its connection, and each cache its viewers.
            contender.segment(3 * stage.effort.calls, _WARMING_SECONDS)
        results = in_turns(stage.effort, contenders)
    return [
        comparison(
            "CPU per call with two worker processes vs one",
            results,
            ("two", "one"),
            attrgetter("total_cpu"),
            target=1.05,
        )
    ]


def _many_clients(stage: Stage, stack: ExitStack, *, workers: int) -> Contender:
    """Return bursts of pages, one over each of many connections; the clocks are for a page.

    Each worker gets as many, at a rate that it has no trouble with: a process that is less busy
    spends more on a call, and two that are busy all the time slow each other down where the cores
    are halves of one.
    """
    logs = stage.logs / f"{workers}_workers"
    logs.mkdir(exist_ok=True)
    pair = stack.enter_context(
        running_pair(stage.dataset, logs=logs, workers=workers, start=stage.start)
    )
    number_of_clients = workers * _CLIENTS_A_WORKER
    pool = stack.enter_context(ThreadPoolExecutor(number_of_clients))
    clients = [
        stack.enter_context(calls_of(pair.feed_address, GET_FEED)) for _ in range(number_of_clients)
    ]
    requests = [
        feed_pb2.GetFeedRequest(user_id=viewer).SerializeToString()
        for viewer in stage.dataset.viewer_ids(stage.dataset.usual)
    ]

    def page(number: int, client: int) -> None:
        time.sleep(client / (workers * _PAGES_A_SECOND_AND_WORKER))
        clients[client](requests[(number + client) % len(requests)])

    def burst(number: int) -> None:
        list(pool.map(partial(page, number), range(number_of_clients)))

    return Contender(
        calls=[partial(burst, number) for number in range(len(requests))],
        clocks={
            "graph": lambda: pair.graph.cpu_seconds() / number_of_clients,
            "feed": lambda: pair.feed.cpu_seconds() / number_of_clients,
        },
    )


def idle(stage: Stage) -> list[Row]:
    """What both services take while nobody calls, with fences, as they are run."""
    seconds = max(_FEWEST_IDLE_SECONDS, stage.effort.segment_seconds * _SEGMENTS_OF_IDLENESS)
    with ExitStack() as stack:
        copy = stage.small_copy("idle")
        stack.callback(datasets.drop, stage.cluster, copy.name)
        pair = stack.enter_context(
            running_fenced_pair(copy, logs=stage.logs / copy.name, start=stage.start)
        )
        bare = stack.enter_context(bare_server(stage))
        bare.address()
        postgres = stack.enter_context(closing(PostgresClock(copy.feed_url)))
        clocks: dict[str, Callable[[], float]] = {
            **{name: partial(cpu_seconds, pid) for name, pid in pair.pids.items()},
            "PostgreSQL": postgres.seconds,
            "a server of grpcio alone": bare.cpu_seconds,
        }
        # Until what is done at the start is done.
        time.sleep(seconds)
        before = {name: clock() for name, clock in clocks.items()}
        time.sleep(seconds)
        shares = {name: (clock() - before[name]) / seconds * 100 for name, clock in clocks.items()}
    return [
        Row(
            name="CPU of a service that nobody calls, of a core",
            measured=max(shares[name] for name in pair.pids),
            target=0.5,
            unit="%",
            note=", ".join(f"{name} {share:.2f} %" for name, share in shares.items()),
        )
    ]


def memory(stage: Stage) -> list[Row]:
    """What a process holds after many calls of many kinds, and whether it still grows."""
    half = stage.effort.mixed_calls // 2
    sizes = []
    for part in range(2):
        for number in range(part * half, (part + 1) * half):
            _mixed_call(stage, number)
        sizes.append([resident_bytes(pid) / _MEBIBYTE for pid in stage.pair.pids.values()])
    growth = max(after - before for before, after in zip(*sizes, strict=True))
    return [
        Row(
            name=f"memory of a service after {2 * half:,} mixed calls",
            measured=max(sizes[1]),
            target=150,
            unit="MiB",
            note=f"grew by {growth:.1f} MiB in the second half",
        )
    ]


def imports(stage: Stage) -> list[Row]:
    """How fast connections and posts are adopted, into empty databases."""
    data = datasets.empty(stage.cluster, "imports")
    pairs, posts = stage.effort.imported_pairs, stage.effort.imported_posts
    with running_pair(data, logs=stage.logs, start=stage.start) as pair:
        pair_requests, post_requests = list(_pair_requests(pairs)), list(_post_requests(posts))
        pair_seconds = _seconds_of(lambda: pair.kith.graph.ImportConnections(iter(pair_requests)))
        post_seconds = _seconds_of(lambda: pair.kith.feed.ImportPosts(iter(post_requests)))
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


def _signing_like(url: str, key: str) -> Signing:
    """Return Kith's signing of the moment of a URL that boto3 has signed."""
    query = parse_qs(urlsplit(url).query)
    return Signing.of(
        ReadOnlyCredentials(
            PHOTO_STORE["AWS_ACCESS_KEY_ID"], PHOTO_STORE["AWS_SECRET_ACCESS_KEY"], None
        ),
        base_url=url.partition(key)[0],
        region=PHOTO_STORE["S3_REGION"],
        signed_at=datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
        lifetime=timedelta(seconds=int(query["X-Amz-Expires"][0])),
    )


def _mixed_call(stage: Stage, number: int) -> None:
    ids = stage.dataset.ordinary_ids
    person, kith = ids[number % len(ids)], stage.pair.kith
    if number % 10 == 0:
        connected_ids(kith, ids[number % 50 : number % 50 + 20])
    elif number % 10 == 1:
        kith.feed.ListPosts(feed_pb2.ListPostsRequest(user_id=person, author_id=person))
    elif number % 10 == 2:  # noqa: PLR2004 -- a share of the mix
        kith.graph.ListConnections(graph_pb2.ListConnectionsRequest(user_id=person))
    else:
        feed_page(kith, person)


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
