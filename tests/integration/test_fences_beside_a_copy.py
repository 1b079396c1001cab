"""A copy of the graph runs beside the original, and both tell the same keeper of their changes.

It is a drill of a backup, a clone for staging, or an old primary that nobody has shut down. Either
has the other's fences closed, and neither shows anything untrue by that. Nobody can tell it from a
backup that is restored in place of the original, which needs no help.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import grpc
import pytest

from kith.client.channel_options import client_options
from kith.graph.v1.graph_pb2 import GetConnectedUserIdsRequest
from kith.graph.v1.graph_pb2_grpc import GraphServiceStub
from tests.support.errors import succeeds
from tests.support.pair import Databases, Pair, another_feed, another_graph, running_pair_on
from tests.support.pauses import removing
from tests.support.people import People
from tests.support.ports import free_port
from tests.support.processes import Session, until
from tests.support.upkeep import closing_fences


@dataclass(frozen=True, kw_only=True)
class Original:
    """A pair with fences, its keeper, and the URL of a copy of the graph's database."""

    pair: Pair
    keeper: str
    copy_url: str

    @property
    def copied(self) -> Pair:
        """The pair, but with the copy of the graph's database."""
        return replace(self.pair, graph_url=self.copy_url)


@pytest.fixture(scope="module")
def original(databases: Databases) -> Iterator[Original]:
    urls = {service: databases.new(service) for service in ("graph", "feed")}
    keeper = f"127.0.0.1:{free_port()}"
    fenced = {"FENCE_KEEPERS": keeper, "FENCES_PORT": keeper.rpartition(":")[2]}
    with running_pair_on(urls, fenced) as pair:
        until(lambda: _is_named(pair.graph))
    copy_url = databases.copy(urls["graph"])
    with (
        running_pair_on(urls, fenced) as pair,
        # It repeats calls, for a graph that has lost its keeper refuses changes for a moment.
        grpc.insecure_channel(pair.graph_server.address, client_options("graph")) as channel,
    ):
        patient = replace(pair, graph=GraphServiceStub(channel))
        yield Original(pair=patient, keeper=keeper, copy_url=copy_url)


@pytest.fixture
def pair(original: Original) -> Pair:
    """The pair that is told to be fenced, whatever copies did before."""
    until(lambda: not _asks(original.pair))
    return original.pair


def _is_named(graph: GraphServiceStub) -> bool:
    query = GetConnectedUserIdsRequest.UserQuery(user_id=1)
    request = GetConnectedUserIdsRequest(users=[query])
    return bool(graph.GetConnectedUserIds(request).fence_keepers)


def _asks(pair: Pair) -> bool:
    """Whether a read of connections that have been read before asks the graph."""
    people, asked = People(pair), list[str]()
    [bob] = people.new(1)
    people.feed(bob)
    pair.gate.before_call = asked.append
    people.feed(bob)
    pair.gate.before_call = lambda _method: None
    return "GetConnectedUserIds" in asked


def _change_and_read(people: People) -> None:
    """Have two people connect and part; one of them reads after each step, also from a cache."""
    bob, alice = people.new(2)
    until(lambda: succeeds(lambda: people.connect(alice, bob)))
    post = people.post(alice)
    assert [people.feed(bob) for _ in range(3)] == [[post]] * 3
    until(lambda: succeeds(lambda: people.remove(alice, bob)))
    assert [people.feed(bob) for _ in range(3)] == [[]] * 3


def test_a_fence_that_a_copy_closes_before_its_change_is_committed_is_missed_by_no_read(
    original: Original, pair: Pair
) -> None:
    people = People(pair)
    bob, alice = people.connected(2)
    post = people.post(alice)

    with removing(pair, alice, bob), closing_fences(original.copied, original.keeper) as upkeep:
        for _ in range(2):
            upkeep.run()
        assert [people.feed(bob) for _ in range(2)] == [[post]] * 2

    assert [people.feed(bob) for _ in range(2)] == [[]] * 2


def test_reads_are_right_by_either_while_both_change_connections(
    original: Original, pair: Pair
) -> None:
    with (
        another_graph(original.copied, keepers=original.keeper) as copy,
        another_feed(
            pair, {"GRAPH_TARGET": copy.graph_server.address, "FENCES_PORT": str(free_port())}
        ) as (_, feed),
    ):
        both = [People(pair), People(replace(copy, feed=feed))]
        until(lambda: _is_named(copy.graph))
        for _ in range(3):
            for people in both:
                _change_and_read(people)


def test_reads_need_no_call_again_after_a_copy_has_stopped(original: Original, pair: Pair) -> None:
    with another_graph(original.copied, keepers=original.keeper) as copy:
        until(lambda: _is_named(copy.graph))
        until(lambda: succeeds(lambda: People(copy).connected(2)))

    until(lambda: not _asks(pair))
    _change_and_read(People(pair))
    with Session(pair.feed_url) as session:
        until(lambda: not session.rows("SELECT FROM open_fences"))


def test_a_copy_that_is_to_tell_no_keeper_ends_the_registration_of_its_own_alone(
    original: Original, pair: Pair
) -> None:
    with another_graph(original.copied) as copy, Session(original.copy_url) as session:
        until(lambda: not session.rows("SELECT FROM fence_keepers"))
        People(copy).connected(2)
        until(lambda: not _asks(pair))
        _change_and_read(People(pair))
    with Session(pair.graph_url) as session:
        assert session.rows("SELECT target FROM fence_keepers") == [(original.keeper,)]


def test_a_copy_in_place_of_the_original_has_the_keeper_to_itself(databases: Databases) -> None:
    urls = {service: databases.new(service) for service in ("graph", "feed")}
    keeper = f"127.0.0.1:{free_port()}"
    fenced = {"FENCE_KEEPERS": keeper, "FENCES_PORT": keeper.rpartition(":")[2]}
    with running_pair_on(urls, fenced) as pair:
        until(lambda: not _asks(pair))
        bob, alice = People(pair).connected(2)
        post = People(pair).post(alice)
    restored = databases.copy(urls["graph"])

    with running_pair_on({**urls, "graph": restored}, fenced) as pair:
        until(lambda: not _asks(pair))
        assert People(pair).feed(bob) == [post]
        _change_and_read(People(pair))
