"""What the feed needs beside its database: the graph, the object store, Redis."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, TypeAlias

import grpc

import feed_service.access
import graph_service.access
from benchmarks.row import Row
from kith.feed.v1 import feed_pb2
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from tests.chaos.fault import Effort, at_least, kept, no_failure, none, within
from tests.chaos.history import OK, History, Outcome
from tests.chaos.load import FEED_READS, OWN_READS, Load
from tests.chaos.proxy import FaultProxy
from tests.chaos.stage import Scene, Stage
from tests.support import photos
from tests.support.browser import post_form
from tests.support.people import ALL
from tests.support.redis_server import RedisServer, running_redis
from tests.support.s3 import S3Server

_DEADLINE_SECONDS: Final = 3.0
_LATE_MS: Final = 50
_RECOVERY_SECONDS: Final = 1.0
_ADDED: Final = 0.1
_SETTLING_SECONDS: Final = 2.5
_SLOW_SECONDS: Final = 3.0
_POISONED_SECONDS: Final = 0.5
_RATE: Final = "100000/minute"
_GARBAGE: Final = (b"", b"garbage", b"{", b"\xff" * 1_000, b"9" * 50)
_ASKED: Final = "GetConnectedUserIds"
Upload: TypeAlias = feed_pb2.CreatePhotoUploadsResponse.PhotoUpload
_NOT_THERE: Final = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
_OWN: Final = OWN_READS | {"CreatePost", "CreateComment"}


def _limits() -> set[str]:
    rules = {**graph_service.access.ACCESS, **feed_service.access.ACCESS}
    return {rule.limit.name for rule in rules.values()}


UNLIMITED: Final = {
    "RATE_LIMITS": "on",
    **{f"RATE_LIMIT_{name}": _RATE for name in sorted(_limits())},
}
"""Settings by which calls are counted, and no user calls too often."""


def graph_down(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Break the way between the services, then make the graph itself fail."""
    # Clients with the service config leave a feed_service that is not ready.
    with stage.scene() as scene:
        traffic = replace(scene.traffic(clients=16), timeout=_DEADLINE_SECONDS, config="none")
        with Load(traffic.only(FEED_READS | _OWN)) as load:
            time.sleep(_SETTLING_SECONDS)
            healed = [_down(scene, effort.of(5)), _slow(scene, max(3, effort.of(8)))]
            began, retries = time.monotonic(), _retries(scene)
            healed += [_failing(scene) for _ in range(effort.of(10))]
            ended, retries = time.monotonic(), _retries(scene) - retries
            time.sleep(_SETTLING_SECONDS)
        yield from _refused_well(load.history)
        reads = _reads(load.history, began, ended)
        # With fences a read hardly ever asks the graph, which is made for one question of each.
        note = f"{retries:,.0f} for {reads:,} reads"
        yield within("calls repeated for each read", retries / reads, _ADDED, "×", note=note)
        slowest = max(load.history.first_answer_after(when, FEED_READS) for when in healed)
        yield within("feeds again after", slowest, _RECOVERY_SECONDS, "s")
        yield from kept(load.history, scene.compared(load.history))


def _refused_well(history: History) -> Iterator[Row]:
    refused = [outcome for outcome in history.failed if outcome.method in FEED_READS]
    others = [outcome for outcome in refused if outcome.code != "UNAVAILABLE"]
    note = f"of {len(refused):,}; {history.codes()}"
    yield none("feeds refused otherwise than UNAVAILABLE", len(others), note=note)
    late = max(map(_seconds, refused), default=0.0) - _DEADLINE_SECONDS
    yield within("feeds refused past their deadline", max(0.0, late) * 1e3, _LATE_MS, "ms")
    own = [outcome for outcome in history.outcomes if outcome.method in _OWN]
    failed = [outcome for outcome in own if outcome.code != OK]
    yield none("failed calls about own posts", len(failed), note=f"of {len(own):,}")


def _seconds(outcome: Outcome) -> float:
    return outcome.seconds


def _down(scene: Scene, seconds: float) -> float:
    scene.between.refuse()
    time.sleep(seconds)
    return _healed(scene.between)


def _slow(scene: Scene, seconds: float) -> float:
    scene.between.delay(_SLOW_SECONDS)
    time.sleep(seconds)
    return _healed(scene.between)


def _failing(scene: Scene) -> float:
    """Let the graph answer nothing but UNAVAILABLE for a second."""
    scene.graph_database.refuse()
    time.sleep(1)
    return _healed(scene.graph_database)


def _healed(proxy: FaultProxy) -> float:
    proxy.heal()
    healed = time.monotonic()
    time.sleep(1)
    return healed


def _retries(scene: Scene) -> float:
    """Return how many more calls have arrived at the graph than were made."""
    arrived = scene.graph.counted("grpc_server_started_total", _ASKED)
    return arrived - scene.feed.counted("grpc_client_started_total", _ASKED)


def _reads(history: History, began: float, ended: float) -> int:
    """Return how many calls that may need the graph were made between two moments."""
    return sum(
        outcome.method in FEED_READS and began <= outcome.started < ended
        for outcome in history.outcomes
    )


def store_down(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Take the store away from a feed whose posts have photos."""
    with S3Server() as store, FaultProxy("127.0.0.1", store.port) as between:
        through = {**store.environment, "S3_ENDPOINT_URL": f"http://{between.address}"}
        with stage.scene(feed=through) as scene:
            traffic = scene.traffic()
            feed = FeedServiceStub(scene.feed.channel)
            author = traffic.users[0]
            shown = _with_photo(feed, author, _uploaded(feed, author))
            [photo] = _photos(feed, author, shown)
            wrong = unanswered = 0
            with Load(traffic) as load:
                for take_away in (between.refuse, between.swallow):
                    take_away()
                    deadline = time.monotonic() + max(2, effort.of(5))
                    while time.monotonic() < deadline:
                        wrong += _photos(feed, author, shown) != [photo]
                        unanswered += not _is_refused_in_time(feed, author)
                    between.heal()
            yield none("posts without their photo", wrong)
            yield none("new photos not refused in time", unanswered)
            _with_photo(feed, author, _uploaded(feed, author))
            yield from no_failure(load.history)
            yield from kept(load.history, scene.compared(load.history))


def _permitted(feed: FeedServiceStub, author: int) -> Upload:
    draft = feed_pb2.CreatePhotoUploadsRequest.PhotoUploadDraft(
        content_type=feed_pb2.PHOTO_CONTENT_TYPE_JPEG
    )
    request = feed_pb2.CreatePhotoUploadsRequest(user_id=author, photos=[draft])
    [permission] = feed.CreatePhotoUploads(request, timeout=10).uploads
    return permission


def _uploaded(feed: FeedServiceStub, author: int) -> str:
    permission = _permitted(feed, author)
    post_form(permission.url, permission.fields, photos.plain())
    return permission.key


def _with_photo(feed: FeedServiceStub, author: int, key: str, timeout: float = 10) -> int:
    request = feed_pb2.CreatePostRequest(
        user_id=author, body="look", audience=ALL, photo_keys=[key]
    )
    return feed.CreatePost(request, timeout=timeout).post.post_id


def _photos(feed: FeedServiceStub, author: int, post_id: int) -> list[str]:
    request = feed_pb2.GetPostRequest(user_id=author, author_id=author, post_id=post_id)
    return [photo.key for photo in feed.GetPost(request, timeout=5).post.photos]


def _is_refused_in_time(feed: FeedServiceStub, author: int) -> bool:
    """Whether a new photo, which cannot be read, is refused as it should be."""
    key = _permitted(feed, author).key
    started = time.monotonic()
    try:
        _with_photo(feed, author, key, timeout=_DEADLINE_SECONDS)
    except grpc.RpcError as error:
        is_in_time = time.monotonic() - started <= _DEADLINE_SECONDS + _LATE_MS / 1e3
        return is_in_time and error.code() in _NOT_THERE
    return False


def redis_down(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Take Redis away from services that ask it in every call, and fill it with garbage."""
    seconds = max(2, effort.of(5))
    with running_redis() as redis, FaultProxy("127.0.0.1", redis.port) as between:
        # All connections are read through Redis; no user calls so often that they are refused.
        shared = {
            "REDIS_URL": f"redis://{between.address}/0",
            "CONNECTIONS_CACHE_BYTES": "0",
            **UNLIMITED,
        }
        with stage.scene(shared) as scene:
            with Load(scene.traffic()) as load:
                time.sleep(_SETTLING_SECONDS)
                for take_away in (between.refuse, between.swallow):
                    take_away()
                    time.sleep(seconds)
                    between.heal()
                    time.sleep(_SETTLING_SECONDS)
                for _ in range(effort.of(10)):
                    poisoned = _poison(redis)
                    time.sleep(_POISONED_SECONDS)
            yield from no_failure(load.history)
            slow = sorted(map(_seconds, load.history.outcomes))[-len(load.history.outcomes) // 100]
            yield at_least("keys with garbage", poisoned, 1, "", note=f"p99 {slow * 1e3:.0f} ms")
            yield from kept(load.history, scene.compared(load.history))


def _poison(redis: RedisServer) -> int:
    """Put garbage into every key there is; returns how many."""
    keys = [*redis.client.scan_iter()]
    for number, key in enumerate(keys):
        redis.client.set(key, _GARBAGE[number % len(_GARBAGE)])
    return len(keys)
