"""The settings of graph_service."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from graph_service.access import ACCESS
from kith.client.settings import TargetSettings
from kith.environment import Environment
from shared.api.page_token_keys import page_token_keys
from shared.api.watches import WatchSettings
from shared.database.settings import DatabaseSettings
from shared.optional_redis import RedisSettings
from shared.server.rate_limits import RateLimitSettings
from shared.server.settings import ServerSettings


@dataclass(frozen=True, kw_only=True)
class PairLimits:
    """How much a user may have with others."""

    max_connections: int
    """How many connections a user may have: MAX_CONNECTIONS."""
    max_blocks: int
    """How many people a user may block: MAX_BLOCKS."""
    max_open_requests: int
    """How many requests of a user may wait for an answer: MAX_OPEN_REQUESTS."""
    request_pause: timedelta
    """How long a user must wait to ask a person again who has declined: REQUEST_PAUSE_DAYS."""

    @classmethod
    def read(cls, environment: Environment) -> "PairLimits":
        """Read the variables; what cannot be used is noted in the environment."""
        return cls(
            max_connections=environment.integer(
                "MAX_CONNECTIONS", 5_000, minimum=1, maximum=100_000
            ),
            max_blocks=environment.integer("MAX_BLOCKS", 5_000, minimum=1, maximum=100_000),
            max_open_requests=environment.integer(
                "MAX_OPEN_REQUESTS", 1_000, minimum=1, maximum=100_000
            ),
            request_pause=timedelta(
                days=environment.integer("REQUEST_PAUSE_DAYS", 7, minimum=0, maximum=365)
            ),
        )


@dataclass(frozen=True, kw_only=True)
class GraphSettings:
    """Everything that can be set, from `GRAPH_*` and the variables both services share."""

    server: ServerSettings
    database: DatabaseSettings
    page_token_keys: tuple[bytes, ...] = field(repr=False)
    """Keys that sign page tokens: PAGE_TOKEN_KEYS, newest first, separated by commas."""
    rate_limits: RateLimitSettings | None
    """How often users may call: RATE_LIMIT_REQUESTS and its companions. None for always."""
    redis: RedisSettings | None
    """What the processes share: REDIS_URL and its companions. None without it."""
    limits: PairLimits
    events_kept: timedelta
    """How long changes can be followed after they were made: CONNECTION_EVENTS_DAYS."""
    watches: WatchSettings
    fence_keepers: tuple[str, ...]
    """Who has to be told before connections change, as gRPC targets: FENCE_KEEPERS."""
    fence_keeper_access: TargetSettings
    """What these are shown: TARGET_CA_FILE and its companions."""

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "GraphSettings":
        """Read the environment; raises SettingsError naming every variable that cannot be used."""
        environment = Environment(variables)
        settings = cls.read_from(environment)
        environment.check()
        return settings

    @classmethod
    def read_from(cls, environment: Environment) -> "GraphSettings":
        """Read the variables; what cannot be used is noted in the environment."""
        database = DatabaseSettings.read(environment, "GRAPH")
        fence_keepers = tuple(dict.fromkeys(environment.words("FENCE_KEEPERS")))
        return cls(
            server=ServerSettings.read(environment, "GRAPH", port=50051, metrics_port=9101),
            database=database,
            page_token_keys=page_token_keys(environment, database),
            rate_limits=RateLimitSettings.read(environment, ACCESS),
            redis=RedisSettings.read(environment),
            limits=PairLimits.read(environment),
            events_kept=timedelta(
                days=environment.integer("CONNECTION_EVENTS_DAYS", 90, minimum=1, maximum=3650)
            ),
            watches=WatchSettings.read(environment, "GRAPH"),
            fence_keepers=fence_keepers,
            fence_keeper_access=TargetSettings.read(environment, *fence_keepers),
        )
