"""Both services, started in this process on real ports with databases of their own.

They have the rights of deploy/postgres/roles.sql and no more; a pair's URLs are a superuser's.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Protocol

import grpc
import sqlalchemy

from feed_service.__main__ import build as build_feed
from feed_service.layouts import DISTRIBUTED, SINGLE
from feed_service.settings import FeedSettings
from graph_service.__main__ import build as build_graph
from graph_service.settings import GraphSettings
from kith.client.channel_options import client_options
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from kith.graph.v1.fence_keeper_pb2_grpc import FenceKeeperServiceStub
from kith.graph.v1.graph_pb2 import GetConnectedUserIdsRequest
from kith.graph.v1.graph_pb2_grpc import GraphServiceStub
from shared.database import schema
from shared.server.server import RunningServer
from tests.support import citus
from tests.support.citus import Citus
from tests.support.gate import Gate
from tests.support.ports import free_port
from tests.support.processes import until
from tests.support.roles import make_roles, owner, serving
from tests.support.wire import WireTap

_TEMPLATES = {"graph": "template_graph", "feed": "template_feed"}
ENVIRONMENT = {
    "PAGE_TOKEN_KEYS": "a key for tests that is long enough to be taken",
    "GRAPH_PORT": "0",
    "GRAPH_METRICS_PORT": "0",
    "FEED_PORT": "0",
    "FEED_METRICS_PORT": "0",
    # A busy machine is not to pass for a graph that hangs.
    "GRAPH_TIMEOUT_SECONDS": "20",
    # The same few users make many calls.
    "RATE_LIMITS": "off",
    "DRAIN_SECONDS": "0",
    "GRACE_SECONDS": "5",
    # A stop does not wait for clients that stay connected.
    "MAX_CONNECTION_AGE_SECONDS": "0",
    "FEED_LAYOUT": "distributed" if citus.URL else "single",
}
LAYOUT = DISTRIBUTED if citus.URL else SINGLE
# What is for a Citus is SQL for one PostgreSQL too.
FORMS = (DISTRIBUTED,) if citus.URL else (SINGLE, SINGLE, SINGLE, DISTRIBUTED)
_OPTIONS = [("grpc.max_receive_message_length", 64 * 1024 * 1024)]


class Cluster(Protocol):
    """A PostgreSQL."""

    def url(self, database: str) -> str:
        """Return the URL of a database, which is created if there is none of this name."""


class Replica(Protocol):
    """A PostgreSQL that has what another has."""

    def at(self, url: str) -> str:
        """Return the URL of what the other has under a URL."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The running services, clients for both, and the proxies between their parts.

    `replica_taps` are in front of replicas, first those of the graph's database, then the feed's.
    """

    graph: GraphServiceStub
    feed: FeedServiceStub
    graph_server: RunningServer
    feed_server: RunningServer
    graph_channel: grpc.Channel
    feed_channel: grpc.Channel
    graph_url: str
    feed_url: str
    graph_tap: WireTap
    feed_tap: WireTap
    replica_taps: Sequence[WireTap]
    gate: Gate


class Databases:
    """Makes databases with the newest schema, each a copy of a template migrated once.

    Those of the feed are on a Citus, if there is one.
    """

    def __init__(self, cluster: Cluster, citus: Citus | None = None) -> None:
        self._cluster = cluster
        self._citus = citus
        self._numbers = count(1)
        # One session for hundreds of databases; some tests break those of their own servers.
        self._admin = sqlalchemy.create_engine(
            cluster.url("postgres"), isolation_level="AUTOCOMMIT", pool_pre_ping=True
        )
        for service, template in _TEMPLATES.items():
            url = cluster.url(template)
            make_roles(service, url)
            schema.upgrade(service, owner(service, url))

    def new(self, service: str) -> str:
        """Return the URL of a new empty database of `graph` or `feed`."""
        if service == "feed" and self._citus is not None:
            return self._citus.new()
        return self.new_single(service)

    def new_single(self, service: str) -> str:
        """Return the URL of one that is on one PostgreSQL in any case."""
        return self._copy(_TEMPLATES[service], f"test_{service}_{next(self._numbers)}")

    def copy(self, url: str) -> str:
        """Return the URL of a copy of a database without connections."""
        name = sqlalchemy.make_url(url).database
        return self._copy(str(name), f"{name}_copy_{next(self._numbers)}")

    def _copy(self, template: str, name: str) -> str:
        # Copies of files take half the time of copies through the log of the server.
        create = f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY"
        with self._admin.connect() as connection:
            connection.execute(sqlalchemy.text(create))
        # Not from the cluster, which would look in a session of its own whether there is one.
        return self._admin.url.set(database=name).render_as_string(hide_password=False)


@contextmanager
def running_pair(
    databases: Databases,
    environment: Mapping[str, str] | None = None,
    *,
    replicas: Sequence[Replica] = (),
) -> Iterator[Pair]:
    """Start both services on new databases; `environment` is added to the settings."""
    urls = {service: databases.new(service) for service in _TEMPLATES}
    with running_pair_on(urls, environment, replicas=replicas) as pair:
        yield pair


@contextmanager
def running_fenced_pair(
    databases: Databases,
    environment: Mapping[str, str] | None = None,
    *,
    replicas: Sequence[Replica] = (),
) -> Iterator[tuple[Pair, FenceKeeperServiceStub]]:
    """Start both services with fences; yields also a client of the keeper, the feed.

    The pair's client of the graph repeats calls, as it should: on a busy machine a keeper may not
    answer in time.
    """
    keeper = f"127.0.0.1:{free_port()}"
    fenced = {
        "FENCES_PORT": keeper.rpartition(":")[2],
        "FENCE_KEEPERS": keeper,
        **(environment or {}),
    }
    with (
        running_pair(databases, fenced, replicas=replicas) as pair,
        grpc.insecure_channel(keeper) as channel,
        grpc.insecure_channel(pair.graph_server.address, client_options("graph")) as graph,
    ):
        if fenced["FENCE_KEEPERS"]:
            until(lambda: _is_fenced(pair))
        yield replace(pair, graph=GraphServiceStub(graph)), FenceKeeperServiceStub(channel)


def _is_fenced(pair: Pair) -> bool:
    """Whether the graph has registered the keeper; until then it makes no change."""
    query = GetConnectedUserIdsRequest.UserQuery(user_id=1)
    return bool(
        pair.graph.GetConnectedUserIds(GetConnectedUserIdsRequest(users=[query])).fence_keepers
    )


@contextmanager
def running_pair_on(
    urls: Mapping[str, str],
    environment: Mapping[str, str] | None = None,
    *,
    replicas: Sequence[Replica] = (),
) -> Iterator[Pair]:
    """Start both services on databases that are there, by the URLs of a superuser."""
    variables = {**ENVIRONMENT, **(environment or {})}
    graph_url, feed_url = urls["graph"], urls["feed"]
    with ExitStack() as stack:
        taps = []
        for service, url in (("graph", graph_url), ("feed", feed_url)):
            copies = [url, *(replica.at(url) for replica in replicas)]
            tappeds = [stack.enter_context(tapped(serving(service, each))) for each in copies]
            taps.append([tap for tap, _ in tappeds])
            through = [url for _, url in tappeds]
            variables[f"{service.upper()}_DATABASE_URL"] = anywhere(through)
            variables[f"{service.upper()}_REPLICA_URLS"] = ",".join(through[1:])
        (graph_tap, *graph_taps), (feed_tap, *feed_taps) = taps
        graph_settings = GraphSettings.read(variables)
        graph_server = RunningServer(
            graph_settings.server, build_graph(graph_settings, graph_settings.database.url)
        )
        stack.callback(graph_server.stop)
        gate = stack.enter_context(Gate(graph_server.address))
        variables["GRAPH_TARGET"] = gate.address
        feed_settings = FeedSettings.read(variables)
        feed_server = RunningServer(
            feed_settings.server, build_feed(feed_settings, feed_settings.database.url)
        )
        stack.callback(feed_server.stop)
        graph_channel = stack.enter_context(
            grpc.insecure_channel(graph_server.address, options=_OPTIONS)
        )
        feed_channel = stack.enter_context(
            grpc.insecure_channel(feed_server.address, options=_OPTIONS)
        )
        yield Pair(
            graph=GraphServiceStub(graph_channel),
            feed=FeedServiceStub(feed_channel),
            graph_server=graph_server,
            feed_server=feed_server,
            graph_channel=graph_channel,
            feed_channel=feed_channel,
            graph_url=graph_url,
            feed_url=feed_url,
            graph_tap=graph_tap,
            feed_tap=feed_tap,
            replica_taps=[*graph_taps, *feed_taps],
            gate=gate,
        )


@contextmanager
def another_feed(
    pair: Pair, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[RunningServer, FeedServiceStub]]:
    """Start feed_service once more, on the database and with the graph of a pair."""
    settings = FeedSettings.read(
        {
            **ENVIRONMENT,
            "GRAPH_TARGET": pair.gate.address,
            **(environment or {}),
            "FEED_DATABASE_URL": _through(pair.feed_tap, serving("feed", pair.feed_url)),
        }
    )
    server = RunningServer(settings.server, build_feed(settings, settings.database.url))
    try:
        with grpc.insecure_channel(server.address, options=_OPTIONS) as channel:
            yield server, FeedServiceStub(channel)
    finally:
        server.stop()


@contextmanager
def another_graph(pair: Pair, *, keepers: str = "") -> Iterator[Pair]:
    """Start graph_service once more, on the database of a pair; yields the pair with it instead.

    `keepers` is its setting FENCE_KEEPERS: it ends the registrations of all others. Its client
    repeats calls, and makes none while it is not ready; its channel does neither.
    """
    settings = GraphSettings.read(
        {
            **ENVIRONMENT,
            "GRAPH_DATABASE_URL": serving("graph", pair.graph_url),
            "FENCE_KEEPERS": keepers,
        }
    )
    server = RunningServer(settings.server, build_graph(settings, settings.database.url))
    try:
        with (
            grpc.insecure_channel(server.address, options=_OPTIONS) as channel,
            grpc.insecure_channel(server.address, client_options("graph")) as client,
        ):
            yield replace(
                pair, graph=GraphServiceStub(client), graph_server=server, graph_channel=channel
            )
    finally:
        server.stop()


@contextmanager
def tapped(url: str) -> Iterator[tuple[WireTap, str]]:
    """Start a tap in front of a database; yields it and the URL that leads through it."""
    parsed = sqlalchemy.make_url(url)
    with WireTap(parsed.host or "127.0.0.1", parsed.port or 5432) as tap:
        yield tap, _through(tap, url)


def anywhere(urls: Sequence[str]) -> str:
    """Return the URL by which whichever is the primary of some servers is found."""
    if len(urls) == 1:
        return urls[0]
    servers = [sqlalchemy.make_url(url) for url in urls]
    hosts = tuple(f"{server.host}:{server.port}" for server in servers)
    somewhere = servers[0]._replace(host=None, port=None)
    return somewhere.update_query_dict({"host": hosts}).render_as_string(hide_password=False)


def _through(tap: WireTap, url: str) -> str:
    through = sqlalchemy.make_url(url).set(host="127.0.0.1", port=tap.port)
    return through.update_query_dict({"sslmode": "disable"}).render_as_string(hide_password=False)
