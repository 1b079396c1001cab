"""Reading settings from the environment: once, with all problems reported together."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

from limits import RateLimitItem, parse
from redis.connection import parse_url
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from kith.environment import Environment
from kith.tls.certificates import CertificateFiles
from kith.tls.settings import certificate_files, is_loopback
from shared.access import jwks
from shared.access.rules import CALLERS, Access

# Each is remembered for as long as the window.
_MOST_CALLS = 100_000
_LONGEST_WINDOW = 24 * 60 * 60
# By which libpq finds the primary among the servers of a cluster, also another one later.
_ATTRIBUTES = "target_session_attrs"
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True, kw_only=True)
class TokenSettings:
    """Which signed tokens are believed."""

    keys: str | Path
    """The URL or the file of the keys they are signed with, as a JWKS: AUTH_JWKS."""
    issuer: str
    """Who issues them, their `iss`: AUTH_ISSUER."""
    audience: str
    """Whom they are for, their `aud`: AUTH_AUDIENCE."""
    leeway: timedelta
    """How far the issuer's clock may be off: AUTH_LEEWAY_SECONDS."""

    @classmethod
    def read(cls, environment: Environment) -> "TokenSettings | None":
        """Read the variables; None when no keys are named, and tokens are refused then."""
        where = environment.text("AUTH_JWKS", "")
        named = {name: environment.text(name, "") for name in ("AUTH_ISSUER", "AUTH_AUDIENCE")}
        leeway = environment.duration("AUTH_LEEWAY_SECONDS", 30, minimum=0, maximum=300)
        if not where:
            return None
        for name, value in named.items():
            if not value:
                environment.problem(name, "must be set with AUTH_JWKS")
        is_url = where.startswith(("http://", "https://"))
        if is_url and "@" in where:
            environment.problem("AUTH_JWKS", "must not hold a password: its keys are public")
        if not is_url:
            environment.require("AUTH_JWKS", lambda: jwks.require_keys(jwks.read(Path(where))))
        return cls(
            keys=where if is_url else Path(where).absolute(),
            issuer=named["AUTH_ISSUER"],
            audience=named["AUTH_AUDIENCE"],
            leeway=leeway,
        )


@dataclass(frozen=True, kw_only=True)
class AuthSettings:
    """Who callers may be."""

    services: frozenset[str]
    """Who may act for every user, by a certificate's name or a token's `sub`: AUTH_SERVICES."""
    tokens: TokenSettings | None
    """Which tokens are believed; None for none."""

    @classmethod
    def read(cls, environment: Environment) -> "AuthSettings":
        """Read the variables."""
        services = frozenset(environment.words("AUTH_SERVICES"))
        if any(name.isdecimal() for name in services):
            environment.problem("AUTH_SERVICES", "must not name numbers: those are users")
        return cls(services=services, tokens=TokenSettings.read(environment))


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How one service listens, to whom, how it stops and logs."""

    host: str
    port: int
    metrics_port: int
    workers: int
    threads: int
    queue: int
    usual_deadline: timedelta
    drain: timedelta
    grace: timedelta
    max_connection_age: timedelta
    max_message_bytes: int
    log_level: str
    trace_collector: str
    """Where spans are sent to; empty for nowhere: OTEL_EXPORTER_OTLP_ENDPOINT."""
    certificates: CertificateFiles | None
    """TLS_CERT_FILE, without which nothing is encrypted, TLS_KEY_FILE and TLS_CLIENT_CA_FILE."""
    auth: AuthSettings | None
    """Who callers may be; None when nobody is asked."""
    reflection: bool
    """Whether the contracts can be asked for: REFLECTION."""

    @classmethod
    def read(
        cls, environment: Environment, prefix: str, *, port: int, metrics_port: int
    ) -> "ServerSettings":
        """Read the variables of one service, whose names start with `prefix`."""
        mebibyte = 1024 * 1024
        files = _server_certificate_files(environment)
        auth = _auth(environment, files)
        settings = cls(
            host=environment.host(f"{prefix}_HOST", "127.0.0.1"),
            port=environment.port(f"{prefix}_PORT", port),
            metrics_port=environment.port(f"{prefix}_METRICS_PORT", metrics_port),
            workers=environment.integer(
                f"{prefix}_WORKERS", os.cpu_count() or 1, minimum=1, maximum=256
            ),
            threads=environment.integer(f"{prefix}_THREADS", 8, minimum=1, maximum=256),
            queue=environment.integer(f"{prefix}_QUEUE", 64, minimum=0, maximum=10_000),
            usual_deadline=environment.duration(
                "DEFAULT_DEADLINE_SECONDS", 15, minimum=0.1, maximum=3600
            ),
            drain=environment.duration("DRAIN_SECONDS", 0.5, minimum=0, maximum=600),
            grace=environment.duration("GRACE_SECONDS", 20, minimum=0, maximum=600),
            max_connection_age=environment.duration(
                "MAX_CONNECTION_AGE_SECONDS", 10, minimum=0, maximum=86_400
            ),
            max_message_bytes=environment.integer(
                "MAX_MESSAGE_BYTES", 10 * mebibyte, minimum=mebibyte, maximum=64 * mebibyte
            ),
            log_level=environment.choice("LOG_LEVEL", "INFO", choices=_LOG_LEVELS),
            certificates=files,
            auth=auth,
            trace_collector=_trace_collector(environment),
            reflection=environment.switch("REFLECTION", default=auth is None),
        )
        settings._check_exposure(environment, prefix)
        return settings

    def _check_exposure(self, environment: Environment, prefix: str) -> None:
        """Refuse to listen to strangers, unless somebody says that something else is in front."""
        may_know_nobody = environment.switch("ALLOW_UNAUTHENTICATED", default=False)
        may_be_overheard = environment.switch("ALLOW_PLAINTEXT", default=False)
        if is_loopback(self.host):
            return
        if self.auth is None and not may_know_nobody:
            environment.problem(
                f"{prefix}_HOST",
                f"is {self.host}, where strangers could call: set AUTH_JWKS or TLS_CLIENT_CA_FILE "
                "to know callers, or ALLOW_UNAUTHENTICATED=on if something in front does",
            )
        if self.auth is not None and self.certificates is None and not may_be_overheard:
            environment.problem(
                f"{prefix}_HOST",
                f"is {self.host}, where tokens could be overheard: set TLS_CERT_FILE and "
                "TLS_KEY_FILE, or ALLOW_PLAINTEXT=on if something in front encrypts",
            )


@dataclass(frozen=True, kw_only=True)
class RateLimitSettings:
    """How often users and callers may call; see `access` of either service."""

    rates: Mapping[str, RateLimitItem]
    """By the names of limits. RATE_LIMIT_CALLERS is for all calls of a service, or of a user."""

    @classmethod
    def read(cls, environment: Environment, access: Access) -> "RateLimitSettings | None":
        """Read the variables of all limits in the rules of a service; None for RATE_LIMITS=off."""
        usual = {rule.limit.name: rule.limit.usual for rule in access.values()}
        rates = {
            name: _rate(environment, f"RATE_LIMIT_{name}", default)
            for name, default in {**usual, CALLERS: "off"}.items()
        }
        if not environment.switch("RATE_LIMITS", default=True):
            return None
        return cls(rates={name: rate for name, rate in rates.items() if rate is not None})


@dataclass(frozen=True, kw_only=True)
class RedisSettings:
    """Where Redis is, and how long it may take."""

    url: str = field(repr=False)
    """REDIS_URL."""
    timeout: timedelta
    """How long a call waits for an answer: REDIS_TIMEOUT_SECONDS."""

    @classmethod
    def read(cls, environment: Environment) -> "RedisSettings | None":
        """Read the variables; None without a URL, and for REDIS_ENABLED=off."""
        url = environment.text("REDIS_URL", "")
        timeout = environment.duration("REDIS_TIMEOUT_SECONDS", 0.05, minimum=0.001, maximum=10)
        enabled = environment.switch("REDIS_ENABLED", default=bool(url))
        if url and not _is_redis(url):
            environment.problem(
                "REDIS_URL", "must be a URL and start with redis://, rediss:// or unix://"
            )
        if enabled and not url:
            environment.problem("REDIS_ENABLED", "needs REDIS_URL")
        return cls(url=url, timeout=timeout) if enabled else None


@dataclass(frozen=True, kw_only=True)
class DatabaseSettings:
    """Where one service's database is and how many connections it may hold."""

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


def _is_redis(url: str) -> bool:
    """Whether the client of Redis can use a URL; what it says of others may hold a password."""
    try:
        parse_url(url)  # type: ignore[no-untyped-call]  # the library does not type it
    except ValueError:
        return False
    return True


def _auth(environment: Environment, files: CertificateFiles | None) -> AuthSettings | None:
    """Read who callers may be; None when there is nothing by which they could be known."""
    auth = AuthSettings.read(environment)
    shows_certificates = files is not None and files.authorities is not None
    if auth.tokens is None and not shows_certificates:
        if auth.services:
            environment.problem("AUTH_SERVICES", "needs AUTH_JWKS or TLS_CLIENT_CA_FILE")
        return None
    if auth.tokens is None and not auth.services:
        environment.problem("AUTH_SERVICES", "must name whose certificates are let in")
    return auth


def _trace_collector(environment: Environment) -> str:
    collector = environment.text("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    if collector and find_spec("opentelemetry") is None:
        environment.problem(
            "OTEL_EXPORTER_OTLP_ENDPOINT", "needs the extra `tracing`: pip install kith[tracing]"
        )
    return collector


def _server_certificate_files(environment: Environment) -> CertificateFiles | None:
    files = certificate_files(
        environment, chain="TLS_CERT_FILE", key="TLS_KEY_FILE", authorities="TLS_CLIENT_CA_FILE"
    )
    if files.authorities and not files.chain:
        environment.problem("TLS_CLIENT_CA_FILE", "needs TLS_CERT_FILE and TLS_KEY_FILE")
    return files if files.chain else None


def _rate(environment: Environment, name: str, default: str) -> RateLimitItem | None:
    """Read how often something may be done, such as `10/minute`; None for `off`."""
    text = environment.text(name, default)
    if text.lower() == "off":
        return None
    try:
        rate = parse(text)
    except ValueError:
        environment.problem(name, f"must be a rate such as 10/minute or 100/5 minutes; is {text!r}")
        return None
    if not (0 < rate.amount <= _MOST_CALLS and rate.get_expiry() <= _LONGEST_WINDOW):
        environment.problem(name, f"must be from 1 to {_MOST_CALLS} in at most a day, or off")
    return rate
