"""A user with many connections who asks for suggestions all the time."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import grpc

from benchmarks.row import Row
from kith.graph.v1 import graph_pb2
from kith.graph.v1.graph_pb2_grpc import GraphServiceStub
from tests.chaos.fault import Effort, at_least, none
from tests.chaos.history import OK
from tests.chaos.load import Load, Traffic
from tests.chaos.neighbours import UNLIMITED
from tests.chaos.stage import Scene, Stage

_HUB: Final = 1
_FRIENDS: Final = 300
_OTHERS: Final = 400
_CHUNK: Final = 10_000
_CLIENTS: Final = 16
_SECONDS: Final = 20
# After a refusal: a client that calls without a pause takes more CPU than the services it calls.
_PAUSE_SECONDS: Final = 0.05
_LEAST_SHARE: Final = 90
_REFUSED: Final = {OK, "RESOURCE_EXHAUSTED"}


def heavy_calls(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Read feeds, first alone and then beside clients who ask for the suggestions of a hub."""
    seconds = max(3, effort.of(_SECONDS))
    rates = {name: rate for name, rate in UNLIMITED.items() if name != "RATE_LIMIT_HEAVY"}
    with stage.scene(rates) as scene:
        _make_hub(scene)
        traffic = scene.traffic().only({"GetFeed"})
        alone, _ = _feeds(traffic, seconds)
        with _suggesting(scene) as codes:
            beside, failed = _feeds(traffic, seconds)
    note = ", ".join(f"{number:,} {code}" for code, number in codes.most_common())
    rates_note = f"{beside:.0f} of {alone:.0f}/s"
    yield at_least(
        "feeds, of the rate without", beside / alone * 100, _LEAST_SHARE, "%", note=rates_note
    )
    yield none("feeds that failed", failed)
    yield none("suggestions that ended otherwise", len(set(codes) - _REFUSED), note=note)
    yield at_least("suggestions made", codes[OK], 1, "")


def _make_hub(scene: Scene) -> None:
    """Connect one person with many, and those with more than a call may look at."""
    pairs = [
        graph_pb2.ConnectionPair(first_user_id=first, second_user_id=second)
        for friend in range(_HUB + 1, _HUB + 1 + _FRIENDS)
        for first, second in [(_HUB, friend), *((friend, 10_000 + n) for n in range(_OTHERS))]
    ]
    chunks = (pairs[start : start + _CHUNK] for start in range(0, len(pairs), _CHUNK))
    GraphServiceStub(scene.graph.channel).ImportConnections(
        (graph_pb2.ImportConnectionsRequest(connections=chunk) for chunk in chunks), timeout=120
    )


def _feeds(traffic: Traffic, seconds: float) -> tuple[float, int]:
    """Return how many feeds a second were answered, and how many were not."""
    with Load(traffic) as load:
        time.sleep(seconds)
    failed = len(load.history.failed)
    return load.history.rate * (1 - failed / len(load.history.outcomes)), failed


@contextmanager
def _suggesting(scene: Scene) -> Iterator[Counter[str]]:
    """Ask for suggestions by many clients at once inside the block; yields how the calls ended."""
    codes, is_over = Counter[str](), threading.Event()
    request = graph_pb2.SuggestConnectionsRequest(user_id=_HUB)

    def ask() -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(scene.graph.address, options) as channel:
            stub = GraphServiceStub(channel)
            while not is_over.is_set():
                try:
                    stub.SuggestConnections(request, timeout=10)
                    codes[OK] += 1
                except grpc.RpcError as error:
                    codes[error.code().name] += 1
                    is_over.wait(_PAUSE_SECONDS)

    threads = [threading.Thread(target=ask) for _ in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield codes
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
