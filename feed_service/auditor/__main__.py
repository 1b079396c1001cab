"""The composition root of the auditor: settings, databases, client, rounds, health and metrics."""

import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from feed_service.auditor.metrics import AuditorMetrics
from feed_service.auditor.primaries import Primaries, Primary
from feed_service.auditor.replays import Replays
from feed_service.auditor.rounds import Rounds
from feed_service.auditor.settings import AuditorSettings
from kith.client.channel_options import client_options
from kith.client.channels import open_channel
from kith.environment import SettingsError
from kith.exceptions import UnavailableError
from kith.feed.v1.feed_pb2_grpc import FeedServiceStub
from kith.tls.certificates import server_credentials
from shared import logs
from shared.database.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from shared.database.settings import DatabaseSettings
from shared.processes.metrics import describe_process
from shared.processes.metrics_port import MetricsPort
from shared.processes.ports import ListenError, reserved, written
from shared.processes.signals import Signals
from shared.server.health import HealthServicer, add_to_server
from shared.server.metrics import passing_checks
from shared.server.readiness import Readiness
from shared.server.unreadable_headers import shorten_log
from shared.setting_names import unknown_settings

_FEED_SERVICE = "kith.feed.v1.FeedService"
_HEALTH_THREADS = 2
_PING_SECONDS = 1.0
_STOP_SECONDS = 2
_CHECK_SECONDS = 5.0
_log = logging.getLogger("kith.auditor")


class RunningAuditor:
    """A started auditor; several may run in one process.

    Raises ListenError when it cannot listen.
    """

    def __init__(self, settings: AuditorSettings, *, graph_url: str, feed_url: str) -> None:
        """Start it; a failure closes what was opened."""
        self._settings = settings
        self.registry = CollectorRegistry()
        with ExitStack() as resources:
            pick = random.Random()  # noqa: S311 -- what chooses viewers need not be unpredictable
            options = client_options("feed", waits=False)
            channel = open_channel(settings.feed_target, settings.feed_access, options)
            resources.callback(channel.close)
            replays = Replays(FeedServiceStub(channel), pick=pick)
            primaries = resources.enter_context(
                closing(
                    Primaries(
                        Primary(settings.graph_database, graph_url),
                        Primary(settings.feed_database, feed_url),
                        pick=pick,
                    )
                )
            )
            self.rounds = Rounds(
                primaries,
                replays.by_call,
                AuditorMetrics(self.registry, calls=replays.by_call),
                decisions_per_second=settings.decisions_per_second,
                pick=pick,
            )
            self._health = HealthServicer(service_names=[])
            resources.callback(self._health.close)
            checks: dict[str, Callable[[], None]] = {"feed": _feed_check(channel)}
            for name, database, url in (
                ("graph_database", settings.graph_database, graph_url),
                ("feed_database", settings.feed_database, feed_url),
            ):
                # A session of its own, because the other belongs to the thread of the rounds.
                checks[name] = resources.enter_context(closing(Primary(database, url))).check
            passing = passing_checks(self.registry)
            self._readiness = Readiness(
                self._health,
                checks=checks,
                grace_seconds={},
                interval_seconds=_CHECK_SECONDS,
                report=lambda name, passes: passing.labels(name).set(passes),
            )
            self._serve(resources)
            self._readiness.check()
            self._readiness.start()
            resources.callback(self._readiness.join, _STOP_SECONDS)
            resources.callback(self._readiness.stop)
            self.rounds.start()
            resources.callback(self.rounds.stop)
            self._resources = resources.pop_all()

    @property
    def address(self) -> str:
        """Where health is served, as host:port."""
        return written(self._settings.host, self._port)

    def stop(self) -> None:
        """Say so to whoever asks for health, end the call that is under way, release everything."""
        self._health.drain()
        time.sleep(self._settings.drain.total_seconds())
        self._resources.close()

    def _serve(self, resources: ExitStack) -> None:
        settings = self._settings
        describe_process(self.registry)
        metrics = MetricsPort(settings.host, settings.metrics_port, self.registry)
        resources.callback(metrics.close)
        self.metrics_port = metrics.port
        bound = resources.enter_context(closing(reserved(settings.host, settings.port)))
        self._port = int(bound.getsockname()[1])
        threads = ThreadPoolExecutor(_HEALTH_THREADS, thread_name_prefix="call")
        resources.callback(threads.shutdown, wait=False)
        shorten_log()
        server = grpc.server(threads, options=[("grpc.so_reuseport", 1)])
        add_to_server(self._health, server)
        if settings.certificates is None:
            server.add_insecure_port(self.address)
        else:
            server.add_secure_port(self.address, server_credentials(settings.certificates))
        server.start()
        resources.callback(lambda: server.stop(_STOP_SECONDS).wait())


def _feed_check(channel: grpc.Channel) -> Callable[[], None]:
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=_FEED_SERVICE)

    def check() -> None:
        try:
            answer = stub.Check(request, timeout=_PING_SECONDS)
        except grpc.RpcError as error:
            raise UnavailableError("feed_service cannot be reached") from error
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise UnavailableError("feed_service is not ready")

    return check


def _url(service: str, database: DatabaseSettings, resources: ExitStack) -> str:
    if database.url:
        return database.url
    cluster = resources.enter_context(EmbeddedPostgres(database.data_dir))
    return cluster.url(f"kith_{service}")


def main() -> int:
    """Run until told to stop; returns the exit status."""
    try:
        settings = AuditorSettings.read(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    logs.configure(service="auditor", level=settings.log_level)
    for name, meant in unknown_settings(os.environ).items():
        _log.warning("unknown setting", extra={"variable": name, "meant": meant})
    signals = Signals(signal.SIGTERM, signal.SIGINT)
    try:
        with ExitStack() as resources:
            running = RunningAuditor(
                settings,
                graph_url=_url("graph", settings.graph_database, resources),
                feed_url=_url("feed", settings.feed_database, resources),
            )
            where = {"address": running.address, "metrics_port": running.metrics_port}
            _log.info("auditing", extra=where)
            while not signals.received:
                signals.wait()
            _log.info("stopping")
            running.stop()
    except EmbeddedPostgresError as error:
        _log.critical("no database", extra={"reason": str(error)})
        return 1
    except ListenError as error:
        _log.critical("cannot listen", extra={"reason": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
