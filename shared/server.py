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

from shared.health import HealthServicer, Readiness, add_to_server
from shared.interceptors import Around, identify, log_call, measure, report_errors
from shared.metrics import ServerMetrics
from shared.settings import ServerSettings

_LAST_ROUND_SECONDS = 2
# For those beyond the streams that there may be: each is told so at once.
_SPARE_STREAM_THREADS = 8
_log = logging.getLogger("kith.server")


@dataclass(frozen=True, kw_only=True)
class Service:
    """What distinguishes one of Kith's services from the other.

    `add_to` registers the servicer on a server, `checks` must all pass for the service to be ready,
    `check_grace` gives a check that was good the seconds for which it may fail. `stream_threads`
    names the methods whose streams last for as long as their clients like, and how many of each
    there may be: they get threads of their own, and `drain` ends them. `close` releases what the
    servicer holds once no call is left.
    """

    name: str
    add_to: Callable[[grpc.Server], None]
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
        self._health = HealthServicer(service_names=[service.name])
        self._readiness = Readiness(
            self._health, checks=service.checks, grace_seconds=service.check_grace
        )
        self._stream_threads = {
            f"/{service.name}/{method}": ThreadPoolExecutor(
                number + _SPARE_STREAM_THREADS, thread_name_prefix=method
            )
            for method, number in service.stream_threads.items()
        }
        self._server = grpc.server(
            ThreadPoolExecutor(settings.threads, thread_name_prefix="call"),
            interceptors=[
                Around(
                    [identify, measure(ServerMetrics(service.registry)), log_call, report_errors],
                    threads=self._stream_threads,
                )
            ],
            options=_options(settings),
        )
        service.add_to(self._server)
        add_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (service.name, "grpc.health.v1.Health", reflection.SERVICE_NAME), self._server
        )
        self.port = self._server.add_insecure_port(f"{settings.host}:{settings.port}")
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
        self._service.close()


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
