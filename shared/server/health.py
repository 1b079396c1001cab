"""The standard health protocol, answered off the threads that serve calls.

grpcio's own servicer (1.85) keeps a lock while it sends, and the server's only completion thread
waits for this lock when a watching client disconnects: the whole server hangs (grpc/grpc pull
request 43403). Here a change only wakes the watchers; each reads the status and sends it from a
thread of its own without a lock. A slow or dead watcher does not delay others, and one that is
slower than the changes sees the latest of them.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc

from kith.exceptions import ValidationError
from shared.server.call_slots import on_threads
from shared.server.incoming import MessageTimeouts, reading, require_readable

LIVE = "live"
READY = "ready"

_SERVICE = "grpc.health.v1.Health"
_ANSWER_THREADS = 8
_SPARE_WATCH_THREADS = 8
_log = logging.getLogger("kith.health")

_Status: TypeAlias = "pb.HealthCheckResponse.ServingStatus"


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Says whether the process lives and whether the service is ready.

    `live` is SERVING for as long as the process answers at all. `ready`, the empty name and the
    names of the services are SERVING when the last round of checks was good, and NOT_SERVING for
    ever once draining has begun.
    """

    def __init__(self, *, service_names: Sequence[str], max_watchers: int = 1024) -> None:
        self._names = frozenset({READY, "", *service_names})
        self._max_watchers = max_watchers
        self._ready = False
        self._draining = False
        self._lock = threading.Lock()
        self._watchers = set[threading.Event]()
        # A client that sends no name with its call only takes threads.
        self._timeouts = MessageTimeouts(many=0)
        self._answers = ThreadPoolExecutor(_ANSWER_THREADS, thread_name_prefix="health")
        self._watches = ThreadPoolExecutor(
            max_watchers + _SPARE_WATCH_THREADS, thread_name_prefix="health-watch"
        )

    def set_ready(self, ready: bool) -> None:  # noqa: FBT001 -- there is nothing else it could mean
        """Change what all names but `live` answer."""
        if ready != self._ready:
            self._ready = ready
            self._wake_watchers()

    def drain(self) -> None:
        """Answer NOT_SERVING from now on, and end all watches once they were told."""
        self._draining = True
        self._wake_watchers()

    def close(self) -> None:
        """End all watches and let go of the threads."""
        self.drain()
        self._timeouts.close()
        self._answers.shutdown(wait=False)
        self._watches.shutdown(wait=False)

    def Check(  # noqa: N802 -- named by the proto
        self, request: pb.HealthCheckRequest, context: grpc.ServicerContext
    ) -> pb.HealthCheckResponse:
        """Answer one name's status; NOT_FOUND for an unknown one."""
        status = self._status(request.service)
        if status == pb.HealthCheckResponse.SERVICE_UNKNOWN:
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return pb.HealthCheckResponse(status=status)

    def List(  # noqa: N802 -- named by the proto
        self,
        request: pb.HealthListRequest,  # noqa: ARG002 -- empty
        context: grpc.ServicerContext,  # noqa: ARG002 -- gRPC passes it
    ) -> pb.HealthListResponse:
        """Answer the status of every name."""
        return pb.HealthListResponse(
            statuses={
                name: pb.HealthCheckResponse(status=self._status(name))
                for name in {*self._names, LIVE}
            }
        )

    def Watch(  # noqa: N802 -- named by the proto
        self, request: pb.HealthCheckRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.HealthCheckResponse]:
        """Send the status at once and then every change; an unknown name may become known."""
        woken = threading.Event()
        with self._lock:
            is_refused = len(self._watchers) >= self._max_watchers
            if not is_refused:
                self._watchers.add(woken)
        if is_refused:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watchers")
        try:
            # Runs on the server's only completion thread, which must not wait for anything.
            context.add_callback(woken.set)
            yield from self._changes(request.service, context, woken)
        finally:
            with self._lock:
                self._watchers.remove(woken)

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a server needs to serve this, with the threads for it."""
        once, again = grpc.stream_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        methods: Mapping[str, tuple[Any, ThreadPoolExecutor, Any, Any]] = {
            "Check": (once, self._answers, self.Check, pb.HealthCheckRequest),
            "List": (once, self._answers, self.List, pb.HealthListRequest),
            "Watch": (again, self._watches, self.Watch, pb.HealthCheckRequest),
        }
        return grpc.method_handlers_generic_handler(
            _SERVICE,
            {
                name: make(
                    on_threads(threads, self._reading(answer)),
                    reading(request.FromString),
                    _serialized,
                )
                for name, (make, threads, answer, request) in methods.items()
            },
        )

    def _reading(self, answer: Callable[..., Any]) -> Callable[..., Any]:
        """Return a handler that reads the request, as those of all other calls do."""

        def read_and_answer(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
            request = self._timeouts.only(requests, context)
            try:
                require_readable(request)
            except ValidationError as error:
                context.abort(error.code, error.message)
            return answer(request, context)

        return read_and_answer

    def _changes(
        self, name: str, context: grpc.ServicerContext, woken: threading.Event
    ) -> Iterator[pb.HealthCheckResponse]:
        sent: _Status | None = None
        while True:
            # Cleared before anything is looked at, so that no change can be missed.
            woken.clear()
            if not context.is_active():
                return
            is_last = self._draining
            status = self._status(name)
            if status != sent:
                yield pb.HealthCheckResponse(status=status)
                sent = status
            if is_last:
                return
            woken.wait()

    def _status(self, name: str) -> _Status:
        if name == LIVE:
            return pb.HealthCheckResponse.SERVING
        if name not in self._names:
            return pb.HealthCheckResponse.SERVICE_UNKNOWN
        if self._ready and not self._draining:
            return pb.HealthCheckResponse.SERVING
        return pb.HealthCheckResponse.NOT_SERVING

    def _wake_watchers(self) -> None:
        with self._lock:
            for woken in self._watchers:
                woken.set()


def _serialized(response: Message) -> bytes:
    return bytes(response.SerializeToString())


def add_to_server(servicer: HealthServicer, server: grpc.Server) -> None:
    """Let a server answer health."""
    server.add_generic_rpc_handlers((servicer.handler(),))
