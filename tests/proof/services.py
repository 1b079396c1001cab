"""Both services for the proof: nothing stands between their parts, as it does in a test's pair."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import grpc

from feed_service.__main__ import build as build_feed
from feed_service.settings import FeedSettings
from graph_service.__main__ import build as build_graph
from graph_service.settings import GraphSettings
from kith.client.channel_options import client_options
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from kith.graph.v1.graph_pb2_grpc import GraphServiceStub
from shared.server.server import RunningServer
from tests.support.pair import ENVIRONMENT
from tests.support.ports import free_port
from tests.support.roles import serving


@dataclass(frozen=True, kw_only=True)
class Services:
    """Clients of both services."""

    graph: GraphServiceStub
    feed: FeedServiceStub


@contextmanager
def running_services(urls: Mapping[str, str], *, fenced: bool) -> Iterator[Services]:
    """Start both services in this process, on databases by the URLs of a superuser.

    With fences the graph makes no change before the feed has registered; its client tries again.
    """
    variables = {
        **ENVIRONMENT,
        **{f"{name.upper()}_DATABASE_URL": serving(name, url) for name, url in urls.items()},
    }
    if fenced:
        port = free_port()
        variables |= {"FENCES_PORT": str(port), "FENCE_KEEPERS": f"127.0.0.1:{port}"}
    with ExitStack() as stack:
        graph_settings = GraphSettings.read(variables)
        graph = RunningServer(
            graph_settings.server, build_graph(graph_settings, graph_settings.database.url)
        )
        stack.callback(graph.stop)
        feed_settings = FeedSettings.read({**variables, "GRAPH_TARGET": graph.address})
        feed = RunningServer(
            feed_settings.server, build_feed(feed_settings, feed_settings.database.url)
        )
        stack.callback(feed.stop)
        channels = [
            stack.enter_context(grpc.insecure_channel(server.address, client_options(name)))
            for name, server in (("graph", graph), ("feed", feed))
        ]
        yield Services(graph=GraphServiceStub(channels[0]), feed=FeedServiceStub(channels[1]))
