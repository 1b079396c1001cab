"""A service is killed while connections are changed, and fences keep reads right.

Changes are stopped at each of their steps, and then the process of graph_service is killed. Another
one goes on: it closes the fences of changes that are over, and of no others. Or the process of a
keeper is killed, after it has committed fences and before it answers.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
from tests.support.errors import reason_of
from tests.support.pair import Databases, Pair, running_fenced_pair, running_pair, tapped
from tests.support.pauses import CLOSES_FENCES, OPENS_FENCES
from tests.support.people import People
from tests.support.ports import free_port
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
# More people than one change has fences of their own for.
_MANY: Final = 1_001
_OPEN_CHANGES: Final = "SELECT change_id FROM open_fences"
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


def test_a_keeper_that_is_killed_before_it_answers_leaves_nothing_half_done(
    databases: Databases, tmp_path: Path
) -> None:
    """An import and an erasure of so many people have a fence for everybody."""
    port = free_port()
    settings = {"FENCES_PORT": str(free_port()), "FENCE_KEEPERS": f"127.0.0.1:{port}"}
    with ExitStack() as stack:
        pair = stack.enter_context(running_pair(databases, settings))
        tap, url = stack.enter_context(tapped(serving("feed", pair.feed_url)))
        variables = {
            "FEED_DATABASE_URL": url,
            "GRAPH_TARGET": pair.graph_server.address,
            "FENCES_PORT": str(port),
        }
        keeper = ServiceProcess("feed_service", variables, tmp_path / "killed.log")
        stack.callback(keeper.kill)
        until(lambda: _rows(pair.graph_url, "SELECT target FROM fence_keepers"))
        people = People(pair)
        bob, alice = people.connected(2)
        post = people.post(alice)
        others = people.new(_MANY)
        people.connect(alice, *others)
        carol, *strangers = people.new(_MANY)
        until(lambda: not _rows(pair.feed_url, _OPEN_CHANGES))
        assert [people.feed(bob) for _ in range(2)] == [[post]] * 2
        changes: list[Callable[[], None]] = [
            lambda: people.connect(carol, *strangers),
            lambda: _erase(pair, alice),
        ]
        committed, goes_on = list[str](), Event()
        stack.callback(goes_on.set)

        def stop(statement: str) -> None:
            if OPENS_FENCES in statement:
                committed.append(statement)
                goes_on.wait(_WITHIN_SECONDS)

        tap.after_statement = stop
        with ThreadPoolExecutor(2) as threads:
            attempts = [threads.submit(_reason, change) for change in changes]
            until(lambda: len(committed) == len(changes), within_seconds=_WITHIN_SECONDS)
            keeper.kill()
            reasons = [attempt.result() for attempt in attempts]
        tap.after_statement = _pass
        goes_on.set()

        assert reasons == ["FENCE_KEEPER_UNAVAILABLE"] * 2
        assert len(_rows(pair.feed_url, _OPEN_CHANGES)) == 2
        assert [people.feed(bob) for _ in range(2)] == [[post]] * 2
        assert _number_of_connections(pair, alice, carol) == [1 + _MANY, 0]

        stack.enter_context(ServiceProcess("feed_service", variables, tmp_path / "next.log"))
        until(lambda: not _rows(pair.feed_url, _OPEN_CHANGES))
        for change in changes:
            until(lambda change=change: not _reason(change))  # type: ignore[misc]  # mypy knows no default of a lambda
        assert [people.feed(bob) for _ in range(2)] == [[]] * 2
        assert _number_of_connections(pair, alice, carol) == [0, _MANY - 1]


def _erase(pair: Pair, user_id: int) -> None:
    pair.graph.DeleteUser(graph_pb2.DeleteUserRequest(user_id=user_id))


def _reason(change: Callable[[], None]) -> str:
    """Return the reason for which a change is refused; empty if it is made."""
    try:
        change()
    except grpc.RpcError as error:
        return reason_of(error)
    return ""


def _number_of_connections(pair: Pair, *user_ids: int) -> list[int]:
    request = graph_pb2.CountConnectionsRequest(user_ids=user_ids)
    return [each.connection_count for each in pair.graph.CountConnections(request).counts]


def _rows(url: str, statement: str) -> list[tuple[object, ...]]:
    with Session(url) as session:
        return session.rows(statement)
