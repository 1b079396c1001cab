"""The composition root of feed_service: settings, database, graph client, servicer, server."""

import sys
from contextlib import ExitStack, closing
from functools import partial

from feed_service import access, fence_keeper, layouts, queries
from feed_service.audiences import Audiences
from feed_service.checks import Checks
from feed_service.comment_imports import CommentImports
from feed_service.comments import Comments
from feed_service.connections_cache import ConnectionsCache, SharedConnections
from feed_service.digest import Digests
from feed_service.digest_subscriptions import DigestSubscriptions
from feed_service.erasure import Erasure
from feed_service.exports import Exports
from feed_service.feed import Feed
from feed_service.fence_keeper import FenceKeeperServicer
from feed_service.fences import Fences
from feed_service.follower import Follower
from feed_service.graph_client import GraphClient
from feed_service.imports import Imports
from feed_service.metrics import GAUGES, FeedMetrics
from feed_service.moderation import Moderation
from feed_service.object_store import ObjectStore
from feed_service.photos import Photos
from feed_service.posts import Posts
from feed_service.read_positions import ReadPositions
from feed_service.resources import Resources
from feed_service.servicer import FeedServicer
from feed_service.settings import FeedSettings
from feed_service.tag_imports import TagImports
from feed_service.tags import Tags
from feed_service.upkeep import Upkeep
from feed_service.watches import ContentWatches
from kith.feed.v1 import feed_pb2_grpc
from kith.graph.v1 import fence_keeper_pb2_grpc
from shared.access.suspended import REFRESH_SECONDS, TOLD_REFRESH_SECONDS
from shared.api.watches import WatchMetrics
from shared.database import schema
from shared.database.database import BACKGROUND, FENCES, Database
from shared.database.reader import Reader
from shared.metrics import ClientMetrics
from shared.periodic import Periodic
from shared.server.parts import Parts, build_parts
from shared.server.program import Program
from shared.server.service import InternalCalls, Service

NAME = "kith.feed.v1.FeedService"
_UPKEEP_SECONDS = 30
_BACKGROUND_CONNECTIONS = 3


def build(settings: FeedSettings, database_url: str) -> Service:
    """Put the service together; nothing runs or connects before it is started."""
    with ExitStack() as resources:
        layout = layouts.LAYOUTS[settings.layout]
        parts = build_parts(
            "feed",
            settings,
            database_url,
            totals=GAUGES,
            background_connections=_BACKGROUND_CONNECTIONS,
            resources=resources,
            # A distributed statement cannot read a fence, which is on one node.
            tells_beside=bool(settings.fences_port) and settings.layout == "single",
            begin_session=layout.begin_session,
        )
        metrics = FeedMetrics(parts.registry)
        graph = resources.enter_context(closing(_graph_client(settings, parts, metrics)))
        store = None
        if settings.object_store:
            store = ObjectStore(settings.object_store, metrics=metrics)
            resources.callback(store.close)
        upkeep = Periodic(
            "upkeep",
            Upkeep(
                parts.background_database,
                store,
                purge_after=settings.purge_after,
                events_kept=settings.events_kept,
            ).run,
            interval_seconds=_UPKEEP_SECONDS,
        )
        photos = Photos(parts.database, store, remove_soon=upkeep.soon)

        def erasure(database: Database) -> Erasure:
            return Erasure(database, graph, layout=layout, remove_soon=photos.remove_soon)

        follower = Follower(
            parts.background_database, graph, erasure(parts.background_database), metrics
        )
        watches = ContentWatches(
            resources.enter_context(closing(Reader(parts.endpoint, name=BACKGROUND))),
            parts.tokens,
            settings.watches,
            WatchMetrics(parts.registry),
            layout=layout,
        )
        shared = Resources(
            database=parts.database,
            reader=parts.reader,
            reads=parts.reads,
            graph=graph,
            layout=layout,
            tokens=parts.tokens,
            metrics=metrics,
            suspended=graph.suspended_users,
        )
        servicer = FeedServicer(
            feed=Feed(shared, hub_scan=settings.hub_scan),
            digests=Digests(shared, settings.digest, hub_scan=settings.hub_scan),
            digest_subscriptions=DigestSubscriptions(shared, settings.digest),
            posts=Posts(shared, photos, purge_after=settings.purge_after),
            photos=photos,
            tags=Tags(shared, max_tags=settings.max_tags),
            comments=Comments(shared),
            audiences=Audiences(shared),
            checks=Checks(shared),
            moderation=Moderation(shared, purge_after=settings.purge_after),
            read_positions=ReadPositions(shared),
            tag_imports=TagImports(shared, max_tags=settings.max_tags),
            imports=Imports(shared, photos),
            comment_imports=CommentImports(shared),
            exports=Exports(shared),
            watches=watches,
            erasure=erasure(parts.database),
        )

        check_layout = layouts.LayoutCheck(parts.reader, layout)

        refresh = Periodic(
            "suspended users",
            graph.suspended_users.refresh,
            interval_seconds=REFRESH_SECONDS if graph.fences is None else TOLD_REFRESH_SECONDS,
            again_seconds=REFRESH_SECONDS,
        )

        def check_database() -> None:
            check_schema = partial(schema.check, parts.reader, "feed")
            if graph.fences is None:
                check_schema()
            else:
                stamp = None
                try:
                    stamp = graph.fences.beside_of_everybody(check_schema)
                finally:
                    if not graph.suspended_users.is_as_of(stamp):
                        refresh.soon()
            check_layout()

        return Service(
            name=NAME,
            add_to=lambda to: feed_pb2_grpc.add_FeedServiceServicer_to_server(servicer, to),
            access=access.ACCESS,
            internal=_fence_keeper(settings, parts, metrics, resources),
            suspended=graph.suspended_users,
            rate_limits=parts.rate_limits,
            positions=parts.positions,
            registry=parts.registry,
            connections={"calls": parts.database.usage},
            checks={"database": check_database, "graph": graph.ping},
            check_grace={"graph": settings.graph_ready_grace.total_seconds()},
            stream_threads={"WatchPosts": settings.watches.max_watchers},
            drain=watches.drain,
            background=[
                *parts.background,
                upkeep,
                follower,
                refresh,
            ],
            resources=resources.pop_all(),
        )


def _fence_keeper(
    settings: FeedSettings, parts: Parts, metrics: FeedMetrics, resources: ExitStack
) -> InternalCalls | None:
    if not settings.fences_port:
        return None
    reader = resources.enter_context(closing(Reader(parts.endpoint, name=FENCES)))
    servicer = FenceKeeperServicer(reader, metrics)
    return InternalCalls(
        name=fence_keeper.NAME,
        add_to=lambda to: fence_keeper_pb2_grpc.add_FenceKeeperServiceServicer_to_server(
            servicer, to
        ),
        access=access.FENCES,
        port=settings.fences_port,
        threads=fence_keeper.THREADS,
    )


def _graph_client(settings: FeedSettings, parts: Parts, metrics: FeedMetrics) -> GraphClient:
    keys, redis = settings.page_token_keys, parts.redis
    return GraphClient(
        settings.graph_target,
        access=settings.graph_access,
        timeout=settings.graph_timeout,
        cache=ConnectionsCache(
            settings.connections_cache_bytes,
            shared=SharedConnections(redis, keys=keys) if redis else None,
            metrics=metrics,
            has_fences=bool(settings.fences_port),
        ),
        metrics=metrics,
        client_metrics=ClientMetrics(parts.registry),
        erased_up_to=lambda user_ids: queries.erasure.erased_up_to(parts.reader, user_ids=user_ids),
        fences=Fences(parts.reader) if settings.fences_port else None,
    )


PROGRAM = Program(service="feed", read_settings=FeedSettings.read, build=build, totals=GAUGES)


if __name__ == "__main__":
    sys.exit(PROGRAM.run())
