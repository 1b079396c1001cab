"""Processes to measure, and what the kernel says of them: CPU time and memory. Linux only."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import grpc
from grpc_health.v1.health_pb2_grpc import HealthStub

from benchmarks.dataset import Dataset, connect
from kith.client import KithClient
from kith.graph.v1 import graph_pb2
from shared.cli.processes import ServiceProcess, wait_until_ready

# No byte is sent to the store: photos of the data set have keys, and URLs are signed locally.
PHOTO_STORE: Final = {
    "S3_BUCKET": "kith-photos",
    "S3_ENDPOINT_URL": "",
    "S3_REGION": "us-east-1",
    "S3_ADDRESSING_STYLE": "virtual",
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_SESSION_TOKEN": "",
}
_ENVIRONMENT: Final = {
    **PHOTO_STORE,
    "PAGE_TOKEN_KEYS": "a key for benchmarks that is long enough to be taken",
    "GRAPH_PORT": "0",
    "GRAPH_METRICS_PORT": "0",
    "FEED_PORT": "0",
    "FEED_METRICS_PORT": "0",
    # The same few users make many calls.
    "RATE_LIMITS": "off",
    "MAX_OPEN_REQUESTS": "100000",
    # Posts of the data set that are deleted stay deleted and unpurged.
    "PURGE_DAYS": "3650",
}
_START_SECONDS: Final = 60
_FOLLOW_SECONDS: Final = 1_800
TICKS: Final = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, precise to nanoseconds."""
    # The kernel's name for the clock of a process: see clock_getcpuclockid(3).
    return time.clock_gettime((~pid << 3) | 2)


def resident_bytes(pid: int) -> int:
    """Return how much memory of a process is in RAM."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class PostgresClock:
    """The CPU time of all sessions of PostgreSQL but this one, also of those that have ended."""

    def __init__(self, url: str) -> None:
        self._session = connect(url)
        self._own_pid = self._session.get_backend_pid()
        self._database = str(self._session.info.dbname)
        self._postmaster = parent_of(self._own_pid)

    def close(self) -> None:
        """End the session that is left out."""
        self._session.close()

    def seconds(self) -> float:
        """Return the CPU time until now."""
        ended_user, ended_system = stat(self._postmaster)[13:15]
        return self._running() + (int(ended_user) + int(ended_system)) / TICKS

    def seconds_here(self) -> float:
        """Return the CPU time until now in the database of the URL, without ended sessions."""
        return self._running(self._database)

    def _running(self, database: str = "") -> float:
        children = Path(f"/proc/{self._postmaster}/task/{self._postmaster}/children")
        pids = [int(pid) for pid in children.read_text().split()]
        return sum(_session_seconds(pid, database) for pid in pids if pid != self._own_pid)


def backend_cpu_seconds(session: Any) -> float:
    """Return the CPU time of the PostgreSQL process behind a session of psycopg2."""
    return cpu_seconds(session.get_backend_pid())


def _session_seconds(pid: int, database: str) -> float:
    """The CPU time of a session; nothing for the writers and cleaners of PostgreSQL itself."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        return cpu_seconds(pid) if title.startswith(f"postgres: kith {database}") else 0.0
    except OSError:
        return 0.0


def parent_of(pid: int) -> int:
    """Return the process that a process was started by: the postmaster of a backend."""
    return int(stat(pid)[1])


def stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the command's name, so from the third on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


class MeasuredProcess(ServiceProcess):
    """A process that says in its log where it serves."""

    def __init__(
        self, module: str, *arguments: str, environment: Mapping[str, str], log: Path
    ) -> None:
        super().__init__(module, *arguments, environment=environment, log=log)
        self._serving_log = log

    def address(self) -> str:
        """Wait until the process serves, and return where, as host:port."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            self.require_alive()
            for line in self._logged("serving"):
                return str(line["address"])
            time.sleep(0.05)
        raise TimeoutError(f"{self.module} does not serve; see {self._serving_log}")

    def cpu_seconds(self) -> float:
        """Return the CPU time that it has used, with that of its workers if it has any."""
        workers = [int(line["pid"]) for line in self._logged("worker started")]
        return sum(map(cpu_seconds, [self.pid, *workers]))

    def _logged(self, message: str) -> list[dict[str, Any]]:
        lines = self._serving_log.read_text().splitlines()
        return [json.loads(line) for line in lines if f'"{message}"' in line]


@dataclass(frozen=True, kw_only=True)
class RunningPair:
    """Both services, as processes, and a client of them."""

    graph: MeasuredProcess
    feed: MeasuredProcess
    graph_address: str
    feed_address: str
    kith: KithClient

    @property
    def pids(self) -> dict[str, int]:
        """The ids of the processes by name."""
        return {"graph": self.graph.pid, "feed": self.feed.pid}


def settings_of_services(*, graph_url: str, feed_url: str) -> dict[str, str]:
    """Return the settings with which both services are measured, on these databases."""
    return {
        **_ENVIRONMENT,
        "GRAPH_DATABASE_URL": _plain(graph_url),
        "FEED_DATABASE_URL": _plain(feed_url),
    }


@contextmanager
def running_pair(
    dataset: Dataset,
    *,
    logs: Path,
    graph_url: str = "",
    feed_url: str = "",
    workers: int = 1,
    settings: Mapping[str, str] | None = None,
    start: type[MeasuredProcess] = MeasuredProcess,
) -> Iterator[RunningPair]:
    """Run both services on a data set, or with its databases at other addresses, until ready."""
    environment = {
        **settings_of_services(
            graph_url=graph_url or dataset.graph_url, feed_url=feed_url or dataset.feed_url
        ),
        **(settings or {}),
        "GRAPH_WORKERS": str(workers),
        "FEED_WORKERS": str(workers),
    }
    with ExitStack() as stack:

        def started(module: str) -> tuple[MeasuredProcess, str]:
            log = logs / f"{module}.log"
            process = start(module, environment=environment, log=log)
            return stack.enter_context(process), process.address()

        graph, graph_address = started("graph_service")
        environment["GRAPH_TARGET"] = graph_address
        _mark_followed(dataset.feed_url, graph_address)
        feed, feed_address = started("feed_service")
        kith = stack.enter_context(
            KithClient.from_environment(graph=graph_address, feed=feed_address)
        )
        wait_until_ready(
            [(graph, HealthStub(kith.graph_channel)), (feed, HealthStub(kith.feed_channel))]
        )
        yield RunningPair(
            graph=graph,
            feed=feed,
            graph_address=graph_address,
            feed_address=feed_address,
            kith=kith,
        )


Calls: TypeAlias = "grpc.UnaryUnaryMultiCallable[bytes, bytes]"


@contextmanager
def calls_of(address: str, method: str) -> Iterator[Calls]:
    """Return a function that sends and receives bytes, so that all clients cost the same."""
    options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options=options) as channel:
        call: Calls = channel.unary_unary(method)
        yield call


def _mark_followed(feed_url: str, graph_address: str) -> None:
    """Let feed_service follow the graph from here on.

    Otherwise it would first look at all tags of the world for such of past connections, of which
    there are none.
    """
    with KithClient.from_environment(graph=graph_address) as kith:
        changes = kith.graph.WatchConnections(graph_pb2.WatchConnectionsRequest())
        newest = next(changes).cursor
        changes.cancel()
    with closing(connect(feed_url)) as session, session.cursor() as cursor:
        cursor.execute(
            "INSERT INTO followed (stream, cursor) VALUES ('connections', %s)"
            " ON CONFLICT (stream) DO UPDATE SET cursor = excluded.cursor",
            [newest],
        )


def _plain(url: str) -> str:
    return url.replace("+psycopg2", "")
