"""Ten times the calls that can be served."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.row import Row
from kith.feed.v1 import feed_pb2
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from tests.chaos.fault import Effort, at_least, none, within
from tests.chaos.stage import Stage
from tests.support.errors import succeeds

_ROOT: Final = Path(__file__).parents[2]
# Each way between the services and PostgreSQL: so that what can be served is bounded by threads, to
# some 100 a second, and two cores suffice for services and for ten times as many calls.
_WAY_SECONDS: Final = 0.075
_CALLERS: Final = 48
_CONNECTIONS: Final = 8
_PEAK_SECONDS: Final = 5
_FLOOD_SECONDS: Final = 30
_TIMES: Final = 10
_HEALTH_SECONDS: Final = 0.05
_HEALTH_MS: Final = 50
_LEAST_SHARE: Final = 90
_CALL: Final = feed_pb2.ListPostsRequest(user_id=1, author_id=1)


def overload(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Find out how many calls a second are served, then send ten times as many."""
    seconds = max(5, effort.of(_FLOOD_SECONDS))
    with stage.scene() as scene:
        scene.feed_database.delay(_WAY_SECONDS)
        # Once before that, because sessions take long to open over such a way.
        peak = max(_served(scene.feed.address, _PEAK_SECONDS) for _ in range(2))
        with _asking_health(scene.feed.address) as health:
            answered, refused, rate, others = _flooded(scene.feed.address, _TIMES * peak, seconds)
        recovered = _answered_again(scene.feed.address)
    note = f"{answered / seconds:.0f} of {peak:.0f}/s, {refused:,} refused"
    yield at_least(
        "served, of the peak", answered / seconds / peak * 100, _LEAST_SHARE, "%", note=note
    )
    yield at_least("calls made, of the peak", rate / peak, 0.95 * _TIMES, "×")
    yield none("calls that ended otherwise", 0 if others == "{}" else 1, note=others)
    yield within("health, 99 of 100", health.percentile(99) * 1e3, _HEALTH_MS, "ms")
    yield none("health that failed", health.failed, note=f"of {len(health.seconds):,}")
    yield within("served again after", recovered, 1.0, "s")


@dataclass
class _Health:
    """How long health took to answer."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0

    def percentile(self, share: int) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, len(ordered) * share // 100)]


def _served(address: str, seconds: float) -> float:
    """Return how many calls a second are served to callers who wait for each answer.

    What is answered after the end counts here as little as in the flood.
    """
    deadline = time.monotonic() + seconds

    def call_on(_number: int) -> int:
        with _stub(address) as feed:
            calls = 0
            while True:
                feed.ListPosts(_CALL, timeout=10)
                if time.monotonic() >= deadline:
                    return calls
                calls += 1

    with ThreadPoolExecutor(_CALLERS) as threads:
        return sum(threads.map(call_on, range(_CALLERS))) / seconds


@contextmanager
def _stub(address: str) -> Iterator[FeedServiceStub]:
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield FeedServiceStub(channel)


def _flooded(address: str, rate: float, seconds: float) -> tuple[int, int, float, str]:
    """Return what the flood says: answered, refused, the rate that it reached, and the rest."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.chaos.flood", address, str(rate), str(seconds)],
        cwd=_ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    answered, refused, reached, others = ended.stdout.strip().split(" ", 3)
    return int(answered), int(refused), float(reached), others


@contextmanager
def _asking_health(address: str) -> Iterator[_Health]:
    """Ask for health again and again inside the block, as an orchestrator does."""
    health, is_over = _Health(), threading.Event()

    def ask() -> None:
        request = health_pb2.HealthCheckRequest(service="live")
        with grpc.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while not is_over.wait(_HEALTH_SECONDS):
                started = time.monotonic()
                try:
                    stub.Check(request, timeout=5)
                except grpc.RpcError:
                    health.failed += 1
                health.seconds.append(time.monotonic() - started)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield health
    finally:
        is_over.set()
        thread.join()


def _answered_again(address: str) -> float:
    """After how long calls are answered, on connections to all workers."""
    started = time.monotonic()

    def is_answered(_number: int) -> bool:
        with _stub(address) as feed:
            while not succeeds(lambda: feed.ListPosts(_CALL, timeout=5)):
                time.sleep(0.02)
        return True

    with ThreadPoolExecutor(_CONNECTIONS) as threads:
        all(threads.map(is_answered, range(_CONNECTIONS)))
    return time.monotonic() - started
