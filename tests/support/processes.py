"""The services as a person runs them: processes with an environment, logs and signals."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc
import psycopg2
import sqlalchemy
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from kith.graph.v1.graph_pb2_grpc import GraphServiceStub
from tests.support import citus, programs

# Ceilings that only something broken reaches: beside many other processes, a start takes a minute.
_WITHIN_SECONDS = 240
_CALL_SECONDS = 60
_ENVIRONMENT = {
    "PAGE_TOKEN_KEYS": "a key for tests that is long enough to be taken",
    "GRAPH_WORKERS": "1",
    "GRAPH_PORT": "0",
    "GRAPH_METRICS_PORT": "0",
    "RATE_LIMITS": "off",
    "GRAPH_READY_GRACE_SECONDS": "0.5",
    "FEED_WORKERS": "1",
    "FEED_PORT": "0",
    "FEED_METRICS_PORT": "0",
    "DRAIN_SECONDS": "0.2",
    "GRACE_SECONDS": "20",
    # A stop does not wait for clients that stay connected.
    "MAX_CONNECTION_AGE_SECONDS": "0",
}


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    layout = citus.layout_of(environment.get("FEED_DATABASE_URL", ""))
    return {**os.environ, **_ENVIRONMENT, "FEED_LAYOUT": layout, **environment}


def until(is_true: Callable[[], object], *, within_seconds: float = _WITHIN_SECONDS) -> float:
    """Wait for something, and return for how long; fails when it takes too long."""
    started = time.monotonic()
    while not is_true():
        assert time.monotonic() - started < within_seconds, "waited in vain"
        time.sleep(0.02)
    return time.monotonic() - started


def is_ready(address: str) -> bool:
    """Whether a service without certificates says that it is ready.

    One that was started on a busy machine may say so later: the first round of its checks may be
    too slow for it. Until then clients that heed health make no calls.
    """
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service="ready")
        response = health_pb2_grpc.HealthStub(channel).Check(request, timeout=_CALL_SECONDS)
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


def run(
    module: str, environment: Mapping[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run a service, or the command line, which is expected to end by itself."""
    variables = _variables(environment)
    return programs.run(module, *arguments, environment=variables, together=True)


class ServiceProcess:
    """One running service, started `by_exec` for tests of that itself."""

    def __init__(
        self,
        service: str,
        environment: Mapping[str, str],
        log: Path,
        *,
        by_exec: bool = False,
    ) -> None:
        self._log = log
        self.service = service
        with log.open("wb") as output:
            self._process = programs.start(
                service,
                environment=_variables(environment),
                output=output,
                by_exec=by_exec,
            )
        try:
            until(self._is_serving)
        except BaseException:
            self.kill()
            raise
        [serving] = self.logged("serving")
        self.address: str = serving["address"]
        self.metrics_port: int = serving["metrics_port"]
        self.channel = grpc.insecure_channel(self.address)
        self._health = health_pb2_grpc.HealthStub(self.channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.channel.close()
        self.kill()

    def is_serving(self, name: str) -> bool:
        """Whether health says so of a name."""
        request = health_pb2.HealthCheckRequest(service=name)
        response = self._health.Check(request, timeout=_CALL_SECONDS, wait_for_ready=True)
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    def workers(self) -> list[int]:
        """Return the processes that serve, the oldest first: its workers, or itself."""
        pid = self._process.pid
        children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return [child for child in children if is_there(child)] or [pid]

    def metrics_directory(self) -> Path:
        """Return where its workers count."""
        variables = Path(f"/proc/{self.workers()[0]}/environ").read_bytes().split(b"\0")
        [directory] = [
            value.decode()
            for name, _, value in (variable.partition(b"=") for variable in variables)
            if name == b"PROMETHEUS_MULTIPROC_DIR"
        ]
        return Path(directory)

    def logs(self) -> list[dict[str, Any]]:
        """Return every line of the log, each of which has to be a JSON object."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        assert all(isinstance(line, dict) for line in lines)
        return lines

    def logged(self, message: str) -> list[dict[str, Any]]:
        """Return the lines of the log with a message."""
        lines = self._log.read_text().splitlines()
        found = [json.loads(line) for line in lines if f'"{message}"' in line]
        return [line for line in found if line["message"] == message]

    def metrics(self) -> str:
        """Return what Prometheus would read."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=_CALL_SECONDS) as response:
            return str(response.read().decode())

    def total(self, metric: str) -> float:
        """Return what a counter says over all its labels."""
        counter = rf"^{metric}(?:\{{.*\}})? (\S+)$"
        return sum(map(float, re.findall(counter, self.metrics(), re.MULTILINE)))

    def counted(self, metric: str, method: str) -> float:
        """Return what a counter says of a method, over all codes."""
        counter = rf'^{metric}\{{.*grpc_method="{method}".*\}} (\S+)$'
        return sum(map(float, re.findall(counter, self.metrics(), re.MULTILINE)))

    def terminate(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to stop, as every supervisor does."""
        self._process.send_signal(how)

    def wait(self) -> int:
        """Wait for its end and return its exit status."""
        return self._process.wait(_WITHIN_SECONDS)

    def kill(self) -> None:
        """End it without a chance to say good-bye."""
        self._process.kill()
        self._process.wait()

    def _is_serving(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        return '"serving"' in self._log.read_text()


@dataclass(frozen=True, kw_only=True)
class ProcessPair:
    """Both services as processes, and clients for them."""

    graph_process: ServiceProcess
    feed_process: ServiceProcess
    graph_url: str
    feed_url: str

    @property
    def graph(self) -> GraphServiceStub:
        """A client of graph_service."""
        return GraphServiceStub(self.graph_process.channel)

    @property
    def feed(self) -> FeedServiceStub:
        """A client of feed_service."""
        return FeedServiceStub(self.feed_process.channel)


@contextmanager
def running_processes(
    *, graph_url: str, feed_url: str, logs: Path, environment: Mapping[str, str] | None = None
) -> Iterator[ProcessPair]:
    """Start both services and wait until they are ready."""
    variables = {
        **(environment or {}),
        "GRAPH_DATABASE_URL": graph_url,
        "FEED_DATABASE_URL": feed_url,
    }
    with ExitStack() as stack:
        graph = stack.enter_context(ServiceProcess("graph_service", variables, logs / "graph.log"))
        variables["GRAPH_TARGET"] = graph.address
        feed = stack.enter_context(ServiceProcess("feed_service", variables, logs / "feed.log"))
        for process in (graph, feed):
            until(lambda process=process: process.is_serving("ready"))  # type: ignore[misc]  # mypy knows no default of a lambda
        yield ProcessPair(
            graph_process=graph, feed_process=feed, graph_url=graph_url, feed_url=feed_url
        )


class Session:
    """A session of the test's own in a database, to watch it and to get in the way."""

    def __init__(self, url: str) -> None:
        parsed = sqlalchemy.make_url(url)
        self._connection = psycopg2.connect(
            host=parsed.host,
            port=parsed.port,
            user=parsed.username,
            password=parsed.password,
            dbname=parsed.database,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._connection.close()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement in the transaction that the session is in, and return its rows."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            # A row of no columns is a row: its description is empty, and that of no rows is None.
            return [] if cursor.description is None else cursor.fetchall()

    def commit(self) -> None:
        """End the transaction, and so let go of its locks."""
        self._connection.commit()

    def waiting(self) -> list[int]:
        """Return the pids of the backends of this database that wait for a lock."""
        return [
            pid
            for (pid,) in self.rows(
                "SELECT pid FROM pg_locks WHERE NOT granted AND database ="
                " (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        ]

    def others(self) -> list[int]:
        """Return the pids of the other backends of this database."""
        return [
            pid
            for (pid,) in self.rows(
                "SELECT pid FROM pg_stat_get_activity(NULL) WHERE pid <> pg_backend_pid() AND"
                " datid = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        ]


def is_there(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        # It had gone before the file was opened, or went before it was read.
        return False
