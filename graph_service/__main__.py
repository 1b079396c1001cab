"""The composition root of graph_service: settings, database, servicer, server."""

import logging
import os
import sys
from contextlib import ExitStack
from dataclasses import replace

from prometheus_client import CollectorRegistry

import migrations
from graph_service.access import ACCESS
from graph_service.connections import Connections
from graph_service.lookups import Lookups
from graph_service.metrics import GraphMetrics, register_totals
from graph_service.servicer import GraphServicer
from graph_service.settings import GraphSettings
from graph_service.transfers import Transfers
from graph_service.watches import CONNECTIONS, Watches
from shared import logs
from shared.database import BACKGROUND, Database
from shared.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from shared.gen.kith.graph.v1 import graph_pb2_grpc
from shared.metrics import database_latency
from shared.paging import PageTokens
from shared.reader import Reader
from shared.server import Service, run_until_stopped
from shared.settings import SettingsError
from shared.totals import read_totals

NAME = "kith.graph.v1.GraphService"


def build(settings: GraphSettings, database_url: str) -> Service:
    """Put the service together; nothing listens yet."""
    registry = CollectorRegistry()
    latency = database_latency(registry)
    database = Database(settings.database, database_url, latency=latency)
    reader = Reader(settings.database, database_url, latency=latency)
    background = Database(
        replace(settings.database, pool_size=CONNECTIONS, max_overflow=0),
        database_url,
        latency=latency,
        name=BACKGROUND,
    )
    tokens = PageTokens(keys=settings.page_token_keys)
    watches = Watches(
        background,
        tokens,
        max_watchers=settings.max_watchers,
        heartbeat=settings.watch_heartbeat,
        send_limit=settings.watch_send,
    )
    servicer = GraphServicer(
        lookups=Lookups(database, reader, tokens),
        connections=Connections(
            database, max_connections=settings.max_connections, metrics=GraphMetrics(registry)
        ),
        transfers=Transfers(database, tokens, max_connections=settings.max_connections),
        watches=watches,
        max_message_bytes=settings.server.max_message_bytes,
    )
    register_totals(registry, lambda: database.read(read_totals))

    def close() -> None:
        background.close()
        reader.close()
        database.close()

    return Service(
        name=NAME,
        add_to=lambda server: graph_pb2_grpc.add_GraphServiceServicer_to_server(servicer, server),
        access=ACCESS,
        registry=registry,
        checks={"database": lambda: migrations.check(database, "graph")},
        stream_threads={"WatchConnections": settings.max_watchers},
        drain=watches.drain,
        close=close,
    )


def main() -> int:
    """Run the service until it is told to stop; returns the exit status."""
    try:
        settings = GraphSettings.read(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    logs.configure(service="graph_service", level=settings.server.log_level)
    try:
        with ExitStack() as stack:
            url = settings.database.url
            if not url:
                cluster = stack.enter_context(EmbeddedPostgres(settings.database.data_dir))
                url = cluster.url("kith_graph")
                migrations.upgrade("graph", url)
            run_until_stopped(settings.server, build(settings, url))
    except EmbeddedPostgresError as error:
        logging.getLogger("kith.server").critical("no database", extra={"reason": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
