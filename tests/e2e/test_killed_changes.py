"""graph_service is killed while it changes connections, and fences keep reads right.

Changes are stopped at each of their steps, and then their process is killed. Another process of
graph_service goes on: it closes the fences of changes that are over, and of no others.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Final

import grpc
import pytest

from kith.graph.v1 import graph_pb2
from kith.graph.v1.fence_keeper_pb2 import ListOpenFencesRequest
from kith.graph.v1.fence_keeper_pb2_grpc import FenceKeeperServiceStub
from kith.graph.v1.graph_pb2_grpc import GraphServiceStub
from tests.support.pair import Databases, Pair, running_fenced_pair, tapped
from tests.support.pauses import CLOSES_FENCES, OPENS_FENCES
from tests.support.people import People
from tests.support.processes import ServiceProcess, Session, until
from tests.support.roles import serving
from tests.support.wire import WireTap

# In this order, because fences that the reaper closes must not be taken for that of the first.
_STEPS: Final = {
    "before the fence is closed": ("keeper", "before_statement", CLOSES_FENCES),
    "after COMMIT": ("graph", "after_statement", "COMMIT"),
    "COMMIT is lost": ("graph", "before_statement", "COMMIT"),
    "COMMIT is late": ("graph", "before_statement", "COMMIT"),
    "after the fence is opened": ("keeper", "after_statement", OPENS_FENCES),
    "before the fence is opened": ("keeper", "before_statement", OPENS_FENCES),
}
_LATE: Final = "COMMIT is late"
# A ceiling that only something broken reaches.
_WITHIN_SECONDS: Final = 60
_REMOVED: Final = {"before the fence is closed", "after COMMIT"}


@dataclass(kw_only=True)
class _Removal:
    """Alice removes Bob by a process that is killed when the removal is at a step."""

    step: str
    bob: int
    alice: int
    is_there: Event = field(default_factory=Event)
    goes_on: Event = field(default_factory=Event)

    def begin(self, process: ServiceProcess, taps: dict[str, WireTap]) -> None:
        """Return when the removal is at its step."""
        server, when, what = _STEPS[self.step]
        tap = taps[server]

        def stop(statement: str) -> None:
            if what not in statement:
                return
            setattr(tap, when, _pass)
            self.is_there.set()
            self.goes_on.wait()
            if self.step == "COMMIT is lost":
                raise ConnectionError

        setattr(tap, when, stop)
        Thread(target=self._send, args=(process,), daemon=True).start()
        assert self.is_there.wait(_WITHIN_SECONDS), self.step

    def _send(self, process: ServiceProcess) -> None:
        request = graph_pb2.RemoveConnectionRequest(user_id=self.alice, peer_id=self.bob)
        try:
            GraphServiceStub(process.channel).RemoveConnection(request)
        except grpc.RpcError:
            # Its process is killed, or has no answer of the keeper.
            return
        assert self.step == "before the fence is closed"


def _pass(_statement: str) -> None:
    """Let something through."""


@pytest.fixture(scope="module")
def both(databases: Databases) -> Iterator[tuple[Pair, FenceKeeperServiceStub]]:
    with running_fenced_pair(databases) as running:
        yield running


def test_reads_are_right_when_the_process_of_a_change_is_killed_at_any_step(
    both: tuple[Pair, FenceKeeperServiceStub], tmp_path: Path
) -> None:
    pair, keeper = both
    people = People(pair)
    removals = {}
    for step in _STEPS:
        bob, alice = people.connected(2)
        removals[step] = _Removal(step=step, bob=bob, alice=alice)
    late = removals[_LATE]
    until(lambda: not _open(keeper))
    for removal in removals.values():
        # Bob's connections are cached and need no call.
        people.feed(removal.bob)

    with ExitStack() as stack:
        tap, url = stack.enter_context(tapped(serving("graph", pair.graph_url)))
        variables = {"GRAPH_DATABASE_URL": url, "FENCE_KEEPERS": _address(pair)}
        process = stack.enter_context(
            ServiceProcess("graph_service", variables, tmp_path / "graph.log")
        )
        for removal in removals.values():
            stack.callback(removal.goes_on.set)
        for removal in removals.values():
            removal.begin(process, {"graph": tap, "keeper": pair.feed_tap})
        process.kill()
        for removal in removals.values():
            if removal is not late:
                removal.goes_on.set()

        _check(people, removals)
        until(lambda: len(_open(keeper)) <= 1)
        assert len(_open(keeper)) == 1
        _check(people, removals)
        late.goes_on.set()
        until(lambda: not _is_connected(pair, late))
        _check(people, removals, ended={*_REMOVED, _LATE})
        until(lambda: not _open(keeper))
        _check(people, removals, ended={*_REMOVED, _LATE})


def _address(pair: Pair) -> str:
    """Return where both processes of the graph find the keeper."""
    with Session(pair.graph_url) as session:
        [(target,)] = session.rows("SELECT target FROM fence_keepers")
    return str(target)


def _open(keeper: FenceKeeperServiceStub) -> list[str]:
    listed = keeper.ListOpenFences(ListOpenFencesRequest()).open_fences
    return [fence.change_id for fence in listed]


def _is_connected(pair: Pair, removal: _Removal) -> bool:
    request = graph_pb2.GetConnectionRequest(user_id=removal.alice, peer_id=removal.bob)
    state = pair.graph.GetConnection(request).connection.state
    return state == graph_pb2.CONNECTION_STATE_CONNECTED


def _check(people: People, removals: dict[str, _Removal], *, ended: set[str] | None = None) -> None:
    """Have each Alice post, and see that Bob is shown it if he is connected with her, twice."""
    ended = ended or _REMOVED
    for step, removal in removals.items():
        post = people.post(removal.alice)
        for _ in range(2):
            page = people.feed(removal.bob)
            assert (page == []) if step in ended else (post in page), step
