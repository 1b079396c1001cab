"""Where a service's database is, and how it is used."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from kith.environment import Environment

# By which libpq finds the primary among the servers of a cluster, also another one later.
_ATTRIBUTES = "target_session_attrs"


@dataclass(frozen=True, kw_only=True)
class DatabaseSettings:
    """Where one service's database is and how many connections the service may open."""

    url: str = field(repr=False)
    data_dir: Path
    pool_size: int
    max_overflow: int
    pool_timeout: timedelta
    statement_timeout: timedelta
    prepare: bool
    replica_urls: tuple[str, ...] = field(repr=False)
    """Servers that replicate the database: GRAPH_REPLICA_URLS and FEED_REPLICA_URLS."""
    replica_max_lag: timedelta
    """Behind by how much a replica is not asked any more: REPLICA_MAX_LAG_SECONDS."""

    @classmethod
    def read(cls, environment: Environment, prefix: str) -> "DatabaseSettings":
        """Read the variables of one service, whose names start with `prefix`."""
        primary, replicas = f"{prefix}_DATABASE_URL", f"{prefix}_REPLICA_URLS"
        return cls(
            url=_database_url(environment, primary, environment.text(primary, "")),
            replica_urls=tuple(
                _database_url(environment, replicas, url) for url in environment.words(replicas)
            ),
            replica_max_lag=environment.duration(
                "REPLICA_MAX_LAG_SECONDS", 10, minimum=0.5, maximum=600
            ),
            data_dir=Path(environment.text("KITH_DATA_DIR", ".data")).absolute(),
            pool_size=environment.integer("DATABASE_POOL_SIZE", 8, minimum=1, maximum=200),
            max_overflow=environment.integer("DATABASE_MAX_OVERFLOW", 15, minimum=0, maximum=200),
            pool_timeout=environment.duration(
                "DATABASE_POOL_TIMEOUT_SECONDS", 2, minimum=0.1, maximum=60
            ),
            statement_timeout=environment.duration(
                "DATABASE_STATEMENT_TIMEOUT_SECONDS", 10, minimum=0.1, maximum=3600
            ),
            prepare=environment.switch("DATABASE_PREPARE", default=True),
        )


def _database_url(environment: Environment, name: str, url: str) -> str:
    """Return the URL of a database as SQLAlchemy is to read it; with several hosts, the primary."""
    if url.startswith("postgresql://"):
        # Since SQLAlchemy 2.1 the bare scheme means psycopg 3, which Kith does not install.
        url = url.replace("postgresql://", "postgresql+psycopg2://", 1)
    if not url:
        return url
    if not _is_postgresql(url):
        environment.problem(name, "must be a URL and start with postgresql://")
        return url
    parsed = make_url(url)
    if isinstance(parsed.query.get("host"), tuple) and _ATTRIBUTES not in parsed.query:
        parsed = parsed.update_query_dict({_ATTRIBUTES: "read-write"})
        return parsed.render_as_string(hide_password=False)
    return url


def _is_postgresql(url: str) -> bool:
    """Whether SQLAlchemy can use a URL; what it says of one that it cannot may hold a password."""
    try:
        return make_url(url).drivername == "postgresql+psycopg2"
    except (ArgumentError, ValueError):
        return False
