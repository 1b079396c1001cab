"""With fences, neither a read nor a change that is paused shows what it must not.

Alice removes or blocks Bob, or is suspended. Either Bob's read is stopped at one of its steps while
she does, or her change is stopped at one of its steps while Bob reads: before and after its fence
is opened, it is committed, and its fence is closed.

Bob's connections are cached by the process that answers him, or by another one in Redis, or not.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Event

import pytest

from kith.graph.v1.fence_keeper_pb2 import (
    CloseFencesRequest,
    ListOpenFencesRequest,
)
from kith.graph.v1.fence_keeper_pb2_grpc import FenceKeeperServiceStub
from tests.support.fence_keeper import open_fence
from tests.support.pair import Databases, Pair, another_feed, running_fenced_pair
from tests.support.pauses import CLOSES_FENCES, OPENS_FENCES, STEPS, Pause
from tests.support.people import People
from tests.support.ports import free_port
from tests.support.processes import Session, until
from tests.support.redis_server import running_redis
from tests.support.wire import Hook, WireTap

# A read of stamped connections asks nothing. One that has none asks first, and gets a stamp by
# that, unless a fence is open: then it asks again.
_READ_STEPS = [
    *(("cold", step) for step in STEPS if "2nd" not in step),
    *(("stamped", step) for step in STEPS if "posts" in step),
    *(("shared", step) for step in STEPS if "posts" in step),
    *(("open", step) for step in STEPS),
]
_LAST_STEPS = STEPS[STEPS.index("after the posts are read") :]
_CHANGE_STEPS = {
    "before the fence is opened": ("feed_tap", "before_statement", OPENS_FENCES),
    "after the fence is opened": ("feed_tap", "after_statement", OPENS_FENCES),
    "before the change is committed": ("graph_tap", "before_statement", "COMMIT"),
    "after the change is committed": ("graph_tap", "after_statement", "COMMIT"),
    "before the fence is closed": ("feed_tap", "before_statement", CLOSES_FENCES),
    "after the fence is closed": ("feed_tap", "after_statement", CLOSES_FENCES),
}
_COMMITTED = [*_CHANGE_STEPS][3:]
_ENDINGS = ["remove", "block", "suspend"]
# A ceiling that only something broken reaches.
_WITHIN_SECONDS = 60


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    with running_redis() as server:
        yield f"redis://127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def both(databases: Databases, redis: str) -> Iterator[tuple[Pair, FenceKeeperServiceStub]]:
    with running_fenced_pair(databases, {"REDIS_URL": redis}) as running:
        yield running


@pytest.fixture(scope="module")
def other(both: tuple[Pair, FenceKeeperServiceStub], redis: str) -> Iterator[People]:
    """People who read by another process, which has cached nobody's connections."""
    pair, _ = both
    with another_feed(pair, {"REDIS_URL": redis, "FENCES_PORT": str(free_port())}) as (_, stub):
        yield People(replace(pair, feed=stub))


@pytest.fixture
def fenced(both: tuple[Pair, FenceKeeperServiceStub]) -> Iterator[Pair]:
    """A pair with fences, of which hooks are gone after the test."""
    pair, _ = both
    yield pair
    Pause(pair).off()
    for tap in (pair.graph_tap, pair.feed_tap):
        tap.before_statement = tap.after_statement = _pass


@pytest.fixture
def keeper(both: tuple[Pair, FenceKeeperServiceStub]) -> FenceKeeperServiceStub:
    return both[1]


@pytest.fixture
def circle(fenced: Pair) -> People:
    return People(fenced)


def _pass(_statement: str) -> None:
    """Let something through."""


@pytest.fixture
def under_way(fenced: Pair) -> Iterator[Session]:
    """A session of the graph's database in which a change is under way."""
    with Session(fenced.graph_url) as session:
        yield session


def _bob_and_alice(
    pair: Pair, keeper: FenceKeeperServiceStub, circle: People, start: str
) -> tuple[int, int, int]:
    """Return two connected people and a post of Alice's, while no fence is open."""
    bob, alice = circle.connected(2)
    post = circle.post(alice)
    _close(keeper)
    if start in {"stamped", "shared"}:
        asked = list[str]()
        circle.feed(bob)
        pair.gate.before_call = asked.append
        assert circle.feed(bob) == [post]
        pair.gate.before_call = _pass
        assert "GetConnectedUserIds" not in asked
    return bob, alice, post


def _close(keeper: FenceKeeperServiceStub, *change_ids: str) -> None:
    """Close fences, and wait until nothing is open."""
    if change_ids:
        keeper.CloseFences(CloseFencesRequest(change_ids=change_ids))
    until(lambda: not keeper.ListOpenFences(ListOpenFencesRequest()).open_fences)


def _end(circle: People, ending: str, alice: int, bob: int) -> None:
    if ending == "suspend":
        circle.suspend(alice)
    else:
        getattr(circle, ending)(alice, bob)


def _posted(circle: People, ending: str, alice: int) -> None:
    """Have Alice post, unless she is suspended: then none of her posts are shown at all."""
    if ending != "suspend":
        circle.post(alice)


@pytest.mark.parametrize(("start", "step"), _READ_STEPS)
@pytest.mark.parametrize("ending", _ENDINGS)
def test_a_paused_read_shows_nothing_that_was_posted_after_the_connection_had_ended(
    fenced: Pair,
    keeper: FenceKeeperServiceStub,
    circle: People,
    other: People,
    under_way: Session,
    ending: str,
    start: str,
    step: str,
) -> None:
    bob, alice, post = _bob_and_alice(fenced, keeper, circle, start)
    reader = other if start == "shared" else circle
    others = [open_fence(keeper, under_way, bob)] if start == "open" else []
    acted = list[str]()

    def end_and_post() -> None:
        _end(circle, ending, alice, bob)
        _posted(circle, ending, alice)
        if step in _LAST_STEPS:
            # A fence that is read only now has nothing open.
            _close(keeper, *others)
        acted.append(step)

    pause = Pause(fenced)
    pause.at(step, end_and_post)
    page = reader.feed(bob)
    pause.off()
    _close(keeper, *others)

    assert acted
    assert set(page) <= {post}
    # Once more with the stamp that this read gets.
    assert [reader.feed(bob) for _ in range(2)] == [[], []]


def test_an_answer_that_is_shared_after_the_connection_had_ended_shows_nothing(
    fenced: Pair, keeper: FenceKeeperServiceStub, circle: People, other: People
) -> None:
    bob, alice, _ = _bob_and_alice(fenced, keeper, circle, "cold")
    ended, shown = list[int](), list[list[int]]()

    def end(method: str) -> None:
        if method == "GetConnectedUserIds" and not ended:
            ended.append(alice)
            circle.remove(alice, bob)
            circle.post(alice)
            _close(keeper)

    def read(statement: str) -> None:
        # By now the answer from before is in Redis.
        if "posts AS p" in statement and ended and not shown:
            shown.append([])
            shown.append(other.feed(bob))

    fenced.gate.after_call = end
    fenced.feed_tap.before_statement = read

    assert circle.feed(bob) == []
    assert shown == [[], []]


@pytest.mark.parametrize(
    ("ending", "start"),
    [
        *((ending, start) for ending in _ENDINGS for start in ("cold", "stamped")),
        ("remove", "shared"),
    ],
)
@pytest.mark.parametrize("step", _CHANGE_STEPS)
def test_a_read_during_a_paused_change_shows_what_is_committed(
    fenced: Pair,
    keeper: FenceKeeperServiceStub,
    circle: People,
    other: People,
    ending: str,
    step: str,
    start: str,
) -> None:
    bob, alice, post = _bob_and_alice(fenced, keeper, circle, start)
    reader = other if start == "shared" else circle
    shown = list[list[int]]()
    has_read = Event()

    def read() -> None:
        try:
            if step in _COMMITTED:
                _posted(circle, ending, alice)
            shown.extend(reader.feed(bob) for _ in range(2))
        finally:
            has_read.set()

    _pause(fenced, step, read)
    _end(circle, ending, alice, bob)
    # Fences are closed after the change is answered.
    assert has_read.wait(_WITHIN_SECONDS), "the change did not come to this step"

    assert shown == [[] if step in _COMMITTED else [post]] * 2
    _posted(circle, ending, alice)
    assert [reader.feed(bob) for _ in range(2)] == [[], []]


def _pause(pair: Pair, step: str, action: Callable[[], None]) -> None:
    """Run an action while the next change is at a step."""
    tap_name, when, what = _CHANGE_STEPS[step]
    tap: WireTap = getattr(pair, tap_name)

    def on_statement(statement: str) -> None:
        if what in statement:
            setattr(tap, when, _pass)
            action()

    hook: Hook = on_statement
    setattr(tap, when, hook)
