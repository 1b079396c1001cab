"""PostgreSQL, both services as processes of several workers, and proxies that can fail between."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg2
import sqlalchemy

from shared.database.embedded_postgres import EmbeddedPostgres
from tests.chaos.history import Comparison, History, compared
from tests.chaos.load import Traffic, connect
from tests.chaos.proxy import FaultProxy
from tests.support.pair import Databases
from tests.support.ports import free_port
from tests.support.processes import ServiceProcess, Session, until

WORKERS: Final = 2
_ENVIRONMENT: Final = {
    "GRAPH_WORKERS": str(WORKERS),
    "FEED_WORKERS": str(WORKERS),
    "MAX_CONNECTION_AGE_SECONDS": "10",
    # The same few users make many calls.
    "RATE_LIMITS": "off",
    "MAX_OPEN_REQUESTS": "100000",
}
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The services of one fault, on databases of their own, and what is between them.

    `graph_url` and `feed_url` lead to the databases directly, the services go through the proxies.
    """

    graph: ServiceProcess
    feed: ServiceProcess
    graph_url: str
    feed_url: str
    graph_database: FaultProxy
    feed_database: FaultProxy
    between: FaultProxy
    variables: Mapping[str, str]
    logs: Path

    def traffic(self, *, clients: int = 8, environment: Mapping[str, str] | None = None) -> Traffic:
        """Return a load on both, whose clients know each other."""
        traffic = Traffic(
            graph=self.graph.address,
            feed=self.feed.address,
            clients=clients,
            environment=environment or {},
        )
        connect(traffic)
        return traffic

    def another(self, service: str, name: str, settings: Mapping[str, str]) -> ServiceProcess:
        """Start another instance of a service, on the same databases."""
        # Each instance of the feed reads fences, and so listens for them.
        fences = {"FENCES_PORT": str(free_port())} if service == "feed_service" else {}
        variables = {**self.variables, **fences, **settings}
        return ServiceProcess(service, variables, self.logs / f"{name}.log")

    def compared(self, history: History) -> Comparison:
        """Return what is there of what clients were told."""
        return compared(history, graph_url=self.graph_url, feed_url=self.feed_url)

    @property
    def processes(self) -> list[int]:
        """The workers of both services."""
        return [*self.graph.workers(), *self.feed.workers()]


class Stage:
    """One PostgreSQL for all faults, which no other test uses."""

    def __init__(self, directory: Path, cluster: EmbeddedPostgres) -> None:
        self._directory = directory
        self._url = cluster.url("postgres")
        self._databases = Databases(cluster)
        self._scenes = 0

    @contextmanager
    def scene(
        self, environment: Mapping[str, str] | None = None, feed: Mapping[str, str] | None = None
    ) -> Iterator[Scene]:
        """Start both services with fences; `environment` is added to the settings of both.

        `feed` is added to those of the feed alone.
        """
        fences = free_port()
        variables = {
            **_ENVIRONMENT,
            "FENCE_KEEPERS": f"127.0.0.1:{fences}",
            **(environment or {}),
        }
        with ExitStack() as stack:
            graph_url, variables["GRAPH_DATABASE_URL"], graph_database = self._database(
                "graph", stack
            )
            feed_url, variables["FEED_DATABASE_URL"], feed_database = self._database("feed", stack)
            logs = self.folder()
            graph = stack.enter_context(
                ServiceProcess("graph_service", variables, logs / "graph.log")
            )
            host, _, port = graph.address.rpartition(":")
            between = stack.enter_context(FaultProxy(host, int(port)))
            variables["GRAPH_TARGET"] = between.address
            own = {**variables, "FENCES_PORT": str(fences), **(feed or {})}
            started = stack.enter_context(ServiceProcess("feed_service", own, logs / "feed.log"))
            scene = Scene(
                graph=graph,
                feed=started,
                graph_url=graph_url,
                feed_url=feed_url,
                graph_database=graph_database,
                feed_database=feed_database,
                between=between,
                variables=variables,
                logs=logs,
            )
            if not variables.get("TLS_CERT_FILE"):
                until(lambda: graph.is_serving("ready") and started.is_serving("ready"))
            # Until then no connection can be changed.
            until(lambda: _has_keeper(graph_url))
            yield scene

    def folder(self) -> Path:
        """Return a new directory, for logs and the like."""
        self._scenes += 1
        folder = self._directory / f"scene-{self._scenes}"
        folder.mkdir()
        return folder

    def new_database(self, service: str) -> str:
        """Return the URL of a new empty database."""
        return self._databases.new(service)

    def kill_postmaster(self) -> float:
        """Kill PostgreSQL, which is started again; returns when it accepted connections again."""
        before = self._postmaster()
        os.kill(before, signal.SIGKILL)
        until(lambda: self._postmaster() not in {0, before})
        return self.wait_until_accepting()

    def wait_until_accepting(self) -> float:
        """Return when PostgreSQL accepts connections."""
        until(lambda: _accepts(self._url))
        return time.monotonic()

    def kill_backend(self, url: str) -> float:
        """Kill one session of a database; PostgreSQL then breaks all and recovers.

        Returns when it accepted connections again.
        """
        with Session(url) as session:
            [victim, *_] = session.others()
        os.kill(victim, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{victim}").exists())
        return self.wait_until_accepting()

    @contextmanager
    def stopped_postgres(self) -> Iterator[None]:
        """Stop every process of PostgreSQL in the block, as a frozen machine would."""
        postmaster = self._postmaster()
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        pids = [postmaster, *map(int, children)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def _database(self, service: str, stack: ExitStack) -> tuple[str, str, FaultProxy]:
        """Return the URL of a new database, the one that leads through a proxy, and the proxy."""
        url = self._databases.new(service)
        parsed = sqlalchemy.make_url(url)
        proxy = stack.enter_context(FaultProxy(parsed.host or "127.0.0.1", parsed.port or 5432))
        through = parsed.set(host="127.0.0.1", port=proxy.port)
        return url, through.render_as_string(hide_password=False), proxy

    def _postmaster(self) -> int:
        try:
            lines = (self._directory / "postgres" / "postgres" / "postmaster.pid").read_text()
            return int(lines.split()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return 0


@contextmanager
def prepared_stage() -> Iterator[Stage]:
    """Start PostgreSQL in a directory that is removed afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="kith-chaos-"))
    directory.chmod(0o755)
    try:
        with EmbeddedPostgres(directory / "postgres") as cluster:
            yield Stage(directory, cluster)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def resident_bytes(pids: Sequence[int]) -> int:
    """Return how much memory of some processes is in RAM."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE for pid in pids)


def _has_keeper(graph_url: str) -> bool:
    with Session(graph_url) as session:
        return bool(session.rows("SELECT target FROM fence_keepers"))


def _accepts(url: str) -> bool:
    try:
        with Session(url):
            return True
    except psycopg2.OperationalError:
        return False
