"""The keeper of fences fails: changes of connections wait for it, and reads go on."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Self

import grpc

from benchmarks.row import Row
from kith.feed.v1 import feed_pb2
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from kith.graph.v1 import graph_pb2
from kith.graph.v1.graph_pb2_grpc import GraphServiceStub
from tests.chaos.fault import Effort, at_least, kept, none, within
from tests.chaos.load import FEED_READS, FRIEND_CALLS, OWN_READS, Load
from tests.chaos.proxy import FaultProxy
from tests.chaos.stage import Stage
from tests.support.errors import decoded
from tests.support.people import ALL
from tests.support.ports import free_port
from tests.support.processes import until

_ALICE: Final = 5_000_001
_BOB: Final = 5_000_002
# Longer than a change waits for a keeper.
_SLOW_SECONDS: Final = 1.5
_FLAP_SECONDS: Final = 0.3
_TIMEOUT_SECONDS: Final = 10.0
_RECOVERY_SECONDS: Final = 2.0


@dataclass(kw_only=True)
class _Friendship:
    """Alice removes Bob and connects with him over and over, and posts after each change."""

    graph: GraphServiceStub
    feed: FeedServiceStub
    changed: list[float] = field(default_factory=list)
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    badly_refused: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._live)
        self._thread.start()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def first_change_after(self, moment: float) -> float:
        """Return how many seconds after a moment the next change was acknowledged."""
        return next((when - moment for when in self.changed if when > moment), float("inf"))

    def _live(self) -> None:
        is_connected = False
        while not self._stopping.is_set():
            is_changed = self._removed() if is_connected else self._connected()
            if is_changed:
                is_connected = not is_connected
                self.changed.append(time.monotonic())
            self._look(is_connected=is_connected)

    def _connected(self) -> bool:
        request = graph_pb2.RequestConnectionRequest(user_id=_ALICE, peer_id=_BOB)
        accept = graph_pb2.AcceptConnectionRequest(user_id=_BOB, peer_id=_ALICE)
        try:
            self.graph.RequestConnection(request, timeout=_TIMEOUT_SECONDS)
            self.graph.AcceptConnection(accept, timeout=_TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            return self._is_refused(error)
        return True

    def _removed(self) -> bool:
        request = graph_pb2.RemoveConnectionRequest(user_id=_ALICE, peer_id=_BOB)
        try:
            self.graph.RemoveConnection(request, timeout=_TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            return self._is_refused(error)
        return True

    def _is_refused(self, error: grpc.RpcError) -> bool:
        """Note how a change was refused; it is not made."""
        refusal = decoded(error)
        self.refused += 1
        if refusal.code is not grpc.StatusCode.UNAVAILABLE or refusal.retry_after is None:
            self.badly_refused.append(f"{refusal.code.name}: {refusal}")
        return False

    def _look(self, *, is_connected: bool) -> None:
        """Have Alice post, and Bob read his feed twice, so that he also reads what is cached."""
        new = feed_pb2.CreatePostRequest(user_id=_ALICE, body="what is new", audience=ALL)
        post_id = self.feed.CreatePost(new, timeout=_TIMEOUT_SECONDS).post.post_id
        for _ in range(2):
            request = feed_pb2.GetFeedRequest(user_id=_BOB)
            page = self.feed.GetFeed(request, timeout=_TIMEOUT_SECONDS)
            if (post_id in [post.post_id for post in page.posts]) != is_connected:
                self.wrong.append(f"post {post_id}, connected: {is_connected}")


def keeper_away(stage: Stage, effort: Effort) -> Iterator[Row]:
    """Take the keeper away from the graph, then let it be slow, then come and go."""
    port = free_port()
    with FaultProxy("127.0.0.1", port) as between:
        environment = {"FENCE_KEEPERS": between.address}
        with stage.scene(environment, feed={"FENCES_PORT": str(port)}) as scene:
            # Clients whose changes fail would repeat hundreds of them a second.
            traffic = scene.traffic().without(FRIEND_CALLS)
            friendship = _Friendship(
                graph=GraphServiceStub(scene.graph.channel),
                feed=FeedServiceStub(scene.feed.channel),
            )
            with Load(traffic) as load, friendship:
                healed = list(_faults(between, effort))
                until(lambda: friendship.first_change_after(healed[-1]) != float("inf"))
        note = f"of {2 * (len(friendship.changed) + friendship.refused):,} pages"
        yield none("pages with a wrong row", len(friendship.wrong), note=note)
        note = f"of {friendship.refused:,}; {'; '.join(friendship.badly_refused[:2])}"
        yield none(
            "changes refused otherwise than to be repeated",
            len(friendship.badly_refused),
            note=note,
        )
        reads = FEED_READS | OWN_READS
        failed = [each for each in load.history.failed if each.method in reads]
        yield none("reads that failed", len(failed), note=load.history.codes())
        yield at_least("changes refused while the keeper was away", friendship.refused, 1, "")
        slowest = max(friendship.first_change_after(moment) for moment in healed)
        yield within("changes again after", slowest, _RECOVERY_SECONDS, "s")
        yield from kept(load.history, scene.compared(load.history))


def _faults(between: FaultProxy, effort: Effort) -> Iterator[float]:
    """Break the way to the keeper in each way; yields the moments at which it was whole again."""
    seconds = max(2, effort.of(5))
    for take_away in (between.refuse, between.swallow, lambda: between.delay(_SLOW_SECONDS)):
        time.sleep(seconds)
        take_away()
        time.sleep(seconds)
        between.heal()
        yield time.monotonic()
    for _ in range(max(3, effort.of(20))):
        between.refuse()
        time.sleep(_FLAP_SECONDS)
        between.heal()
        time.sleep(_FLAP_SECONDS)
    yield time.monotonic()
