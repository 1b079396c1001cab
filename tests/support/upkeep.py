"""Runs of the services' upkeep that a test makes itself."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta

from prometheus_client import CollectorRegistry

from feed_service.settings import FeedSettings
from feed_service.upkeep import Upkeep as FeedUpkeep
from graph_service.fence_keepers import FenceKeepers
from graph_service.fences import FenceClosing, Fences, FenceUpkeep
from graph_service.metrics import FenceMetrics
from graph_service.settings import GraphSettings
from graph_service.upkeep import Upkeep
from kith.client.settings import TargetSettings
from kith.environment import Environment
from shared.database.database import Database
from shared.database.endpoint import Endpoint
from shared.database.metrics import database_latency
from shared.metrics import ClientMetrics
from tests.support.pair import ENVIRONMENT, Pair
from tests.support.roles import serving


@contextmanager
def cleaning(pair: Pair, environment: Mapping[str, str] | None = None) -> Iterator[Upkeep]:
    """Yield the upkeep of a pair's graph, as these settings have it."""
    url = serving("graph", pair.graph_url)
    settings = GraphSettings.read({**ENVIRONMENT, **(environment or {}), "GRAPH_DATABASE_URL": url})
    endpoint = Endpoint.of(settings.database, url, database_latency(CollectorRegistry()))
    with closing(endpoint.guard), closing(Database(endpoint)) as database:
        yield Upkeep(
            database,
            request_pause=settings.limits.request_pause,
            events_kept=settings.events_kept,
        )


@contextmanager
def closing_fences(pair: Pair, target: str) -> Iterator[FenceUpkeep]:
    """Yield the upkeep of fences of a pair's graph, which has this keeper in its setting."""
    url = serving("graph", pair.graph_url)
    settings = GraphSettings.read({**ENVIRONMENT, "GRAPH_DATABASE_URL": url})
    registry = CollectorRegistry()
    endpoint = Endpoint.of(settings.database, url, database_latency(registry))
    keepers = FenceKeepers(settings.fence_keeper_access, ClientMetrics(registry))
    closing_after = FenceClosing(keepers)
    changes = Fences(keepers, closing_after, targets=[target], at_once=1)
    with (
        closing(endpoint.guard),
        closing(Database(endpoint)) as database,
        ExitStack() as stack,
    ):
        stack.callback(keepers.shut)
        yield FenceUpkeep(database, keepers, closing_after, changes, FenceMetrics(registry))


@contextmanager
def keepers_alone() -> Iterator[FenceKeepers]:
    """Yield what calls keepers, without a service."""
    access = TargetSettings.read(Environment({}))
    keepers = FenceKeepers(access, ClientMetrics(CollectorRegistry()))
    try:
        yield keepers
    finally:
        keepers.shut()


@contextmanager
def closing_alone() -> Iterator[FenceClosing]:
    """Yield what closes fences after their changes, with no upkeep that would do it later."""
    with keepers_alone() as keepers, ExitStack() as stack:
        closing_after = FenceClosing(keepers)
        closing_after.start()
        stack.callback(closing_after.stop)
        yield closing_after


@contextmanager
def cleaning_feed(pair: Pair, *, events_kept: timedelta | None = None) -> Iterator[FeedUpkeep]:
    """Yield the upkeep of a pair's feed, which has no object store and may keep events for less."""
    url = serving("feed", pair.feed_url)
    settings = FeedSettings.read({**ENVIRONMENT, "FEED_DATABASE_URL": url})
    endpoint = Endpoint.of(settings.database, url, database_latency(CollectorRegistry()))
    with closing(endpoint.guard), closing(Database(endpoint)) as database:
        yield FeedUpkeep(
            database,
            None,
            purge_after=settings.purge_after,
            events_kept=settings.events_kept if events_kept is None else events_kept,
        )
