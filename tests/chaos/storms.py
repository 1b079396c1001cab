"""Very many watchers and open calls."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.row import Row
from kith.feed.v1 import feed_pb2
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from tests.chaos.fault import Effort, kept, none, within
from tests.chaos.load import FEED_READS, Load
from tests.chaos.stage import Scene, Stage, resident_bytes

_ROOT: Final = Path(__file__).parents[2]
_WATCHERS: Final = 1_000
_STREAMS: Final = 10_000
_STORM_SECONDS: Final = 20
_OPEN_SECONDS: Final = 15
_FLIP_SECONDS: Final = 1.2
_MEBIBYTE: Final = 1024 * 1024
_GROWTH_MIB: Final = 256
# UNAVAILABLE are those whose connection had reached its age before they were sent.
_GIVEN_UP: Final = {"watch": ("UNAVAILABLE",), "silent": ("UNAVAILABLE", "CANCELLED")}
# Silent calls are given up soon after they have got a thread, of which there are 512.
_UNSERVED_SECONDS: Final = 5.0
_TRY_SECONDS: Final = 0.1


def health_storm(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Let feed_service lose and find the graph under the eyes of very many."""
    with stage.scene({"GRAPH_READY_GRACE_SECONDS": "0"}) as scene:
        before = resident_bytes(scene.feed.workers())
        with Load(replace(scene.traffic(), config="none")) as load:
            answered, failed = _watched(scene, max(5, effort.of(_STORM_SECONDS)))
            grown = resident_bytes(scene.feed.workers()) - before
        yield none("failed watches", failed, note=f"of {_WATCHERS:,} watchers")
        yield none("watchers without a last status", _WATCHERS - answered)
        yield within("memory of two workers grew by", grown / _MEBIBYTE, _GROWTH_MIB, "MiB")
        own = [call for call in load.history.failed if call.method not in FEED_READS]
        yield none("failed calls that need no graph", len(own), note=load.history.codes())
        yield from kept(load.history, scene.compared(load.history))


def open_streams(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Keep very many calls open, and go on calling."""
    number = max(1_000, effort.of(_STREAMS))
    with stage.scene() as scene:
        for kind, target in (("watch", scene.graph.address), ("silent", scene.feed.address)):
            yield from _kept_open(scene, kind, target, number)


def _kept_open(scene: Scene, kind: str, target: str, number: int) -> Iterator[Row]:
    before = resident_bytes(scene.processes)
    with _serving(scene) as tried:
        with _open(kind, target, number) as streams:
            time.sleep(_OPEN_SECONDS)
            grown = resident_bytes(scene.processes) - before
            states = streams()
        time.sleep(1)
    refused = states.pop("RESOURCE_EXHAUSTED", 0)
    kept_open, given_up = (
        states.pop("OPEN", 0),
        sum(states.pop(code, 0) for code in _GIVEN_UP[kind]),
    )
    note = f"{refused:,} refused, {kept_open:,} open, {given_up:,} given up"
    yield none(f"{kind}: ended otherwise", sum(states.values()), note=f"{note} {states or ''}")
    yield within(f"{kind}: memory of four workers grew by", grown / _MEBIBYTE, _GROWTH_MIB, "MiB")
    yield within(f"{kind}: longest time without service", tried.longest, _UNSERVED_SECONDS, "s")
    yield none(f"{kind}: health that failed", tried.unhealthy)


def _watched(scene: Scene, seconds: int) -> tuple[int, int]:
    """Return how many watchers got a last status, and how many watches failed."""
    command = [sys.executable, "-m", "tests.support.health_stress", "watch", scene.feed.address]
    with subprocess.Popen(
        [*command, str(_WATCHERS), str(seconds), "1"], cwd=_ROOT, stdout=subprocess.PIPE, text=True
    ) as storm:
        while storm.poll() is None:
            scene.between.refuse()
            time.sleep(_FLIP_SECONDS)
            scene.between.heal()
            time.sleep(_FLIP_SECONDS)
        assert storm.stdout is not None
        answered, failed = map(int, storm.stdout.read().split())
    return answered, failed


@contextmanager
def _open(kind: str, target: str, number: int) -> Iterator[Callable[[], dict[str, int]]]:
    """Open calls of a kind; yields what hangs up and returns what had become of them."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.streams", kind, target, str(number)],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()

        def hang_up() -> dict[str, int]:
            said, _ = process.communicate(timeout=60)
            pairs = (state.split("=") for state in said.split())
            return {state: int(count) for state, count in pairs}

        yield hang_up


@dataclass
class _Tried:
    """How calls fared in the meantime; `longest` is between two that were served."""

    longest: float = 0.0
    unhealthy: int = 0
    served: float = field(default_factory=time.monotonic)


@contextmanager
def _serving(scene: Scene) -> Iterator[_Tried]:
    """Call both services and ask for health inside the block, again and again."""
    tried, is_over = _Tried(), threading.Event()

    def call_on() -> None:
        while not is_over.wait(_TRY_SECONDS):
            with grpc.insecure_channel(
                scene.feed.address, [("grpc.use_local_subchannel_pool", 1)]
            ) as channel:
                _try(channel, tried)

    thread = threading.Thread(target=call_on)
    thread.start()
    try:
        yield tried
    finally:
        is_over.set()
        thread.join()
        tried.longest = max(tried.longest, time.monotonic() - tried.served)


def _try(channel: grpc.Channel, tried: _Tried) -> None:
    health, feed = health_pb2_grpc.HealthStub(channel), FeedServiceStub(channel)
    try:
        health.Check(health_pb2.HealthCheckRequest(service="live"), timeout=2)
    except grpc.RpcError:
        tried.unhealthy += 1
    try:
        # Asks the graph as well.
        feed.GetFeed(feed_pb2.GetFeedRequest(user_id=1), timeout=2)
    except grpc.RpcError:
        return
    now = time.monotonic()
    tried.longest = max(tried.longest, now - tried.served)
    tried.served = now
