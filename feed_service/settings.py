"""The settings of feed_service."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Literal, cast

from feed_service.access import ACCESS
from kith.client.settings import TargetSettings
from kith.environment import Environment
from shared.api.page_token_keys import page_token_keys
from shared.api.watches import WatchSettings
from shared.database.settings import DatabaseSettings
from shared.optional_redis import RedisSettings
from shared.server.rate_limits import RateLimitSettings
from shared.server.settings import ServerSettings

LayoutName = Literal["single", "distributed"]

# What a worker needs beside its cache; half of it is there before the first call.
_WORKER_MEBIBYTES = 256
_BUCKET_NAME = re.compile(r"[A-Za-z0-9._-]{3,63}")


@dataclass(frozen=True, kw_only=True)
class ObjectStoreSettings:
    """Where photos are: a bucket of S3, or of a store that speaks its protocol."""

    bucket: str
    """The bucket: S3_BUCKET."""
    endpoint_url: str
    """Where the store is, as callers reach it too; empty for AWS: S3_ENDPOINT_URL."""
    region: str
    """The bucket's region: S3_REGION."""
    url_lifetime: timedelta
    """How long the URL of a photo works from its quarter on, in seconds: PHOTO_URL_SECONDS."""
    addressing_style: Literal["auto", "path", "virtual"]
    """Whether URLs have the bucket in their path or in their host: S3_ADDRESSING_STYLE."""
    access_key_id: str
    """AWS_ACCESS_KEY_ID; empty for wherever else boto3 finds credentials."""
    secret_access_key: str = field(repr=False)
    """AWS_SECRET_ACCESS_KEY."""
    session_token: str = field(repr=False)
    """AWS_SESSION_TOKEN."""

    @classmethod
    def read(cls, environment: Environment) -> "ObjectStoreSettings | None":
        """Read the variables; None when no bucket is named, and photos are refused then."""
        bucket = environment.text("S3_BUCKET", "")
        if not bucket:
            return None
        if not _BUCKET_NAME.fullmatch(bucket):
            environment.problem("S3_BUCKET", f"must be the name of a bucket; is {bucket!r}")
        endpoint_url = environment.text("S3_ENDPOINT_URL", "")
        if endpoint_url and not endpoint_url.startswith(("http://", "https://")):
            environment.problem("S3_ENDPOINT_URL", "must start with http:// or https://")
        style = environment.choice(
            "S3_ADDRESSING_STYLE", "AUTO", choices=("AUTO", "PATH", "VIRTUAL")
        )
        settings = cls(
            bucket=bucket,
            endpoint_url=endpoint_url,
            region=environment.text("S3_REGION", "us-east-1"),
            url_lifetime=timedelta(
                seconds=environment.integer("PHOTO_URL_SECONDS", 3600, minimum=60, maximum=3600)
            ),
            addressing_style=cast("Literal['auto', 'path', 'virtual']", style.lower()),
            access_key_id=environment.text("AWS_ACCESS_KEY_ID", ""),
            secret_access_key=environment.text("AWS_SECRET_ACCESS_KEY", ""),
            session_token=environment.text("AWS_SESSION_TOKEN", ""),
        )
        settings._check_credentials(environment)
        return settings

    def _check_credentials(self, environment: Environment) -> None:
        from feed_service import boto_session  # noqa: PLC0415 -- takes a sixth of a start

        try:
            found = bool(self.access_key_id) == bool(
                self.secret_access_key
            ) and boto_session.has_credentials(self)
        except ValueError as error:
            environment.problem("S3_BUCKET", f"is set, but its credentials cannot be used: {error}")
            return
        if not found:
            environment.problem(
                "S3_BUCKET",
                "is set, but there are no credentials; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or another source that boto3 supports",
            )


@dataclass(frozen=True, kw_only=True)
class DigestRules:
    """What a weekly digest is made by, see GetDigestResponse."""

    min_importance: float
    """Posts of this importance and below are left out: DIGEST_MIN_IMPORTANCE."""
    posts_per_author_per_day: int
    """How many posts of one author and day are considered: DIGEST_POSTS_PER_AUTHOR_PER_DAY."""
    max_posts: int
    """How many posts a digest has at most: DIGEST_MAX_POSTS."""
    week_start_day: int
    """The first day of a week, 1 Monday to 7 Sunday: DIGEST_WEEK_START."""

    @classmethod
    def read(cls, environment: Environment) -> "DigestRules":
        """Read the variables."""
        return cls(
            min_importance=environment.number("DIGEST_MIN_IMPORTANCE", 1, minimum=0, maximum=10),
            posts_per_author_per_day=environment.integer(
                "DIGEST_POSTS_PER_AUTHOR_PER_DAY", 2, minimum=1, maximum=100
            ),
            max_posts=environment.integer("DIGEST_MAX_POSTS", 12, minimum=1, maximum=100),
            week_start_day=environment.integer("DIGEST_WEEK_START", 7, minimum=1, maximum=7),
        )

    @property
    def posts_per_author(self) -> int:
        """An author's share, a third of the posts; more of them only fill what would stay free."""
        return max(1, self.max_posts // 3)


@dataclass(frozen=True, kw_only=True)
class HubScan:
    """When a feed looks among everybody's newest posts before it goes through its streams.

    And a digest among the most important ones.
    """

    degree: int
    """From how many connections on; 0 means always: FEED_HUB_DEGREE."""
    rows: int
    """How many posts it looks at, at most; 0 means never: FEED_HUB_SCAN_ROWS."""

    @classmethod
    def read(cls, environment: Environment, layout: LayoutName) -> "HubScan":
        """Read the variables."""
        usual = 40 if layout == "distributed" else 400
        return cls(
            degree=environment.integer("FEED_HUB_DEGREE", usual, minimum=0, maximum=1_000_000),
            rows=environment.integer("FEED_HUB_SCAN_ROWS", 8_000, minimum=0, maximum=100_000),
        )


@dataclass(frozen=True, kw_only=True)
class FeedSettings:
    """Everything that can be set, from `FEED_*` and the variables both services share."""

    server: ServerSettings
    database: DatabaseSettings
    layout: LayoutName
    """Whether the database is one PostgreSQL, or spread over nodes by Citus: FEED_LAYOUT."""
    page_token_keys: tuple[bytes, ...] = field(repr=False)
    """Keys that sign page tokens: PAGE_TOKEN_KEYS, newest first, separated by commas."""
    graph_target: str
    """Where graph_service is, as a gRPC target: GRAPH_TARGET."""
    graph_access: TargetSettings
    """What graph_service is shown: TARGET_CA_FILE and its companions."""
    graph_timeout: timedelta
    """How long one call to graph_service may take: GRAPH_TIMEOUT_SECONDS."""
    graph_ready_grace: timedelta
    """How long the service stays ready without the graph: GRAPH_READY_GRACE_SECONDS."""
    fences_port: int
    """Where graph_service opens fences, by which reads need no call; 0 for nowhere: FENCES_PORT."""
    rate_limits: RateLimitSettings | None
    """How often users may call: RATE_LIMIT_FEEDS and its companions. None for always."""
    redis: RedisSettings | None
    """What the processes share: REDIS_URL and its companions. None without it."""
    connections_cache_bytes: int
    """Memory for the cache of connected ids: CONNECTIONS_CACHE_BYTES."""
    max_tags: int
    """How many tags a user may have: MAX_TAGS."""
    purge_after: timedelta
    """How long deleted posts and comments are kept, hidden: PURGE_DAYS."""
    events_kept: timedelta
    """How long changes can be followed after they were made: CONTENT_EVENTS_DAYS."""
    watches: WatchSettings
    hub_scan: HubScan
    """How feeds of very many connections are read: FEED_HUB_DEGREE and its companion."""
    digest: DigestRules
    """What weekly digests are made by: DIGEST_MIN_IMPORTANCE and its companions."""
    object_store: ObjectStoreSettings | None
    """Where photos are: S3_BUCKET and its companions. None when photos are not configured."""

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "FeedSettings":
        """Read the environment; raises SettingsError naming every variable that cannot be used."""
        environment = Environment(variables)
        settings = cls.read_from(environment)
        environment.check()
        return settings

    @classmethod
    def read_from(cls, environment: Environment) -> "FeedSettings":
        """Read the variables; what cannot be used is noted in the environment."""
        database = DatabaseSettings.read(environment, "FEED")
        mebibyte = 1024 * 1024
        graph_target = environment.text("GRAPH_TARGET", "127.0.0.1:50051")
        layout = environment.choice("FEED_LAYOUT", "SINGLE", choices=("SINGLE", "DISTRIBUTED"))
        if database.replica_urls and layout == "DISTRIBUTED":
            environment.problem(
                "FEED_REPLICA_URLS",
                "cannot be used with FEED_LAYOUT=distributed: the position of a coordinator's "
                "replica says nothing about the workers",
            )
        layout_name = cast("LayoutName", layout.lower())
        server = ServerSettings.read(environment, "FEED", port=50052, metrics_port=9102)
        cache_bytes = environment.integer(
            "CONNECTIONS_CACHE_BYTES", 64 * mebibyte, minimum=0, maximum=16 * 1024 * mebibyte
        )
        # Otherwise a full cache is reason enough to replace a worker.
        least = cache_bytes + _WORKER_MEBIBYTES * mebibyte
        if 0 < server.max_memory_bytes < least:
            environment.problem(
                "WORKER_MAX_MEMORY_BYTES",
                f"must be 0, or {_WORKER_MEBIBYTES} MiB more than CONNECTIONS_CACHE_BYTES: "
                f"at least {least}; is {server.max_memory_bytes}",
            )
        fences_port = environment.port("FENCES_PORT", 0)
        if fences_port and fences_port in (server.port, server.metrics_port):
            environment.problem("FENCES_PORT", f"must be a port of its own; is {fences_port}")
        return cls(
            server=server,
            # Citus plans by the values, of which a prepared plan is made without.
            database=replace(database, prepare=database.prepare and layout_name == "single"),
            layout=layout_name,
            page_token_keys=page_token_keys(environment, database),
            graph_target=graph_target,
            graph_access=TargetSettings.read(environment, graph_target),
            graph_timeout=environment.duration(
                "GRAPH_TIMEOUT_SECONDS", 2, minimum=0.01, maximum=60
            ),
            graph_ready_grace=environment.duration(
                "GRAPH_READY_GRACE_SECONDS", 5, minimum=0, maximum=3600
            ),
            fences_port=fences_port,
            rate_limits=RateLimitSettings.read(environment, ACCESS),
            redis=RedisSettings.read(environment),
            connections_cache_bytes=cache_bytes,
            max_tags=environment.integer("MAX_TAGS", 500, minimum=1, maximum=500),
            purge_after=timedelta(
                days=environment.integer("PURGE_DAYS", 30, minimum=0, maximum=3650)
            ),
            events_kept=timedelta(
                days=environment.integer("CONTENT_EVENTS_DAYS", 30, minimum=1, maximum=3650)
            ),
            watches=WatchSettings.read(environment, "FEED"),
            hub_scan=HubScan.read(environment, layout_name),
            digest=DigestRules.read(environment),
            object_store=ObjectStoreSettings.read(environment),
        )
