"""The gRPC server as Kith runs it: limits, health, reflection, metrics port, drain.

The order of a stop: health says NOT_SERVING and streams that have no end are ended, load balancers
get the drain period to notice. New connections are taken no more. Those that are open reach the age
at which gRPC tells their clients to go elsewhere, which it does without a loss. What is still in
flight gets the grace period to finish.
"""

import logging
import signal
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Final

import grpc

from kith.client.channel_options import LEAST_PING_SECONDS
from kith.tls.certificates import server_credentials
from shared.access.credentials import Credentials
from shared.access.rules import Access
from shared.periodic import Periodic
from shared.processes.descriptors import most_connections
from shared.processes.memory import RETURN_SECONDS, FreeMemory
from shared.processes.metrics import describe_process
from shared.processes.metrics_port import MetricsPort
from shared.processes.ports import has_connections, reserved, stop_listening, written
from shared.processes.signals import Signals
from shared.processes.workers import LISTENING, READY, WorkerSlot
from shared.server.admission import admit, audit, refuse_suspended
from shared.server.call_slots import CALLS_OPEN, STREAMS_OF_A_CONNECTION, CallSlots, HeavyUsers
from shared.server.compression import Compression, compression_options
from shared.server.handlers import Around, Step, methods
from shared.server.health import HealthServicer, add_to_server
from shared.server.incoming import MOST_HEADER_BYTES, MessageTimeouts
from shared.server.interceptors import (
    count_rejections,
    identify,
    limit_time,
    log_call,
    measure,
    report_errors,
    require_message,
    take_slots,
)
from shared.server.internal_port import InternalPort
from shared.server.metrics import ServerMetrics, UsageMetrics, call_threads, passing_checks
from shared.server.rate_limits import limit_heavy_users, limit_rates
from shared.server.readiness import Readiness
from shared.server.reflection import enable_reflection
from shared.server.service import InternalCalls, Service
from shared.server.settings import ServerSettings
from shared.server.tracing import tracing
from shared.server.unreadable_headers import shorten_log

_LAST_ROUND_SECONDS = 2
_OBSERVE_SECONDS = 1
# gRPC scatters the ages of connections by a tenth, so that not all clients return at once.
_SCATTERED = 1.1
_LAST_CLIENTS_SECONDS = 3.0
# A call that waits is taken sooner, also if the one before it is as large as may be.
_QUIET_SECONDS = 1.0
_POLL_SECONDS = 0.05
# For those beyond the streams that there may be: each is told so at once.
_SPARE_STREAM_THREADS = 8
_REFUSAL_THREADS = 2
_PENDING_CALLS = 20_000
# A client that means well has sent its first frames within a round trip or two.
_HANDSHAKE_SECONDS = 10
_REFUSING: Final = (report_errors, require_message)
_log = logging.getLogger("kith.server")


class RunningServer:
    """A started server. Several may run in one process: there is no global state.

    With a `slot` it is one of several workers that share a port. Their supervisor binds the port
    and serves their metrics.

    Raises ListenError when it cannot listen.
    """

    def __init__(
        self, settings: ServerSettings, service: Service, slot: WorkerSlot | None = None
    ) -> None:
        """Start the service and its server; a failure closes the service, as `stop` does."""
        self._settings = settings
        self._service = service
        self._worker_slot = slot
        shorten_log()
        with ExitStack() as resources:
            resources.callback(service.close)
            self._credentials = _credentials(settings, resources)
            self._tracing = tracing(settings.trace_collector, service=service.process_name)
            resources.callback(self._tracing.close)
            self._health = HealthServicer(service_names=[service.name])
            resources.callback(self._health.close)
            self._readiness = self._new_readiness()
            self._slots = CallSlots(settings.threads, queue=settings.queue)
            self._metrics = ServerMetrics(service.registry)
            self._server = self._new_server(resources)
            self._bound = None if slot else reserved(settings.host, settings.port)
            if self._bound is not None:
                resources.callback(self._bound.close)
            self.metrics_port = 0 if slot else self._serve_metrics(resources)
            self._start(resources)
            self._resources = resources.pop_all()

    @property
    def address(self) -> str:
        """Where the server listens, as host:port."""
        return written(self._settings.host, self.port)

    def stop(self, *, ends_service: bool = True) -> None:
        """Drain, finish what is in flight within the grace period, release everything.

        When others go on serving here, health says nothing of it, and streams last until their
        clients have been told to go: those who began again sooner might come here again.
        """
        if ends_service:
            self._end_streams()
        time.sleep(self._settings.drain.total_seconds())
        stop_listening(self.port)
        self._wait_for_clients()
        deadline = time.monotonic() + self._settings.grace.total_seconds()
        self._wait_for_calls(deadline)
        self._end_streams()
        self._server.stop(max(0.0, deadline - time.monotonic())).wait()
        self._resources.close()

    def _end_streams(self) -> None:
        self._health.drain()
        self._service.drain()

    def _wait_for_clients(self) -> None:
        """Wait until the clients have gone that were told to go."""
        age = self._settings.max_connection_age.total_seconds()
        if not age:
            return
        deadline = time.monotonic() + age * _SCATTERED + _LAST_CLIENTS_SECONDS
        while has_connections(self.port) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def _wait_for_calls(self, deadline: float) -> None:
        """Wait until the calls are taken that have arrived: gRPC would cancel them.

        They wait for one another, for instance while calls with much metadata are copied. Clients
        that have not gone although they were told, or were told nothing, are waited for no longer
        than this.
        """
        if not self._settings.max_connection_age:
            return
        before = -1
        while before != self._around.taken and time.monotonic() < deadline:
            before = self._around.taken
            if not has_connections(self.port):
                return
            time.sleep(_QUIET_SECONDS)

    def _new_readiness(self) -> Readiness:
        service = self._service
        passing = passing_checks(service.registry)
        keys = {} if self._credentials is None else {"signing keys": self._credentials.check}
        return Readiness(
            self._health,
            checks={**service.checks, **keys},
            grace_seconds=service.check_grace,
            when_ready=lambda: self._tell(READY),
            report=lambda name, passes: passing.labels(name).set(passes),
        )

    def _new_server(self, resources: ExitStack) -> grpc.Server:
        service = self._service
        threads = {
            f"/{service.name}/{method}": _threads(
                method, number + _SPARE_STREAM_THREADS, resources=resources
            )
            for method, number in service.stream_threads.items()
        }
        timeouts = MessageTimeouts(many=CALLS_OPEN // 2, most=CALLS_OPEN * 3 // 4)
        resources.callback(timeouts.close)
        least = self._settings.compress_from_bytes
        compression = [Compression(least)] if least else []
        self._around = Around(
            self._steps(),
            threads=threads,
            timeouts=timeouts,
            refusals=_threads("refusal", _REFUSAL_THREADS, resources=resources),
            refusing=_REFUSING,
        )
        server = grpc.server(
            ThreadPoolExecutor(CALLS_OPEN, thread_name_prefix="call"),
            interceptors=[self._around, *compression],
            options=_options(self._settings),
        )
        service.add_to(server)
        add_to_server(self._health, server)
        if self._settings.reflection:
            enable_reflection(server, service.name)
        return server

    def _serve_metrics(self, resources: ExitStack) -> int:
        describe_process(self._service.registry)
        port = MetricsPort(self._settings.host, self._settings.metrics_port, self._service.registry)
        resources.callback(port.close)
        return port.port

    def _start(self, resources: ExitStack) -> None:
        service = self._service
        call_threads(service.registry).set(self._settings.threads)
        usage = UsageMetrics(
            service.registry, slots=self._slots.usage, connections=service.connections
        )
        memory = FreeMemory()
        service.start()
        if service.internal is not None:
            self._serve_internal(service.internal, resources)
        # A worker that joins others on a port gets a share of the calls at once.
        self._readiness.check()
        self.port = self._bind()
        self._server.start()
        self._tell(LISTENING)
        self._readiness.start()
        resources.callback(self._readiness.join, _LAST_ROUND_SECONDS)
        resources.callback(self._readiness.stop)
        rounds = [Periodic("memory", memory.return_if_grown, interval_seconds=RETURN_SECONDS)]
        if self._worker_slot is not None:
            rounds.append(Periodic("usage", usage.observe, interval_seconds=_OBSERVE_SECONDS))
        for each in rounds:
            each.start()
            resources.callback(each.stop)

    def _tell(self, what: str) -> None:
        if self._worker_slot is not None:
            self._worker_slot.tell(what)

    def _steps(self) -> Sequence[Step]:
        service = self._service
        access, limits = service.access, service.rate_limits
        outer = self._outer_steps(service.name, access, self._slots, service.stream_threads)
        limited = [] if limits is None else [limit_rates(limits, access)]
        limited.append(limit_heavy_users(HeavyUsers(), access))
        positioned = [] if service.positions is None else [service.positions]
        not_suspended = refuse_suspended(service.suspended, access)
        return [*outer, not_suspended, *limited, *positioned, audit(access)]

    def _outer_steps(
        self, service: str, access: Access, slots: CallSlots, elsewhere: Collection[str]
    ) -> Sequence[Step]:
        """Return what is around the calls of every port, up to their admission."""
        for method in methods(service):
            self._metrics.of(method.kind, method.service, method.name)
        admitted = [] if self._credentials is None else [admit(self._credentials, access)]
        return [
            identify,
            self._tracing.step,
            measure(self._metrics),
            log_call,
            report_errors,
            count_rejections(self._metrics),
            require_message,
            limit_time(self._settings.usual_deadline),
            take_slots(slots, access, elsewhere=elsewhere),
            *admitted,
        ]

    def _serve_internal(self, calls: InternalCalls, resources: ExitStack) -> None:
        slots = CallSlots(calls.threads, queue=self._settings.queue)
        port = InternalPort(
            self._settings,
            calls,
            steps=self._outer_steps(calls.name, calls.access, slots, ()),
            refusing=_REFUSING,
            shares_port=self._worker_slot is not None,
        )
        resources.callback(port.stop)

    def _bind(self) -> int:
        port = self._bound.getsockname()[1] if self._bound else self._settings.port
        address = written(self._settings.host, port)
        files = self._settings.certificates
        if files is None:
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, server_credentials(files))


def run_until_stopped(
    settings: ServerSettings, service: Service, slot: WorkerSlot | None = None
) -> None:
    """Serve until a signal, then stop gracefully. For composition roots only.

    SIGTERM and SIGINT end the service, SIGHUP only this process: another process replaces it.
    """
    signals = Signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    server = RunningServer(settings, service, slot)
    where = {"address": server.address}
    if slot is None:
        _log.info("serving", extra={**where, "metrics_port": server.metrics_port})
    else:
        _log.info("listening", extra={**where, "slot": slot.number})
    while not signals.received:
        signals.wait()
    _log.info("stopping")
    server.stop(ends_service=signals.received != {signal.SIGHUP})
    _log.info("stopped")


def _credentials(settings: ServerSettings, resources: ExitStack) -> Credentials | None:
    if settings.auth is None:
        return None
    return resources.enter_context(closing(Credentials(settings.auth)))


def _threads(name: str, number: int, *, resources: ExitStack) -> ThreadPoolExecutor:
    threads = ThreadPoolExecutor(number, thread_name_prefix=name)
    resources.callback(threads.shutdown, wait=False)
    return threads


def _options(settings: ServerSettings) -> Sequence[tuple[str, int]]:
    return (
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # Past the first gRPC would refuse calls by chance, and past the second always, both without
        # a reason. So both are the same, and far beyond the limit that is told to callers.
        ("grpc.max_metadata_size", MOST_HEADER_BYTES),
        ("grpc.absolute_max_metadata_size", MOST_HEADER_BYTES),
        # For workers. Who did not mean to share the port is refused by `reserved`.
        ("grpc.so_reuseport", 1),
        ("grpc.max_concurrent_streams", max(STREAMS_OF_A_CONNECTION, 2 * settings.threads)),
        # Calls that no thread has taken yet: beyond a thousand gRPC ends some, and beyond three
        # thousand all, as CANCELLED and without a word; here each gets an answer that says why.
        ("grpc.server.max_pending_requests", _PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", _PENDING_CALLS),
        # It counts calls as open that are over until Python's garbage collector finds them, and so
        # refuses callers who had none.
        ("grpc.http.overload_protection", 0),
        # So that connections spread over workers as these come and go; 0 is for ever.
        *_max_age(settings),
        # Clients that connect and send nothing. Those that go on are told to go for their age.
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_SECONDS * 1_000),
        ("grpc.max_allowed_incoming_connections", most_connections()),
        # grpcio answers clients that ping more often than this with GOAWAY "too_many_pings".
        ("grpc.http2.min_recv_ping_interval_without_data_ms", round(LEAST_PING_SECONDS * 1_000)),
        ("grpc.keepalive_permit_without_calls", 1),
        *compression_options(settings.compress_from_bytes),
    )


def _max_age(settings: ServerSettings) -> Sequence[tuple[str, int]]:
    age = settings.max_connection_age
    return [("grpc.max_connection_age_ms", round(age.total_seconds() * 1000))] if age else []
