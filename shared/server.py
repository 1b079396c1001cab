"""The gRPC server as Kith runs it: limits, health, reflection, metrics port, drain.

The order of a stop: health says NOT_SERVING and streams that have no end are ended, load balancers
get the drain period to notice, new calls are refused, calls in flight get the grace period to
finish.
"""

import logging
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import FrameType

import grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry, start_http_server

from shared.access.credentials import Credentials
from shared.access.rules import Access
from shared.access.steps import admit, audit
from shared.certificates import server_credentials
from shared.health import HealthServicer, Readiness, add_to_server
from shared.interceptors import Around, Step, identify, log_call, measure, report_errors
from shared.metrics import ServerMetrics
from shared.settings import ServerSettings

_LAST_ROUND_SECONDS = 2
# For those beyond the streams that there may be: each is told so at once.
_SPARE_STREAM_THREADS = 8
_log = logging.getLogger("kith.server")


@dataclass(frozen=True, kw_only=True)
class Service:
    """What distinguishes one of Kith's services from the other.

    `add_to` registers the servicer on a server, `access` says who may make its calls. `checks` must
    all pass for the service to be ready, `check_grace` gives a check that was good the seconds for
    which it may fail. `stream_threads` names the methods whose streams last for as long as their
    clients like, and how many of each there may be: they get threads of their own, and `drain` ends
    them. `close` releases what the servicer holds once no call is left.
    """

    name: str
    add_to: Callable[[grpc.Server], None]
    access: Access
    registry: CollectorRegistry
    checks: Mapping[str, Callable[[], None]]
    close: Callable[[], None]
    check_grace: Mapping[str, float] = field(default_factory=dict)
    stream_threads: Mapping[str, int] = field(default_factory=dict)
    drain: Callable[[], None] = lambda: None


class RunningServer:
    """A started server. Several may run in one process: there is no global state."""

    def __init__(self, settings: ServerSettings, service: Service) -> None:
        self._settings = settings
        self._service = service
        self._credentials = Credentials(settings.auth) if settings.auth else None
        self._health = HealthServicer(service_names=[service.name])
        self._readiness = Readiness(
            self._health, checks=self._checks(), grace_seconds=service.check_grace
        )
        self._stream_threads = {
            f"/{service.name}/{method}": ThreadPoolExecutor(
                number + _SPARE_STREAM_THREADS, thread_name_prefix=method
            )
            for method, number in service.stream_threads.items()
        }
        self._server = grpc.server(
            ThreadPoolExecutor(settings.threads, thread_name_prefix="call"),
            interceptors=[Around(self._steps(), threads=self._stream_threads)],
            options=_options(settings),
        )
        service.add_to(self._server)
        add_to_server(self._health, self._server)
        if settings.reflection:
            reflection.enable_server_reflection(
                (service.name, "grpc.health.v1.Health", reflection.SERVICE_NAME), self._server
            )
        self.port = self._bind()
        self._metrics, _ = start_http_server(
            settings.metrics_port, addr=settings.host, registry=service.registry
        )
        self.metrics_port = int(self._metrics.server_address[1])
        self._server.start()
        self._readiness.start()

    @property
    def address(self) -> str:
        """Where the server listens, as host:port."""
        return f"{self._settings.host}:{self.port}"

    def stop(self) -> None:
        """Drain, finish what is in flight within the grace period, release everything."""
        self._readiness.stop()
        self._health.drain()
        self._service.drain()
        threading.Event().wait(self._settings.drain.total_seconds())
        self._server.stop(self._settings.grace.total_seconds()).wait()
        self._health.close()
        for threads in self._stream_threads.values():
            threads.shutdown(wait=False)
        self._metrics.shutdown()
        self._metrics.server_close()
        self._readiness.join(_LAST_ROUND_SECONDS)
        if self._credentials is not None:
            self._credentials.close()
        self._service.close()

    def _checks(self) -> Mapping[str, Callable[[], None]]:
        if self._credentials is None:
            return self._service.checks
        return {**self._service.checks, "signing keys": self._credentials.check}

    def _steps(self) -> Sequence[Step]:
        access = self._service.access
        outer = [identify, measure(ServerMetrics(self._service.registry)), log_call, report_errors]
        admitted = [] if self._credentials is None else [admit(self._credentials, access)]
        return [*outer, *admitted, audit(access)]

    def _bind(self) -> int:
        address = f"{self._settings.host}:{self._settings.port}"
        files = self._settings.certificates
        if files is None:
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, server_credentials(files))


def run_until_stopped(settings: ServerSettings, service: Service) -> None:
    """Serve until SIGTERM or SIGINT, then stop gracefully. For composition roots only."""
    stopping = threading.Event()

    def on_signal(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    server = RunningServer(settings, service)
    _log.info("serving", extra={"address": server.address, "metrics_port": server.metrics_port})
    stopping.wait()
    _log.info("stopping")
    server.stop()
    _log.info("stopped")


def _options(settings: ServerSettings) -> Sequence[tuple[str, int]]:
    return (
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # Two servers on one port would each get a share of the calls; only workers may do that.
        ("grpc.so_reuseport", 0),
        # grpcio answers clients that ping more often than this with GOAWAY "too_many_pings".
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    )
