"""The step around every call that limits the rates of users and callers.

The user is the one that the request names, also when a service calls for them; the caller is the
service or user that sends it. Every call counts, also one that fails or repeats a former one. The
window moves: no more than a minute's calls are admitted in any minute, and a rejected caller is
told when the oldest of them will be a minute old.

Windows are in Redis, where all processes see them, and in the memory of this process while Redis
does not answer, or is not there at all. Then each process counts for itself.
"""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import Final

from cachetools import LRUCache

from kith.environment import Environment
from kith.errors.v1 import errors_pb2
from kith.exceptions import RateLimitError
from shared.access.rules import CALLERS, Access, Weight
from shared.optional_redis import GarbageError, OptionalRedis, RedisAwayError, Windows
from shared.server.call_slots import HeavyUsers
from shared.server.handlers import Call, Hooks, Method, Step
from shared.server.interceptors import weight
from shared.server.rates import Rate

# Each is remembered for as long as the window.
_MOST_CALLS = 100_000
_LONGEST_WINDOW = 24 * 60 * 60
# Of the clocks that are compared, and of Redis, which writes times with fourteen digits.
_LEAST_WAIT = 0.001
_MEMORY_BYTES: Final = 16 * 1024 * 1024
# What a user's window costs beside its times, and what each of those does.
_WINDOW_BYTES = 400
_TIME_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class RateLimitSettings:
    """How often users and callers may call; see `access` of either service."""

    rates: Mapping[str, Rate]
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


class WindowsInMemory:
    """Windows of this process, the latest used of them in so much memory. Thread-safe.

    The storage of `limits` itself looks at every user a hundred times a second to find out whose
    window is over, which with 20,000 users costs 2 ms of CPU a call, and has no bound.
    """

    def __init__(self) -> None:
        self._times: LRUCache[str, deque[float]] = LRUCache(_MEMORY_BYTES, getsizeof=_size)
        self._lock = Lock()

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """See Windows."""
        now = time.time()
        with self._lock:
            times = self._times.get(key)
            if times is None or times.maxlen != limit:
                times = deque(times or (), maxlen=limit)
            if len(times) > limit - amount and times[amount - 1] >= now - expiry:
                return False
            times.extend([now] * amount)
            self._times[key] = times
            return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """See Windows."""
        now = time.time()
        with self._lock:
            inside = [moment for moment in self._times.get(key, ()) if moment >= now - expiry]
        return (inside[0] if inside else now), min(limit, len(inside))

    def clear(self, key: str) -> None:
        """See Windows."""
        with self._lock:
            self._times.pop(key, None)


class RateLimits:
    """Counts the calls of users and callers. Thread-safe."""

    def __init__(
        self, settings: RateLimitSettings, *, service: str, redis: OptionalRedis | None
    ) -> None:
        self._rates = settings.rates
        self._here = WindowsInMemory()
        self._redis = redis
        self._shared = redis.windows(f"limits:{service}") if redis else None

    def admit(self, limit: str, who: str) -> None:
        """Count a call; raises RateLimitError, and does not count it, when there are too many."""
        rate = self._rates.get(limit)
        if rate is None:
            return
        seconds = self._wait(rate, f"{limit}:{who}")
        if seconds:
            raise RateLimitError(
                f"the rate limit is {rate}; retry later",
                reason=errors_pb2.ERROR_REASON_RATE_LIMITED,
                metadata={"limit": limit.lower(), "rate": str(rate)},
                retry_after=timedelta(seconds=seconds),
            )

    def _wait(self, rate: Rate, key: str) -> float:
        windows = self._shared
        if self._redis is not None and windows is not None:
            try:
                return self._redis.ask("limit", lambda: _wait(windows, rate, key))
            except GarbageError:
                self._redis.try_to("clear", lambda: windows.clear(key))
            except RedisAwayError:
                pass
        return _wait(self._here, rate, key)


def limit_rates(limits: RateLimits, access: Access) -> Step:
    """Turn calls away that come more often than their user, or their caller, may make them.

    Stands inside `admit`, which finds the caller, and `report_errors`. A stream of requests names
    no user that could be known before it is read.
    """

    def step(method: Method) -> Hooks:
        rule = access.get(method.name)
        limit = "" if rule is None else rule.limit.name

        def begin(call: Call) -> None:
            if call.caller is not None:
                limits.admit(CALLERS, call.caller.name)
            user_id = _user_id(call)
            if user_id is not None:
                limits.admit(limit, str(user_id))

        return Hooks(begin=begin)

    return step


def limit_heavy_users(users: HeavyUsers, access: Access) -> Step:
    """Turn heavy calls away whose user has too many under way.

    Stands inside `admit`, or strangers could use up what a user may have under way.
    """

    def step(method: Method) -> Hooks:
        if weight(access.get(method.name)) is not Weight.HEAVY:
            return Hooks()

        def begin(call: Call) -> None:
            user_id = _user_id(call)
            if user_id is not None:
                users.enter(user_id)
                call.heavy_user_id = user_id

        def end(call: Call) -> None:
            if call.heavy_user_id is not None:
                users.leave(call.heavy_user_id)

        return Hooks(begin=begin, end=end)

    return step


def _user_id(call: Call) -> int | None:
    """Return the user of a call; None when it has none, and for ids that will be refused anyway."""
    user_id = getattr(call.request, "user_id", None)
    if user_id is None and call.caller is not None:
        user_id = call.caller.user_id
    return user_id if isinstance(user_id, int) and user_id > 0 else None


def _wait(windows: Windows, rate: Rate, key: str) -> float:
    """Return 0 for a call that is let in, and counted, or the seconds until one will be."""
    seconds = rate.seconds
    if windows.acquire_entry(key, rate.amount, seconds):
        return 0.0
    oldest, calls = windows.get_moving_window(key, rate.amount, seconds)
    if calls < rate.amount:
        # It became old enough just now.
        return _LEAST_WAIT
    left = oldest + seconds - time.time()
    if left > seconds:
        # A call of the future: a clock was set back, or another program wrote it. It would count
        # against the user until that time.
        windows.clear(key)
        return 0.0
    return max(left, 0.0) + _LEAST_WAIT


def _size(times: deque[float]) -> int:
    return _WINDOW_BYTES + _TIME_BYTES * len(times)


def _rate(environment: Environment, name: str, default: str) -> Rate | None:
    """Read how often something may be done, such as `10/minute`; None for `off`."""
    text = environment.text(name, default)
    if text.lower() == "off":
        return None
    try:
        rate = Rate.parse(text)
    except ValueError:
        environment.problem(name, f"must be a rate such as 10/minute or 100/5 minutes; is {text!r}")
        return None
    if not (0 < rate.amount <= _MOST_CALLS and 0 < rate.seconds <= _LONGEST_WINDOW):
        environment.problem(name, f"must be from 1 to {_MOST_CALLS} in at most a day, or off")
    return rate
