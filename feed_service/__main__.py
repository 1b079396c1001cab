"""The composition root of feed_service: settings, database, graph client, servicer, server."""

import sys

from prometheus_client import CollectorRegistry

from feed_service import layouts, queries
from feed_service.access import ACCESS
from feed_service.audiences import Audiences
from feed_service.comments import Comments
from feed_service.connections_cache import ConnectionsCache, SharedConnections
from feed_service.digest import Digests
from feed_service.erasure import Erasure
from feed_service.feed import Feed
from feed_service.follower import Follower
from feed_service.graph_client import GraphClient
from feed_service.metrics import GAUGES, FeedMetrics, register_totals
from feed_service.object_store import ObjectStore
from feed_service.photos import Photos
from feed_service.posts import Posts
from feed_service.read_positions import ReadPositions
from feed_service.resources import Resources
from feed_service.servicer import FeedServicer
from feed_service.settings import FeedSettings
from feed_service.tags import Tags
from feed_service.transfers import Transfers
from feed_service.upkeep import Upkeep
from kith.feed.v1 import feed_pb2_grpc
from shared.api.paging import PageTokens
from shared.database import schema
from shared.database.database import BACKGROUND, Database
from shared.database.endpoint import Endpoint
from shared.database.reader import Reader
from shared.database.replicas import Reads, Replicas
from shared.database.totals import read_totals
from shared.metrics import ClientMetrics, RedisMetrics, ReplicaMetrics, database_latency
from shared.optional_redis import OptionalRedis
from shared.periodic import Rounds
from shared.server.positions import exchange_positions
from shared.server.program import Program
from shared.server.rate_limits import RateLimits
from shared.server.server import Service

NAME = "kith.feed.v1.FeedService"
_UPKEEP_SECONDS = 30


def build(settings: FeedSettings, database_url: str) -> Service:
    """Put the service together; nothing listens yet."""
    registry = CollectorRegistry()
    metrics = FeedMetrics(registry)
    endpoint = Endpoint.of(settings.database, database_url, database_latency(registry))
    database, reader = Database(endpoint), Reader(endpoint)
    # So few that the work beside the calls never takes a connection from them.
    background = Database(endpoint.limited(connections=3), name=BACKGROUND)
    replicas = (
        Replicas(endpoint, ReplicaMetrics(registry)) if settings.database.replica_urls else None
    )
    layout = layouts.LAYOUTS[settings.layout]
    redis = OptionalRedis(settings.redis, RedisMetrics(registry)) if settings.redis else None
    graph = GraphClient(
        settings.graph_target,
        access=settings.graph_access,
        timeout=settings.graph_timeout,
        cache=ConnectionsCache(
            settings.connections_cache_bytes,
            shared=SharedConnections(redis, keys=settings.page_token_keys) if redis else None,
            metrics=metrics,
        ),
        metrics=metrics,
        client_metrics=ClientMetrics(registry),
        erased_up_to=lambda user_ids: database.read(
            lambda connection: queries.erasure.erased_up_to(connection, user_ids=user_ids)
        ),
    )
    store = ObjectStore(settings.object_store, metrics=metrics) if settings.object_store else None
    upkeep = Rounds(
        "upkeep",
        Upkeep(background, store, purge_after=settings.purge_after).run,
        interval_seconds=_UPKEEP_SECONDS,
    )
    photos = Photos(database, store, remove_soon=upkeep.soon)
    follower = Follower(
        background,
        graph,
        Erasure(background, graph, layout=layout, remove_soon=photos.remove_soon),
        metrics,
    )
    resources = Resources(
        database=database,
        reader=reader,
        reads=Reads(database, reader, replicas),
        graph=graph,
        layout=layout,
        tokens=PageTokens(keys=settings.page_token_keys),
        metrics=metrics,
    )
    servicer = FeedServicer(
        feed=Feed(resources, hub_scan=settings.hub_scan),
        digests=Digests(resources, settings.digest, hub_scan=settings.hub_scan),
        posts=Posts(resources, photos),
        photos=photos,
        tags=Tags(resources, max_tags=settings.max_tags),
        comments=Comments(resources),
        audiences=Audiences(resources),
        read_positions=ReadPositions(resources),
        transfers=Transfers(resources),
        erasure=Erasure(database, graph, layout=layout, remove_soon=photos.remove_soon),
    )
    register_totals(registry, lambda: database.read(read_totals))
    upkeep.start()
    follower.start()

    def check_database() -> None:
        schema.check(reader, "feed")
        layouts.check(reader, layout)

    def close() -> None:
        follower.stop()
        upkeep.stop()
        graph.close()
        if store is not None:
            store.close()
        if replicas is not None:
            replicas.close()
        background.close()
        reader.close()
        database.close()
        endpoint.guard.close()
        if redis is not None:
            redis.close()

    return Service(
        name=NAME,
        add_to=lambda server: feed_pb2_grpc.add_FeedServiceServicer_to_server(servicer, server),
        access=ACCESS,
        rate_limits=RateLimits(settings.rate_limits, service="feed", redis=redis)
        if settings.rate_limits
        else None,
        positions=exchange_positions("feed") if replicas else None,
        registry=registry,
        connections={"calls": database.usage},
        checks={"database": check_database, "graph": graph.ping},
        check_grace={"graph": settings.graph_ready_grace.total_seconds()},
        close=close,
    )


PROGRAM = Program(service="feed", read_settings=FeedSettings.read, build=build, totals=GAUGES)


if __name__ == "__main__":
    sys.exit(PROGRAM.run())
