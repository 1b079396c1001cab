"""The composition root of graph_service: settings, database, servicer, server."""

import sys
from contextlib import ExitStack, closing

from graph_service.access import ACCESS
from graph_service.connections import Connections
from graph_service.erasure import Erasure
from graph_service.exports import Exports
from graph_service.fence_keepers import FenceKeepers
from graph_service.fences import FenceClosing, Fences, FenceUpkeep
from graph_service.imports import Imports
from graph_service.lookups import Lookups
from graph_service.metrics import GAUGES, FenceMetrics, GraphMetrics
from graph_service.queries import suspensions
from graph_service.servicer import GraphServicer
from graph_service.settings import GraphSettings
from graph_service.suspensions import Suspensions
from graph_service.upkeep import Upkeep
from graph_service.watches import ConnectionWatches
from kith.graph.v1 import graph_pb2_grpc
from shared.access.suspended import REFRESH_SECONDS, TOLD_REFRESH_SECONDS, SuspendedUsers
from shared.api.watches import WatchMetrics
from shared.database import schema
from shared.database.beside import Beside, asking
from shared.database.database import BACKGROUND
from shared.database.reader import Reader
from shared.metrics import ClientMetrics
from shared.periodic import Periodic
from shared.server.parts import build_parts
from shared.server.program import Program
from shared.server.service import Service

NAME = "kith.graph.v1.GraphService"
_UPKEEP_SECONDS = 30
# One of so many calls may wait for keepers of fences, so that reads always find a slot.
_WAITING_PART = 2
# How often open fences are looked for, and whether registrations are up to date. Until the setting
# is applied no change is made, so that is tried more often at first, and when a change is tried.
_FENCES_SECONDS = 5
_FENCES_AGAIN_SECONDS = 1
_BACKGROUND_CONNECTIONS = 2


def build(settings: GraphSettings, database_url: str) -> Service:
    """Put the service together; nothing runs or connects before it is started."""
    with ExitStack() as resources:
        parts = build_parts(
            "graph",
            settings,
            database_url,
            totals=GAUGES,
            background_connections=_BACKGROUND_CONNECTIONS,
            resources=resources,
            tells_beside=True,
        )
        database, tokens, limits = parts.database, parts.tokens, settings.limits
        events = resources.enter_context(closing(Reader(parts.endpoint, name=BACKGROUND)))
        watches = ConnectionWatches(events, tokens, settings.watches, WatchMetrics(parts.registry))
        suspended_users = SuspendedUsers(
            lambda known, _: suspensions.suspended_ids(events, known_revision=known)[0]
        )
        refresh = Periodic(
            "suspended users",
            suspended_users.refresh,
            interval_seconds=TOLD_REFRESH_SECONDS,
            again_seconds=REFRESH_SECONDS,
        )

        def check_database() -> None:
            with asking(Beside(query=suspensions.STAMP, parameters={})) as told:
                try:
                    schema.check(parts.reader, "graph")
                finally:
                    if not suspended_users.is_as_of(told.value):
                        refresh.soon()

        keepers = FenceKeepers(settings.fence_keeper_access, ClientMetrics(parts.registry))
        resources.callback(keepers.shut)
        closing_fences = FenceClosing(keepers)
        fences = Fences(
            keepers,
            closing_fences,
            targets=settings.fence_keepers,
            at_once=max(1, settings.server.threads // _WAITING_PART),
        )
        fence_upkeep = Periodic(
            "fences",
            FenceUpkeep(
                parts.background_database,
                keepers,
                closing_fences,
                fences,
                FenceMetrics(parts.registry),
            ).run,
            interval_seconds=_FENCES_SECONDS,
            again_seconds=_FENCES_AGAIN_SECONDS,
        )
        fences.mend = fence_upkeep.soon
        servicer = GraphServicer(
            lookups=Lookups(
                parts.reads, parts.reader, tokens, names_keepers=bool(settings.fence_keepers)
            ),
            connections=Connections(database, limits, GraphMetrics(parts.registry), fences),
            imports=Imports(database, limits, fences),
            exports=Exports(database, tokens),
            watches=watches,
            erasure=Erasure(database, fences),
            suspensions=Suspensions(database, parts.reader, tokens, fences, changed=refresh.soon),
            max_message_bytes=settings.server.max_message_bytes,
        )
        upkeep = Upkeep(
            parts.background_database,
            request_pause=limits.request_pause,
            events_kept=settings.events_kept,
        )
        return Service(
            name=NAME,
            add_to=lambda to: graph_pb2_grpc.add_GraphServiceServicer_to_server(servicer, to),
            access=ACCESS,
            suspended=suspended_users,
            rate_limits=parts.rate_limits,
            positions=parts.positions,
            registry=parts.registry,
            connections={"calls": database.usage},
            checks={"database": check_database},
            stream_threads={"WatchConnections": settings.watches.max_watchers},
            drain=watches.drain,
            background=[
                *parts.background,
                refresh,
                closing_fences,
                fence_upkeep,
                Periodic("upkeep", upkeep.run, interval_seconds=_UPKEEP_SECONDS),
            ],
            resources=resources.pop_all(),
        )


PROGRAM = Program(service="graph", read_settings=GraphSettings.read, build=build, totals=GAUGES)


if __name__ == "__main__":
    sys.exit(PROGRAM.run())
