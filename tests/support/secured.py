"""Both services with authentication, started in this process, without anything in between."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import grpc

from feed_service.__main__ import build as build_feed
from feed_service.settings import FeedSettings
from graph_service.__main__ import build as build_graph
from graph_service.settings import GraphSettings
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from kith.graph.v1.graph_pb2_grpc import GraphServiceStub
from shared.server.server import RunningServer
from tests.support.pair import ENVIRONMENT, Databases
from tests.support.processes import Session, until
from tests.support.roles import serving


@dataclass(frozen=True, kw_only=True)
class Clients:
    """Clients of both services on channels of their own."""

    graph: GraphServiceStub
    feed: FeedServiceStub
    graph_channel: grpc.Channel
    feed_channel: grpc.Channel


@dataclass(frozen=True, kw_only=True)
class SecuredPair:
    """The running services, and their databases by the URLs of a superuser."""

    graph_server: RunningServer
    feed_server: RunningServer
    graph_url: str
    feed_url: str

    @contextmanager
    def clients(self, credentials: grpc.ChannelCredentials | None = None) -> Iterator[Clients]:
        """Open channels of one's own to both services."""
        with ExitStack() as stack:
            graph, feed = (
                stack.enter_context(_channel(server.address, credentials))
                for server in (self.graph_server, self.feed_server)
            )
            yield Clients(
                graph=GraphServiceStub(graph),
                feed=FeedServiceStub(feed),
                graph_channel=graph,
                feed_channel=feed,
            )


@contextmanager
def secured_pair(
    databases: Databases, *, graph: Mapping[str, str], feed: Mapping[str, str]
) -> Iterator[SecuredPair]:
    """Start both services on new databases, each with settings of its own.

    If the graph is to tell a keeper of fences of its changes, that is so when they are yielded.
    """
    graph_url, feed_url = databases.new("graph"), databases.new("feed")
    with ExitStack() as stack:
        graph_settings = GraphSettings.read(
            {**ENVIRONMENT, **graph, "GRAPH_DATABASE_URL": serving("graph", graph_url)}
        )
        graph_server = RunningServer(
            graph_settings.server, build_graph(graph_settings, graph_settings.database.url)
        )
        stack.callback(graph_server.stop)
        feed_settings = FeedSettings.read(
            {
                **ENVIRONMENT,
                **feed,
                "FEED_DATABASE_URL": serving("feed", feed_url),
                "GRAPH_TARGET": graph_server.address,
            }
        )
        feed_server = RunningServer(
            feed_settings.server, build_feed(feed_settings, feed_settings.database.url)
        )
        stack.callback(feed_server.stop)
        if graph_settings.fence_keepers:
            until(lambda: _has_keeper(graph_url))
        yield SecuredPair(
            graph_server=graph_server,
            feed_server=feed_server,
            graph_url=graph_url,
            feed_url=feed_url,
        )


def _has_keeper(graph_url: str) -> bool:
    with Session(graph_url) as session:
        return bool(session.rows("SELECT target FROM fence_keepers"))


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Return what a call sends to show a token."""
    return (("authorization", f"Bearer {token}"),)


def _channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    # One channel, one connection: gRPC would share it with others that have the same options.
    options = [("grpc.use_local_subchannel_pool", 1)]
    if credentials is None:
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(address, credentials, options)
