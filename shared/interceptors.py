"""What happens around every call, outermost first.

Each step is a context manager around the handler, so that it reads from top to bottom and holds for
unary and streaming calls alike. Health and reflection are left alone: they must answer whatever the
state of the rest, and health brings its own threads.
"""

import contextlib
import logging
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from shared import logs
from shared.database import statements_in_call
from shared.errors import AppException, InternalError, to_status
from shared.metrics import ServerMetrics
from shared.threads import on_threads

_LEFT_ALONE = ("/grpc.health.", "/grpc.reflection.")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_log = logging.getLogger("kith.calls")

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
else:
    Handler = grpc.RpcMethodHandler  # generic in the stubs only


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call as the steps around it see it."""

    service: str
    method: str
    kind: str
    context: grpc.ServicerContext
    request_id: str


Step = Callable[[Call], AbstractContextManager[None]]


class Around(grpc.ServerInterceptor):
    """Runs every handler inside the given steps, the first one outermost.

    The methods named in `threads` by their full paths run on those instead of the server's own.
    """

    def __init__(self, steps: Sequence[Step], *, threads: Mapping[str, ThreadPoolExecutor]) -> None:
        self._steps = steps
        self._threads = threads

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the method's handler with the steps around it."""
        handler = continuation(handler_call_details)
        path = handler_call_details.method
        if handler is None or path.startswith(_LEFT_ALONE):
            return handler
        _, service, method = path.split("/")
        kind = _kind(handler)

        @contextmanager
        def around(context: grpc.ServicerContext) -> Iterator[None]:
            call = Call(
                service=service,
                method=method,
                kind=kind,
                context=context,
                request_id=_request_id(handler_call_details),
            )
            with ExitStack() as stack:
                for step in self._steps:
                    stack.enter_context(step(call))
                yield

        return _wrapped(handler, around, threads=self._threads.get(path))


def identify(call: Call) -> AbstractContextManager[None]:
    """Give everything that is logged during the call its request id, and tell it to the caller."""
    call.context.set_trailing_metadata((("x-request-id", call.request_id),))
    return _set_request_id(call.request_id)


@contextmanager
def _set_request_id(request_id: str) -> Iterator[None]:
    token = logs.request_id.set(request_id)
    try:
        yield
    finally:
        # A stream's steps may end on another thread than they began on.
        with contextlib.suppress(ValueError):
            logs.request_id.reset(token)


def measure(metrics: ServerMetrics) -> Step:
    """Count the call, its code, its time and its SQL statements."""

    @contextmanager
    def step(call: Call) -> Iterator[None]:
        labels = (call.kind, call.service, call.method)
        metrics.started.labels(*labels).inc()
        count = [0]
        statements_in_call.set(count)
        started = time.perf_counter()
        failed = True
        try:
            yield
            failed = False
        finally:
            metrics.handling.labels(*labels).observe(time.perf_counter() - started)
            metrics.handled.labels(*labels, _code(call.context, failed=failed)).inc()
            metrics.statements.labels(call.service, call.method).observe(count[0])

    return step


@contextmanager
def log_call(call: Call) -> Iterator[None]:
    """Log one line when the call has ended."""
    started = time.perf_counter()
    failed = True
    try:
        yield
        failed = False
    finally:
        _log.info(
            "call",
            extra={
                "grpc_service": call.service,
                "grpc_method": call.method,
                "grpc_code": _code(call.context, failed=failed),
                "seconds": round(time.perf_counter() - started, 6),
                "peer": call.context.peer(),
            },
        )


@contextmanager
def report_errors(call: Call) -> Iterator[None]:
    """Answer exceptions as google.rpc.Status; what is not ours to tell becomes INTERNAL."""
    try:
        yield
    except AppException as error:
        if isinstance(error, InternalError):
            _log.exception("internal error")
        _abort(call, error)
    except Exception:  # noqa: BLE001 -- whatever it is, the caller gets a status without details
        _log.exception("unexpected error")
        _abort(
            call,
            InternalError(
                "internal error; the request id finds it in the log",
                metadata={"request_id": call.request_id},
            ),
        )


def _abort(call: Call, error: AppException) -> None:
    call.context.set_trailing_metadata(
        (
            ("x-request-id", call.request_id),
            ("grpc-status-details-bin", to_status(error).SerializeToString()),
        )
    )
    call.context.abort(error.code, error.message)


def _request_id(details: grpc.HandlerCallDetails) -> str:
    for key, value in details.invocation_metadata or ():
        if key == "x-request-id" and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return uuid.uuid4().hex


def _code(context: grpc.ServicerContext, *, failed: bool) -> str:
    code = context.code()  # type: ignore[attr-defined]  # since grpcio 1.45, not yet in the stubs
    if isinstance(code, grpc.StatusCode):
        return code.name
    if not context.is_active():
        return grpc.StatusCode.CANCELLED.name
    return (grpc.StatusCode.UNKNOWN if failed else grpc.StatusCode.OK).name


def _kind(handler: Handler) -> str:
    if handler.request_streaming:
        return "bidi_stream" if handler.response_streaming else "client_stream"
    return "server_stream" if handler.response_streaming else "unary"


def _wrapped(
    handler: Handler,
    around: Callable[[grpc.ServicerContext], AbstractContextManager[None]],
    *,
    threads: ThreadPoolExecutor | None,
) -> Handler:
    behavior: Any = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )

    def respond(request: object, context: grpc.ServicerContext) -> object:
        with around(context):
            return behavior(request, context)

    def stream(request: object, context: grpc.ServicerContext) -> Iterator[object]:
        with around(context):
            yield from behavior(request, context)

    wrapped: Callable[..., object] = stream if handler.response_streaming else respond
    if threads is not None:
        wrapped = on_threads(threads, wrapped)
    factory: Callable[..., Handler] = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    return factory(
        wrapped,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
