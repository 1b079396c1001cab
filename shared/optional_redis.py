"""Redis, for what is better shared by all processes and can be done without.

Callers check what they read here before they decide by it, and do not wait long: an answer may take
a few hundredths of a second, and after several calls without an answer Redis is not asked for some
seconds (`circuit`). Callers go on without Redis, so its loss costs them time at most.

The services share the windows of rate limits and the connections of users in it, but not the signed
URLs of photos: signing one costs 4 microseconds and asking Redis a hundred.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from kith.environment import Environment
from shared.circuit import Circuit
from shared.metrics import LATENCY_BUCKETS

# A new form of what is kept gets a new number, so that no version reads what another has written.
PREFIX: Final = "kith:1:"
_FAILURES = 2
_PAUSE = timedelta(seconds=5)
# A socket's timeout starts anew with every byte, so an answer can take longer than that.
_PATIENCE = 4
_log = logging.getLogger("kith.redis")

T = TypeVar("T")


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


class RedisMetrics:
    """What calls to Redis are measured by, and whether any are made."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.latency = Histogram(
            "redis_operation_latency_seconds",
            "Time of successful Redis operations.",
            ["operation"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.errors = Counter(
            "redis_errors_total",
            "Redis operations without an answer (away) or with an invalid one (unusable).",
            ["operation", "kind"],
            registry=registry,
        )
        self.available = Gauge(
            "redis_available",
            "1 if Redis is used, 0 if it is paused for seconds because it did not answer.",
            registry=registry,
            multiprocess_mode="livemin",
        )


class RedisAwayError(Exception):
    """Redis does not answer, or was not asked because it did not. Go on without it."""


class GarbageError(RedisAwayError):
    """Redis answers that what it holds cannot be used so, or that it will not."""


class Windows(Protocol):
    """The times of the latest calls of everybody; the storages of `limits` are such as well."""

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Add a call, unless `limit` calls are in the last `expiry` seconds."""

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Return the time of the oldest call in the last `expiry` seconds, and how many there are.

        Without any it is the present time.
        """

    def clear(self, key: str) -> None:
        """Forget calls."""


class OptionalRedis:
    """Asks Redis. Thread-safe."""

    def __init__(self, settings: RedisSettings, metrics: RedisMetrics) -> None:
        import redis  # noqa: PLC0415 -- takes a tenth of what a service takes to start
        from redis.backoff import NoBackoff  # noqa: PLC0415 -- as above
        from redis.retry import Retry  # noqa: PLC0415 -- as above

        seconds = settings.timeout.total_seconds()
        self._refusals = (redis.ResponseError, ValueError)
        self._pool = redis.ConnectionPool.from_url(
            settings.url,
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            retry=Retry(NoBackoff(), 0),
            # Telling Redis the library's name takes two more answers for each connection.
            driver_info=None,
        )
        self._client = redis.Redis(connection_pool=self._pool)
        self._most_seconds = _PATIENCE * seconds
        self._circuit = Circuit(failures=_FAILURES, pause=_PAUSE)
        self._metrics = metrics
        metrics.available.set(1)

    def ask(self, operation: str, work: Callable[[], T]) -> T:
        """Return what `work` finds in Redis; raises RedisAwayError or GarbageError without it."""
        if not self._circuit.lets_through():
            raise RedisAwayError
        started = time.perf_counter()
        try:
            answer = work()
        except self._refusals as error:
            self._came()
            self._metrics.errors.labels(operation, "unusable").inc()
            raise GarbageError from error
        except Exception as error:
            # Another program may answer there, and the parser may raise any error.
            self._lost(error)
            self._metrics.errors.labels(operation, "away").inc()
            raise RedisAwayError from error
        seconds = time.perf_counter() - started
        self._metrics.latency.labels(operation).observe(seconds)
        if seconds > self._most_seconds:
            self._lost(TimeoutError())
        else:
            self._came()
        return answer

    def try_to(self, operation: str, work: Callable[[], object]) -> None:
        """Do something in Redis, or not."""
        with suppress(RedisAwayError):
            self.ask(operation, work)

    def read(self, key: str, *, most_bytes: int) -> bytes:
        """Return what is kept under a key, empty for nothing; of more than fits, one byte more.

        Raises RedisAwayError or GarbageError.
        """
        # GET would fetch half a gigabyte, if another program has stored that.
        return self.ask("read", lambda: self._start(PREFIX + key, most_bytes))

    def write(self, key: str, value: bytes, *, seconds: int) -> None:
        """Keep something under a key for so long, or not."""
        self.try_to("write", lambda: self._client.set(PREFIX + key, value, ex=seconds))

    def windows(self, name: str) -> Windows:
        """Return the moving windows of rate limits; they raise what `ask` has to be around for."""
        from limits.storage import RedisStorage  # noqa: PLC0415 -- as above

        return RedisStorage("redis://", connection_pool=self._pool, key_prefix=PREFIX + name)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def _start(self, key: str, most_bytes: int) -> bytes:
        found: bytes = self._client.getrange(key, 0, most_bytes)  # type: ignore[assignment]  # typed for its asynchronous twin as well
        return found

    def _came(self) -> None:
        if self._circuit.is_open:
            self._metrics.available.set(1)
            _log.info("redis answers again")
        self._circuit.succeeded()

    def _lost(self, error: Exception) -> None:
        was_open = self._circuit.is_open
        self._circuit.failed()
        if self._circuit.is_open and not was_open:
            self._metrics.available.set(0)
            _log.warning("redis does not answer", extra={"reason": repr(error)})


def _is_redis(url: str) -> bool:
    """Whether the client of Redis can use a URL; what it says of others may hold a password."""
    from redis.connection import parse_url  # noqa: PLC0415 -- as above

    try:
        parse_url(url)  # type: ignore[no-untyped-call]  # the library does not type it
    except ValueError:
        return False
    return True
