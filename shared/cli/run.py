"""`kith run`: everything on this machine, until Ctrl-C."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from grpc_health.v1.health_pb2_grpc import HealthStub
from rich.console import Console

from kith.cli.clients import connected
from kith.cli.pages import print_feed
from kith.cli.terminal import CommandError, progress
from kith.client import KithClient
from kith.client.settings import FEED, GRAPH
from kith.environment import Environment
from kith.exceptions import AppException
from kith.graph.v1 import graph_pb2
from shared.cli.databases import migrate
from shared.cli.loading import is_empty, load_sample
from shared.cli.photos import HOST as PHOTOS_HOST
from shared.cli.photos import PhotoStore, is_installed
from shared.cli.ports import free_port
from shared.cli.processes import READY_SECONDS, ServiceProcess, wait_until_ready
from shared.cli.sample import FEWEST_PEOPLE, make_sample
from shared.database.embedded_postgres import data_folder
from shared.database.settings import DatabaseSettings
from shared.private_files import private_folder
from shared.processes.ports import reachable
from shared.server.settings import ServerSettings

_SAMPLE_PERSON = 17
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_WATCH_SECONDS = 0.5
_FENCES_PORT = 50053


@dataclass(frozen=True, kw_only=True)
class _Setup:
    """What to start, and where."""

    graph: ServerSettings
    feed: ServerSettings
    data_dir: Path
    sample_people: int
    fences_port: int
    """Where feed_service is told of changes of connections; 0 if it is not."""
    photos_port: int | None
    """Where to start an object store; None when another is configured, or none is wanted."""

    @property
    def graph_target(self) -> str:
        return reachable(self.graph.host, self.graph.port)

    @property
    def feed_target(self) -> str:
        return reachable(self.feed.host, self.feed.port)

    @property
    def fence_keeper(self) -> str:
        return reachable(self.feed.host, self.fences_port) if self.fences_port else ""


def run(console: Console) -> None:
    """Start PostgreSQL and both services, load the sample, and stay until told to stop.

    Raises CommandError when something cannot start or ends by itself; everything is stopped then.
    """
    setup = _setup()
    for number in _SIGNALS:
        # Also SIGINT, which a shell without job control has its background processes ignore.
        signal.signal(number, signal.default_int_handler)
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        try:
            _run(setup, stack, console)
        finally:
            # Everything has to be stopped, also when Ctrl-C is pressed again meanwhile.
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            console.print("Stopping ...")


def _run(setup: _Setup, stack: ExitStack, console: Console) -> None:
    private_folder(setup.data_dir, is_passed_through=os.geteuid() == 0)
    store = _object_store(setup, stack)
    console.print("Starting PostgreSQL ...")
    migrate(stack)
    if store:
        store.create_bucket()
    console.print("Starting graph_service and feed_service ...")
    graph = stack.enter_context(_service("graph", setup.graph, setup))
    feed = stack.enter_context(_service("feed", setup.feed, setup, store))
    processes = [graph, feed, *([store] if store else [])]
    kith = stack.enter_context(connected(graph=setup.graph_target, feed=setup.feed_target))
    wait_until_ready(
        [(graph, HealthStub(kith.graph_channel)), (feed, HealthStub(kith.feed_channel))]
    )
    if setup.fence_keeper and "FENCE_KEEPERS" not in os.environ:
        _wait_until_changes_are_made(kith, graph)
    try:
        _load_once(setup, kith, console)
        _welcome(setup, kith, store, console)
    except AppException:
        _require_alive(processes)
        raise
    while True:
        time.sleep(_WATCH_SECONDS)
        _require_alive(processes)


def _wait_until_changes_are_made(kith: KithClient, graph: ServiceProcess) -> None:
    """Return when graph_service has registered feed_service, which it tells of each change."""
    deadline = time.monotonic() + READY_SECONDS
    query = graph_pb2.GetConnectedUserIdsRequest.UserQuery(user_id=_SAMPLE_PERSON)
    request = graph_pb2.GetConnectedUserIdsRequest(users=[query])
    while not kith.graph.GetConnectedUserIds(request).fence_keepers:
        graph.require_alive()
        if time.monotonic() > deadline:
            raise CommandError(
                "graph_service could not register feed_service; its log says why. If feed_service "
                "had another FENCES_PORT before, see docs/operating.md"
            )
        time.sleep(_WATCH_SECONDS / 10)


def _require_alive(processes: Sequence[ServiceProcess]) -> None:
    for process in processes:
        process.require_alive()


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """What `kith run` starts besides the services."""

    people: int
    """How many people the sample has: KITH_SAMPLE_PEOPLE."""
    has_photos: bool
    """Whether there is an object store: KITH_PHOTOS."""

    @classmethod
    def read(cls, environment: Environment) -> "SampleSettings":
        """Read the variables."""
        return cls(
            people=environment.integer(
                "KITH_SAMPLE_PEOPLE", 2_000, minimum=FEWEST_PEOPLE, maximum=100_000
            ),
            has_photos=environment.switch("KITH_PHOTOS", default=True),
        )


def _setup() -> _Setup:
    environment = Environment(os.environ)
    graph = ServerSettings.read(environment, "GRAPH", port=50051, metrics_port=9101)
    feed = ServerSettings.read(environment, "FEED", port=50052, metrics_port=9102)
    data_dir = DatabaseSettings.read(environment, "GRAPH").data_dir
    sample = SampleSettings.read(environment)
    # The address is registered in the database, so it is the same at each start. Where callers are
    # authenticated, graph_service needs credentials for it.
    fences_port = environment.port("FENCES_PORT", 0 if feed.auth else _FENCES_PORT)
    has_store = bool(environment.text("S3_BUCKET", ""))
    environment.check()
    with ExitStack() as ports:
        # All at once, so that no two of them get the same free port.
        return _Setup(
            graph=_with_ports(graph, "GRAPH", ports),
            feed=_with_ports(feed, "FEED", ports),
            data_dir=data_dir,
            sample_people=sample.people,
            fences_port=free_port(feed.host, fences_port, "FENCES_PORT", ports)
            if fences_port
            else 0,
            photos_port=free_port(PHOTOS_HOST, 0, "KITH_PHOTOS", ports)
            if sample.has_photos and not has_store and is_installed()
            else None,
        )


def _with_ports(server: ServerSettings, prefix: str, ports: ExitStack) -> ServerSettings:
    """Check that the ports are free, and put a free one where 0 asks for any."""
    return replace(
        server,
        port=free_port(server.host, server.port, f"{prefix}_PORT", ports),
        metrics_port=free_port(server.host, server.metrics_port, f"{prefix}_METRICS_PORT", ports),
    )


def _object_store(setup: _Setup, stack: ExitStack) -> PhotoStore | None:
    if setup.photos_port is None:
        return None
    return stack.enter_context(
        PhotoStore(setup.photos_port, log=setup.data_dir / "object_store.log")
    )


def _service(
    name: str, server: ServerSettings, setup: _Setup, store: PhotoStore | None = None
) -> ServiceProcess:
    return ServiceProcess(
        f"{name}_service",
        environment={
            **(store.settings if store else {}),
            f"{name.upper()}_WORKERS": os.environ.get(f"{name.upper()}_WORKERS") or "1",
            f"{name.upper()}_PORT": str(server.port),
            f"{name.upper()}_METRICS_PORT": str(server.metrics_port),
            "GRAPH_TARGET": setup.graph_target,
            "FENCES_PORT": str(setup.fences_port),
            "FENCE_KEEPERS": os.environ.get("FENCE_KEEPERS", setup.fence_keeper),
            "KITH_DATA_DIR": str(setup.data_dir),
        },
        log=setup.data_dir / f"{name}_service.log",
    )


def _load_once(setup: _Setup, kith: KithClient, console: Console) -> None:
    """Load the sample unless it was loaded before, or the graph holds other data."""
    loading, loaded = setup.data_dir / "sample.loading", setup.data_dir / "sample.loaded"
    if loaded.exists():
        return
    if not loading.exists() and not is_empty(kith):
        console.print("The graph is not empty, so no sample is loaded.")
        return
    loading.touch()
    console.print(f"Loading a sample of {setup.sample_people:,} people, once:", highlight=False)
    with progress(console) as bar:
        load_sample(make_sample(setup.sample_people), kith, bar)
    loading.rename(loaded)


def _welcome(setup: _Setup, kith: KithClient, store: PhotoStore | None, console: Console) -> None:
    console.print()
    print_feed(_SAMPLE_PERSON, kith, console)
    console.print()
    console.rule("Kith is running")
    for name, server, target in (
        ("graph_service", setup.graph, setup.graph_target),
        ("feed_service", setup.feed, setup.feed_target),
    ):
        metrics = f"http://{reachable(server.host, server.metrics_port)}/metrics"
        _say(console, f"{name:<13}  gRPC {target}  metrics {metrics}")
    if store:
        _say(console, f"photos         {store.url}, in memory: they are lost when Kith stops")
    _say(console, f"logs and data  {setup.data_dir}")
    if not (data := data_folder(setup.data_dir)).is_relative_to(setup.data_dir.resolve()):
        _say(console, f"database       {data}, which PostgreSQL's own account can enter")
    _say(console, "\nTry, in another terminal:\n")
    for call in _calls_to_try(setup):
        _say(console, f"    {call}")
    _say(console, "\nCtrl-C stops everything; the data stays.")


def _calls_to_try(setup: _Setup) -> list[str]:
    kith = _shown(Path(sys.executable).with_name("kith"))
    graph, feed = (
        "" if target == default else f" --{name} {target}"
        for name, target, default in zip(
            ("graph", "feed"), (setup.graph_target, setup.feed_target), (GRAPH, FEED), strict=True
        )
    )
    return [
        f"{kith} feed {_SAMPLE_PERSON} --pages 2{feed}",
        f"{kith} digest {_SAMPLE_PERSON} --time-zone Europe/Lisbon{feed}",
        f"{kith} connections {_SAMPLE_PERSON}{graph}",
        f"{kith} export connections connections.csv{graph}",
    ]


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _say(console: Console, line: str) -> None:
    """Print a line as it is: a command that is broken in two cannot be pasted."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)
