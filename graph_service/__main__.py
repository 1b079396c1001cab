"""The composition root of graph_service: settings, database, servicer, server."""

import sys

from prometheus_client import CollectorRegistry

from graph_service.access import ACCESS
from graph_service.connections import Connections
from graph_service.erasure import Erasure
from graph_service.exports import Exports
from graph_service.imports import Imports
from graph_service.lookups import Lookups
from graph_service.metrics import GAUGES, GraphMetrics, register_totals
from graph_service.servicer import GraphServicer
from graph_service.settings import GraphSettings
from graph_service.upkeep import Upkeep
from graph_service.watches import Watches
from kith.graph.v1 import graph_pb2_grpc
from shared.api.paging import PageTokens
from shared.database import schema
from shared.database.database import BACKGROUND, Database
from shared.database.endpoint import Endpoint
from shared.database.reader import Reader
from shared.database.replicas import Reads, Replicas
from shared.database.totals import read_totals
from shared.metrics import RedisMetrics, ReplicaMetrics, database_latency
from shared.optional_redis import OptionalRedis
from shared.periodic import Rounds
from shared.server.positions import exchange_positions
from shared.server.program import Program
from shared.server.rate_limits import RateLimits
from shared.server.server import Service

NAME = "kith.graph.v1.GraphService"
_UPKEEP_SECONDS = 30


def build(settings: GraphSettings, database_url: str) -> Service:
    """Put the service together; nothing listens yet."""
    registry = CollectorRegistry()
    endpoint = Endpoint.of(settings.database, database_url, database_latency(registry))
    database, reader = Database(endpoint), Reader(endpoint)
    background = Reader(endpoint, name=BACKGROUND)
    replicas = (
        Replicas(endpoint, ReplicaMetrics(registry)) if settings.database.replica_urls else None
    )
    tokens = PageTokens(keys=settings.page_token_keys)
    redis = OptionalRedis(settings.redis, RedisMetrics(registry)) if settings.redis else None
    watches = Watches(background, tokens, settings.watches)
    servicer = GraphServicer(
        lookups=Lookups(Reads(database, reader, replicas), reader, tokens),
        connections=Connections(database, settings.limits, GraphMetrics(registry)),
        imports=Imports(database, max_connections=settings.limits.max_connections),
        exports=Exports(database, tokens),
        watches=watches,
        erasure=Erasure(database),
        max_message_bytes=settings.server.max_message_bytes,
    )
    # One, so that it never takes a connection from the calls.
    cleaning = Database(endpoint.limited(connections=1), name=BACKGROUND)
    cleanup = Upkeep(
        cleaning, request_pause=settings.limits.request_pause, events_kept=settings.events_kept
    )
    upkeep = Rounds("upkeep", cleanup.run, interval_seconds=_UPKEEP_SECONDS)
    register_totals(registry, lambda: database.read(read_totals))

    upkeep.start()

    def close() -> None:
        upkeep.stop()
        if replicas is not None:
            replicas.close()
        cleaning.close()
        background.close()
        reader.close()
        database.close()
        endpoint.guard.close()
        if redis is not None:
            redis.close()

    return Service(
        name=NAME,
        add_to=lambda server: graph_pb2_grpc.add_GraphServiceServicer_to_server(servicer, server),
        access=ACCESS,
        rate_limits=RateLimits(settings.rate_limits, service="graph", redis=redis)
        if settings.rate_limits
        else None,
        positions=exchange_positions("graph") if replicas else None,
        registry=registry,
        connections={"calls": database.usage},
        checks={"database": lambda: schema.check(reader, "graph")},
        stream_threads={"WatchConnections": settings.watches.max_watchers},
        drain=watches.drain,
        close=close,
    )


PROGRAM = Program(service="graph", read_settings=GraphSettings.read, build=build, totals=GAUGES)


if __name__ == "__main__":
    sys.exit(PROGRAM.run())
