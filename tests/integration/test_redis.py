"""Redis makes things faster or slower, and never wrong: a real one, broken in every way.

The feed's own cache is off where connections are read, so that every page asks Redis.
"""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import grpc
import pytest
import redis
from prometheus_client import CollectorRegistry

from feed_service.connections_cache import CachedViewer, SharedConnections
from feed_service.viewers import Viewer
from kith.feed.v1 import feed_pb2
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from shared.optional_redis import OptionalRedis, RedisMetrics, RedisSettings
from tests.support.errors import refusal
from tests.support.pair import ENVIRONMENT, Databases, Pair, another_feed, running_pair
from tests.support.people import PRIVATE, People
from tests.support.processes import until
from tests.support.redis_server import RedisServer, running_redis
from tests.support.scrape import scrape
from tests.support.slow_link import SlowLink

_READERS = 4
_READS = 20
# Readers without one would read thousands of pages while Redis is away.
_PAUSE_SECONDS = 0.02
_KEY = ENVIRONMENT["PAGE_TOKEN_KEYS"]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis."""
    with running_redis() as running:
        yield running


@pytest.fixture
def cache(server: RedisServer) -> RedisServer:
    """The same, empty."""
    server.client.flushall()
    return server


@pytest.fixture(scope="module")
def link(server: RedisServer) -> Iterator[SlowLink]:
    """What the services reach it through."""
    with SlowLink(server.port) as link:
        yield link


@pytest.fixture(scope="module")
def pair(databases: Databases, link: SlowLink) -> Iterator[Pair]:
    """Services that ask Redis for everything."""
    with running_pair(databases, _environment(link)) as running:
        yield running


def _environment(link: SlowLink) -> dict[str, str]:
    return {
        "REDIS_URL": f"redis://127.0.0.1:{link.port}",
        # A busy machine is not to pass for a Redis that hangs.
        "REDIS_TIMEOUT_SECONDS": "0.3",
        "CONNECTIONS_CACHE_BYTES": "0",
    }


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Bob, who sees what Alice has posted for all, and where Redis keeps their connections."""

    bob: int
    alice: int
    mallory: int
    post: int
    secret: int

    def key(self, user_id: int) -> str:
        return f"kith:1:connections:{user_id}"


@pytest.fixture
def scene(people: People, cache: RedisServer) -> Scene:
    """Three people whose feeds have been read, so that Redis knows of them."""
    bob, alice = people.connected(2)
    [mallory] = people.new(1)
    people.post(mallory)
    secret = people.post(alice, PRIVATE)
    scene = Scene(bob=bob, alice=alice, mallory=mallory, post=people.post(alice), secret=secret)
    for user in (bob, alice, mallory):
        # An earlier test may have left Redis alone for some seconds.
        until(partial(_is_kept, people, cache, scene.key(user), user))
    return scene


def _is_kept(people: People, cache: RedisServer, key: str, user_id: int) -> bool:
    people.feed(user_id)
    return bool(cache.client.exists(key))


def _shared_hits(pair: Pair) -> float:
    return scrape(pair.feed_server).value("connections_cache_lookups_total", result="shared")


def _is_in_use(pair: Pair, people: People, user_id: int) -> bool:
    before = _shared_hits(pair)
    people.feed(user_id)
    return _shared_hits(pair) > before


def test_connections_that_one_process_has_asked_for_are_there_for_the_others(
    pair: Pair, scene: Scene, link: SlowLink
) -> None:
    asked: list[str] = []
    pair.gate.before_call = asked.append
    patient = {**_environment(link), "REDIS_TIMEOUT_SECONDS": "10"}
    with another_feed(pair, patient) as (server, feed):
        asked.clear()
        page = feed.GetFeed(feed_pb2.GetFeedRequest(user_id=scene.bob))
        hits = scrape(server).value("connections_cache_lookups_total", result="shared")
    pair.gate.before_call = lambda _method: None

    assert [post.post_id for post in page.posts] == [scene.post]
    assert hits == 1
    # Only whether they are still the same.
    assert asked.count("GetConnectedUserIds") == 1


def _random_bytes(scene: Scene, client: redis.Redis) -> None:
    client.set(scene.key(scene.bob), os.urandom(200))


def _a_few_bytes(scene: Scene, client: redis.Redis) -> None:
    client.set(scene.key(scene.bob), b"\0")


def _cut_off(scene: Scene, client: redis.Redis) -> None:
    entry = client.get(scene.key(scene.bob))
    assert isinstance(entry, bytes)
    client.set(scene.key(scene.bob), entry[:-1])


def _a_flipped_bit(scene: Scene, client: redis.Redis) -> None:
    client.setbit(scene.key(scene.bob), 32 * 8 + 7, 1)
    client.setbit(scene.key(scene.bob), 40 * 8 + 3, 1)


def _of_somebody_else(scene: Scene, client: redis.Redis) -> None:
    entry = client.get(scene.key(scene.alice))
    assert isinstance(entry, bytes)
    client.set(scene.key(scene.bob), entry)


def _signed_by_somebody_else(scene: Scene, client: redis.Redis) -> None:
    _forge(scene, client, key=b"a key that this pair of services does not know")


def _another_type(scene: Scene, client: redis.Redis) -> None:
    client.delete(scene.key(scene.bob))
    client.hset(scene.key(scene.bob), "connected_ids", f"{{{scene.mallory}}}")


def _fifty_megabytes(scene: Scene, client: redis.Redis) -> None:
    client.setrange(scene.key(scene.bob), 50 * 1024 * 1024, b"x")


def _everything_gone(_scene: Scene, client: redis.Redis) -> None:
    client.flushall()
    client.script_flush()


def _forge(scene: Scene, client: redis.Redis, *, key: bytes) -> None:
    """Say that Bob is connected with Mallory, at the revision at which he is not."""
    entry = client.get(scene.key(scene.bob))
    assert isinstance(entry, bytes)
    revision = int(entry[32:].split(b"\n")[1])
    port = client.get_connection_kwargs()["port"]
    _shared(f"redis://127.0.0.1:{port}", key).keep(
        CachedViewer(
            revision=revision,
            viewer=Viewer(user_id=scene.bob, connected_ids=f"{{{scene.mallory}}}"),
        )
    )


def _shared(url: str, *keys: bytes) -> SharedConnections:
    settings = RedisSettings(url=url, timeout=timedelta(seconds=10))
    return SharedConnections(OptionalRedis(settings, RedisMetrics(CollectorRegistry())), keys=keys)


@pytest.mark.parametrize(
    "poison",
    [
        _random_bytes,
        _a_few_bytes,
        _cut_off,
        _a_flipped_bit,
        _of_somebody_else,
        _signed_by_somebody_else,
        _another_type,
        _fifty_megabytes,
        _everything_gone,
    ],
)
def test_what_is_not_ours_in_redis_is_not_there(
    scene: Scene,
    pair: Pair,
    people: People,
    cache: RedisServer,
    poison: Callable[[Scene, redis.Redis], None],
) -> None:
    poison(scene, cache.client)

    assert people.feed(scene.bob) == [scene.post]
    # And then the entry is whole again.
    assert _is_in_use(pair, people, scene.bob)


def test_without_the_signature_a_wrong_entry_would_be_believed(
    scene: Scene, people: People, cache: RedisServer
) -> None:
    _forge(scene, cache.client, key=_KEY.encode())

    assert scene.post not in people.feed(scene.bob)


def test_an_entry_of_former_times_that_is_put_back_shows_nothing(
    scene: Scene, people: People, cache: RedisServer
) -> None:
    former = cache.client.get(scene.key(scene.bob))
    assert isinstance(former, bytes)
    people.remove(scene.alice, scene.bob)
    people.post(scene.alice)
    for _ in range(3):
        cache.client.set(scene.key(scene.bob), former)

        assert people.feed(scene.bob) == []


def test_entries_outlive_a_change_of_keys(cache: RedisServer) -> None:
    cached = CachedViewer(
        revision=7, viewer=Viewer(user_id=1, connected_ids="{2,3}", blocked_ids="{4}")
    )
    _shared(cache.url, b"old").keep(cached)

    assert _shared(cache.url, b"new", b"old").get(1) == cached
    assert _shared(cache.url, b"new").get(1) is None


@pytest.mark.parametrize("blocked_ids", [None, "{}", "{4,5}"])
def test_an_entry_tells_no_blocks_from_not_having_asked_for_them(
    cache: RedisServer, blocked_ids: str | None
) -> None:
    cached = CachedViewer(revision=7, viewer=Viewer(user_id=1, blocked_ids=blocked_ids))
    _shared(cache.url, b"key").keep(cached)

    assert _shared(cache.url, b"key").get(1) == cached


class Reading:
    """Feeds that are read over and over, each of which has to be right."""

    def __init__(self, feed: FeedServiceStub, right: dict[int, list[int]]) -> None:
        self._feed = feed
        self._right = right
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.reads = 0
        self.faults: list[str] = []

    def run(self) -> None:
        """Read until told to stop."""
        while not self._stopping.wait(_PAUSE_SECONDS):
            for user_id, post_ids in self._right.items():
                fault = self._fault(user_id, post_ids)
                with self._lock:
                    self.reads += 1
                    self.faults += [fault] if fault else []

    def stop(self) -> None:
        """End after the read under way."""
        self._stopping.set()

    def some(self, number: int = _READS) -> None:
        """Wait for so many reads more."""
        target = self.reads + number
        until(lambda: self.reads >= target)

    def _fault(self, user_id: int, post_ids: list[int]) -> str:
        request = feed_pb2.GetFeedRequest(user_id=user_id)
        try:
            page = self._feed.GetFeed(request, timeout=30)
        except grpc.RpcError as error:
            return str(error)
        shown = [post.post_id for post in page.posts]
        return "" if shown == post_ids else f"{user_id} sees {shown}"


@pytest.fixture
def reading(scene: Scene, pair: Pair, people: People) -> Iterator[Reading]:
    """Several readers at work. The test fails if any of them is ever shown something wrong."""
    [mallorys] = people.feed(scene.mallory)
    right = {
        scene.bob: [scene.post],
        scene.alice: [scene.post, scene.secret],
        scene.mallory: [mallorys],
    }
    reading = Reading(pair.feed, right)
    with ThreadPoolExecutor(_READERS) as readers:
        running = [readers.submit(reading.run) for _ in range(_READERS)]
        try:
            reading.some()
            yield reading
            reading.some()
        finally:
            reading.stop()
        for reader in running:
            reader.result()
    assert reading.faults == []


def _times_lost(pair: Pair) -> float:
    return scrape(pair.feed_server).value("redis_errors_total", kind="away")


def _is_available(pair: Pair) -> bool:
    return scrape(pair.feed_server).value("redis_available") == 1


def test_a_redis_that_hangs_and_dies_holds_up_a_few_calls_and_then_nobody(
    reading: Reading, pair: Pair, people: People, scene: Scene, cache: RedisServer
) -> None:
    before = _times_lost(pair)
    cache.hang()
    try:
        until(lambda: not _is_available(pair))
        reading.some(4 * _READS)
        # Those that were waiting when it was noticed, and one that looks every few seconds.
        assert _times_lost(pair) - before <= _READS
    finally:
        cache.kill()
        cache.start()
    # It has come back empty.
    until(lambda: _is_in_use(pair, people, scene.bob))


def test_a_redis_that_is_emptied_under_way_is_not_noticed(
    reading: Reading, cache: RedisServer
) -> None:
    for _ in range(10):
        cache.client.flushall()
        cache.client.script_flush()
        reading.some(_READERS)


def test_something_else_than_redis_is_as_good_as_nothing(pair: Pair, scene: Scene) -> None:
    elsewhere = {"REDIS_URL": f"redis://{pair.graph_server.address}"}
    with another_feed(pair, elsewhere) as (_, feed):
        for _ in range(3):
            page = feed.GetFeed(feed_pb2.GetFeedRequest(user_id=scene.bob), timeout=30)

            assert [post.post_id for post in page.posts] == [scene.post]


def test_a_redis_that_is_slow_is_left_alone(reading: Reading, pair: Pair, link: SlowLink) -> None:
    link.seconds = 0.5
    try:
        until(lambda: not _is_available(pair))
        reading.some()
    finally:
        link.seconds = 0


@pytest.fixture(scope="module")
def processes(pair: Pair, server: RedisServer) -> Iterator[tuple[FeedServiceStub, FeedServiceStub]]:
    """Two that let a user post ten times in a minute."""
    # However long an answer takes: a process that goes on without Redis counts for itself.
    limits = {"REDIS_URL": server.url, "REDIS_TIMEOUT_SECONDS": "10", "RATE_LIMITS": "on"}
    with another_feed(pair, limits) as (_, one), another_feed(pair, limits) as (_, other):
        yield one, other


@pytest.fixture
def limited(
    processes: tuple[FeedServiceStub, FeedServiceStub], people: People
) -> tuple[FeedServiceStub, FeedServiceStub]:
    """The same, both of which use Redis: an earlier test may have had it left alone."""

    def count_together() -> bool:
        [user] = people.new(1)
        return [_posted(process, user, tries=10) for process in processes] == [10, 0]

    until(count_together)
    return processes


def _posted(feed: FeedServiceStub, user_id: int, *, tries: int) -> int:
    draft = feed_pb2.CreatePostRequest(user_id=user_id, body="again", audience=PRIVATE)
    reasons = [refusal(feed.CreatePost, draft) for _ in range(tries)]
    assert set(reasons) <= {"", "RATE_LIMITED"}
    return reasons.count("")


def test_all_processes_count_together(
    limited: tuple[FeedServiceStub, FeedServiceStub], people: People
) -> None:
    one, other = limited
    [user] = people.new(1)

    assert _posted(one, user, tries=6) == 6
    assert _posted(other, user, tries=6) == 4
    assert _posted(one, user, tries=1) == 0


@pytest.mark.parametrize(
    "poison",
    [
        lambda key, client: client.set(key, os.urandom(50)),
        lambda key, client: client.hset(key, "calls", 1),
        lambda key, client: client.rpush(key, *["not a time"] * 10),
        lambda key, client: client.rpush(key, *["1e18"] * 10),
        lambda key, client: client.rpush(key, *["nan"] * 10),
    ],
    ids=["bytes", "another type", "texts", "times to come", "no numbers"],
)
def test_nobody_is_turned_away_for_what_others_write_into_redis(
    limited: tuple[FeedServiceStub, FeedServiceStub],
    people: People,
    cache: RedisServer,
    poison: Callable[[str, redis.Redis], object],
) -> None:
    one, other = limited
    [user] = people.new(1)
    poison(f"kith:1:limits:feed:POSTS:{user}", cache.client)

    assert _posted(one, user, tries=10) == 10
    # All but the first, at most, were counted for all processes.
    assert _posted(other, user, tries=3) <= 1


def test_while_redis_is_away_each_process_counts_for_itself(
    limited: tuple[FeedServiceStub, FeedServiceStub], people: People, cache: RedisServer
) -> None:
    one, other = limited
    [user] = people.new(1)
    cache.kill()
    try:
        assert _posted(one, user, tries=12) == 10
        assert _posted(other, user, tries=12) == 10
    finally:
        cache.start()
