"""What both services are built of: their database, its replicas, Redis, tokens and rate limits."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from shared.api.paging import PageTokens
from shared.database.database import BACKGROUND, Database
from shared.database.endpoint import Endpoint
from shared.database.metrics import ReplicaMetrics, StoredTotals, database_latency
from shared.database.reader import Reader
from shared.database.replicas import Reads, Replicas
from shared.database.settings import DatabaseSettings
from shared.database.totals import read_totals
from shared.optional_redis import OptionalRedis, RedisMetrics, RedisSettings
from shared.server.handlers import Step
from shared.server.positions import exchange_positions
from shared.server.rate_limits import RateLimits, RateLimitSettings
from shared.server.service import Background


class Settings(Protocol):
    """What the settings of both services say of these parts."""

    @property
    def database(self) -> DatabaseSettings:
        """Where its data is."""

    @property
    def page_token_keys(self) -> tuple[bytes, ...]:
        """What signs page tokens."""

    @property
    def rate_limits(self) -> RateLimitSettings | None:
        """How often users may call; None for always."""

    @property
    def redis(self) -> RedisSettings | None:
        """What processes share; None without it."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of one service.

    `database` and `reader` are the primary, `reads` is a replica where one may answer, and
    `background_database` is the primary for work beside the calls. `background` is what of the
    parts has to be started, and `positions` is None without replicas.
    """

    registry: CollectorRegistry
    endpoint: Endpoint
    database: Database
    reader: Reader
    reads: Reads
    background_database: Database
    background: Sequence[Background]
    positions: Step | None
    redis: OptionalRedis | None
    rate_limits: RateLimits | None
    tokens: PageTokens


def build_parts(
    service: str,
    settings: Settings,
    database_url: str,
    *,
    totals: Mapping[str, str],
    background_connections: int,
    resources: ExitStack,
    tells_beside: bool = False,
    begin_session: Callable[[Any], None] | None = None,
) -> Parts:
    """Build the parts of `graph` or `feed`, and leave to `resources` what has to be closed.

    No thread is started and nothing connects. `totals` are gauges that the database maintains. Work
    in the background has connections of its own, so it never takes one from the calls. The reader
    of the primary `tells_beside` its rows what it is asked, if that is wanted. Each session of the
    databases begins with `begin_session`.
    """
    registry = CollectorRegistry()
    redis = None
    if settings.redis:
        redis = OptionalRedis(settings.redis, RedisMetrics(registry))
        resources.callback(redis.close)
    endpoint = Endpoint.of(
        settings.database, database_url, database_latency(registry), begin_session=begin_session
    )
    resources.callback(endpoint.guard.close)
    database = resources.enter_context(closing(Database(endpoint)))
    reader = resources.enter_context(closing(Reader(endpoint, tells_beside=tells_beside)))
    background_database = resources.enter_context(
        closing(Database(endpoint.limited(background_connections), name=BACKGROUND))
    )
    # They are exposed without replicas too: alerts and dashboards name them.
    replica_metrics = ReplicaMetrics(registry)
    replicas = None
    if settings.database.replica_urls:
        replicas = Replicas(endpoint, replica_metrics)
        resources.callback(replicas.close)
    registry.register(StoredTotals(gauges=totals, read=lambda: database.read(read_totals)))
    return Parts(
        registry=registry,
        endpoint=endpoint,
        database=database,
        reader=reader,
        reads=Reads(database, reader, replicas),
        background_database=background_database,
        background=[replicas] if replicas else [],
        positions=exchange_positions(service) if replicas else None,
        redis=redis,
        rate_limits=RateLimits(settings.rate_limits, service=service, redis=redis)
        if settings.rate_limits
        else None,
        tokens=PageTokens(keys=settings.page_token_keys),
    )
