"""The settings of feed_service."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from shared.secret import page_token_keys
from shared.settings import DatabaseSettings, Environment, ServerSettings


@dataclass(frozen=True, kw_only=True)
class FeedSettings:
    """Everything that can be set, from `FEED_*` and the variables both services share."""

    server: ServerSettings
    database: DatabaseSettings
    page_token_keys: tuple[bytes, ...]
    """Keys that sign page tokens: PAGE_TOKEN_KEYS, newest first, separated by commas."""
    graph_target: str
    """Where graph_service is, as a gRPC target: GRAPH_TARGET."""
    graph_timeout: timedelta
    """How long one call to graph_service may take: GRAPH_TIMEOUT_SECONDS."""
    graph_ready_grace: timedelta
    """How long the service stays ready without the graph: GRAPH_READY_GRACE_SECONDS."""
    connections_cache_bytes: int
    """Memory for the cache of connected ids: CONNECTIONS_CACHE_BYTES."""
    max_tags: int
    """How many tags a user may have: MAX_TAGS."""

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "FeedSettings":
        """Read the environment; raises SettingsError naming every variable that cannot be used."""
        environment = Environment(variables)
        database = DatabaseSettings.read(environment, "FEED")
        mebibyte = 1024 * 1024
        settings = cls(
            server=ServerSettings.read(environment, "FEED", port=50052, metrics_port=9102),
            database=database,
            page_token_keys=page_token_keys(environment, database),
            graph_target=environment.text("GRAPH_TARGET", "127.0.0.1:50051"),
            graph_timeout=environment.duration(
                "GRAPH_TIMEOUT_SECONDS", 2, minimum=0.01, maximum=60
            ),
            graph_ready_grace=environment.duration(
                "GRAPH_READY_GRACE_SECONDS", 5, minimum=0, maximum=3600
            ),
            connections_cache_bytes=environment.integer(
                "CONNECTIONS_CACHE_BYTES", 64 * mebibyte, minimum=0, maximum=16 * 1024 * mebibyte
            ),
            max_tags=environment.integer("MAX_TAGS", 500, minimum=1, maximum=500),
        )
        environment.check()
        return settings
