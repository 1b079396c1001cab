"""A keeper whose database fails over to a standby trusts nothing that the standby may have lost."""

from collections.abc import Iterator
from dataclasses import replace

import grpc
import pytest

from feed_service.__main__ import build as build_feed
from feed_service.settings import FeedSettings
from kith.client.channel_options import client_options
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from kith.graph.v1.graph_pb2 import GetConnectedUserIdsRequest
from kith.graph.v1.graph_pb2_grpc import GraphServiceStub
from shared.server.server import RunningServer
from tests.support.errors import succeeds
from tests.support.pair import ENVIRONMENT, Databases, Pair, anywhere, running_pair
from tests.support.people import People
from tests.support.ports import free_port
from tests.support.processes import Session, until
from tests.support.replication import ReplicatedCluster, Server, replicated_cluster
from tests.support.roles import serving

pytestmark = pytest.mark.usefixtures("single_node")


@pytest.fixture
def replicated() -> Iterator[ReplicatedCluster]:
    """A primary that does not wait for its standby."""
    with replicated_cluster() as cluster:
        yield cluster


@pytest.fixture
def fenced(databases: Databases, replicated: ReplicatedCluster) -> Iterator[Pair]:
    """A pair with fences, whose feed is on the cluster, and whose graph is not."""
    port = str(free_port())
    feed_url = Databases(replicated).new("feed")
    url = serving("feed", feed_url)
    with running_pair(databases, {"FENCE_KEEPERS": f"127.0.0.1:{port}"}) as pair:
        settings = FeedSettings.read(
            {
                **ENVIRONMENT,
                "GRAPH_TARGET": pair.gate.address,
                "FENCES_PORT": port,
                "FEED_DATABASE_URL": anywhere([server.at(url) for server in replicated.servers]),
            }
        )
        server = RunningServer(settings.server, build_feed(settings, settings.database.url))
        try:
            with (
                grpc.insecure_channel(server.address) as feed,
                grpc.insecure_channel(pair.graph_server.address, client_options("graph")) as graph,
            ):
                fenced = replace(
                    pair,
                    feed=FeedServiceStub(feed),
                    graph=GraphServiceStub(graph),
                    feed_url=feed_url,
                )
                until(lambda: _is_registered(fenced))
                yield fenced
        finally:
            server.stop()


def _is_registered(pair: Pair) -> bool:
    query = GetConnectedUserIdsRequest.UserQuery(user_id=1)
    request = GetConnectedUserIdsRequest(users=[query])
    return bool(pair.graph.GetConnectedUserIds(request).fence_keepers)


def _asks(pair: Pair, people: People, viewer: int) -> bool:
    """Whether a read of a feed asks the graph."""
    asked = list[str]()
    pair.gate.before_call = asked.append
    people.feed(viewer)
    pair.gate.before_call = lambda _method: None
    return "GetConnectedUserIds" in asked


def _generation(server: Server, pair: Pair, user_id: int) -> object:
    """Return the last generation of a user's fence that a server knows."""
    with Session(server.at(pair.feed_url)) as session:
        [(generation,)] = session.rows(f"SELECT generation FROM fences WHERE user_id = {user_id}")
    return generation


def test_a_removal_whose_fences_a_failover_has_lost_is_seen_by_every_read(
    fenced: Pair, replicated: ReplicatedCluster
) -> None:
    people, [standby] = People(fenced), replicated.standbys
    bob, alice = people.connected(2)
    post = people.post(alice)
    until(lambda: not _asks(fenced, people, bob))
    standby.catch_up(replicated.primary)
    generation = _generation(standby, fenced, bob)
    # One that is only paused would receive the fence, and have it once it is promoted.
    standby.stop()
    people.remove(alice, bob)

    replicated.primary.kill()
    standby.start()
    standby.promote()

    assert _generation(standby, fenced, bob) == generation
    until(lambda: succeeds(lambda: people.feed(bob)))
    assert [people.feed(bob) for _ in range(2)] == [[], []]
    until(lambda: succeeds(lambda: people.connect(alice, bob)))
    assert [people.feed(bob) for _ in range(2)] == [[post], [post]]
    until(lambda: not _asks(fenced, people, bob))
