"""PostgreSQL may answer commits before they are in its log. Those that fences rest on always are.

The servers here write their log when they have to and else every ten seconds. A crash of one of
their sessions has the server begin anew with what is written, and its history stays the same.
"""

import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy

from kith.graph.v1.fence_keeper_pb2 import IdentifyRequest, ListOpenFencesRequest, OpenFencesRequest
from kith.graph.v1.fence_keeper_pb2_grpc import FenceKeeperServiceStub
from tests.support.errors import succeeds
from tests.support.pair import Databases, Pair, running_fenced_pair
from tests.support.people import People
from tests.support.processes import Session, until
from tests.support.replication import ReplicatedCluster, replicated_cluster

_LATE = {"synchronous_commit": "off", "wal_writer_delay": "10s", "wal_writer_flush_after": "64MB"}

pytestmark = pytest.mark.usefixtures("single_node")


@pytest.fixture(scope="module")
def late() -> Iterator[ReplicatedCluster]:
    """A server whose commits do not wait for its log."""
    with replicated_cluster(standbys=0, options=_LATE) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def databases(late: ReplicatedCluster) -> Databases:
    return Databases(late)


@pytest.fixture(scope="module")
def both(databases: Databases) -> Iterator[tuple[Pair, FenceKeeperServiceStub]]:
    with running_fenced_pair(databases) as running:
        yield running


@pytest.fixture
def unclosed(databases: Databases) -> Iterator[FenceKeeperServiceStub]:
    """A keeper that no graph has registered, so that none closes its fences."""
    with running_fenced_pair(databases, {"FENCE_KEEPERS": ""}) as (_, keeper):
        yield keeper


@pytest.fixture
def fenced(both: tuple[Pair, FenceKeeperServiceStub]) -> Pair:
    return both[0]


@pytest.fixture
def keeper(both: tuple[Pair, FenceKeeperServiceStub]) -> FenceKeeperServiceStub:
    return both[1]


def _history_registered(pair: Pair) -> object:
    with Session(pair.graph_url) as session:
        [(history,)] = session.rows("SELECT keeper_history FROM fence_keepers")
    return history


def _history(keeper: FenceKeeperServiceStub) -> object:
    return keeper.Identify(IdentifyRequest()).keeper.history


def test_a_keeper_that_is_registered_stays_registered(
    late: ReplicatedCluster, fenced: Pair, keeper: FenceKeeperServiceStub
) -> None:
    engine = sqlalchemy.create_engine(
        fenced.feed_url, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        # Fences in another file are of another history, for which the keeper is registered again.
        connection.execute(sqlalchemy.text("VACUUM FULL fences"))
    history = _history(keeper)
    until(lambda: _history_registered(fenced) == history)

    late.primary.crash()

    assert _history_registered(fenced) == history


def test_fences_that_a_keeper_has_answered_stay_open(
    late: ReplicatedCluster, unclosed: FenceKeeperServiceStub
) -> None:
    opening = OpenFencesRequest(
        change_id=str(uuid.uuid4()), user_ids=[1], transaction="1", graph_history="none"
    )
    unclosed.OpenFences(opening)

    late.primary.crash()

    until(lambda: succeeds(lambda: unclosed.Identify(IdentifyRequest())))
    listed = unclosed.ListOpenFences(ListOpenFencesRequest()).open_fences
    assert opening.change_id in [fence.change_id for fence in listed]


def test_a_change_that_was_answered_stays_made(late: ReplicatedCluster, fenced: Pair) -> None:
    people = People(fenced)
    bob, alice = people.connected(2)
    post = people.post(alice)
    until(lambda: people.feed(bob) == [post])
    people.remove(alice, bob)

    late.primary.crash()

    until(lambda: succeeds(lambda: people.feed(bob)))
    assert [people.feed(bob) for _ in range(2)] == [[], []]
