"""What happens around every call, outermost first.

A step says what is done when a call begins, with what its handler raises, and when it has ended,
so that it holds for unary and streaming calls alike. What a step needs for a method, such as the
metrics with its labels, it looks up once and not in every call. Health and reflection are left
alone: they must answer whatever the state of the rest, and health brings its own threads.

Every handler is registered as that of a method that takes a stream of messages. On the wire that is
the same, and so it is here that messages are waited for: see `requests`.
"""

import logging
import math
import random
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import descriptor_pool

from kith.exceptions import AppException, DeadlineError, InternalError, RateLimitError, to_status
from shared import deadlines, logs
from shared.access.callers import Caller
from shared.access.rules import Access, Rule, Weight
from shared.database.database import statements_in_call
from shared.database.positions import Position
from shared.metrics import ServerMetrics
from shared.requests import Patience, are_too_large, reading, refused, require_readable
from shared.threads import CallSlots, Places, on_threads

_LEFT_ALONE = ("/grpc.health.", "/grpc.reflection.")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
# Less than this and the answer would come too late.
_LEAST_SECONDS = 0.002
_log = logging.getLogger("kith.calls")

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
else:
    Handler = grpc.RpcMethodHandler  # generic in the stubs only


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method as metrics and logs name it."""

    kind: str
    service: str
    name: str


def methods(service: str) -> Iterator[Method]:
    """Yield the methods of a contract, so that they are known before they are first called."""
    contract = descriptor_pool.Default().FindServiceByName(service)
    for method in contract.methods:
        kind = _kind(streams_in=method.client_streaming, streams_out=method.server_streaming)
        yield Method(kind=kind, service=service, name=method.name)


@dataclass(slots=True, kw_only=True)
class Call:
    """One call as the steps around it see it; `code` and `seconds` are known when it has ended.

    `request` is the message, or the iterator of a method that takes a stream of them. `caller` is
    known once the call was let in, and never where nobody is asked who they are. `commits` are the
    positions of what it has committed, where there are replicas. `slots` are those that it has
    taken, and `heavy_user_id` is for whom it counts as heavy.
    """

    context: grpc.ServicerContext
    request: object
    request_id: str
    started: float = field(default_factory=time.perf_counter)
    statements: list[int] = field(default_factory=lambda: [0])
    caller: Caller | None = None
    commits: list[Position] | None = None
    slots: list[Places] = field(default_factory=list)
    heavy_user_id: int | None = None
    has_failed: bool = True
    code: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What a step does in a call; `fail` gets what the handler, or a later step, has raised."""

    begin: Callable[[Call], None] | None = None
    fail: Callable[[Call, Exception], None] | None = None
    end: Callable[[Call], None] | None = None


Step = Callable[[Method], Hooks]
_NO_METHOD = Method(kind="unary", service="", name="")


class Around(grpc.ServerInterceptor):
    """Runs every handler inside the given steps, the first one outermost.

    The methods named in `threads` by their full paths run on those instead of the server's own, and
    `refusals` are the threads that refuse calls with large metadata, which must not wait for one:
    while they wait, grpcio keeps what it has copied. `refusing` are the steps around that for calls
    which have no others.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        *,
        threads: Mapping[str, ThreadPoolExecutor],
        patience: Patience | None = None,
        refusals: ThreadPoolExecutor | None = None,
        refusing: Sequence[Step] = (),
    ) -> None:
        self._steps = steps
        self._refusing_steps = refusing
        self._threads = threads
        self._patience = patience or Patience()
        self._refusals = refusals
        self._wrapped: dict[str, Handler] = {}
        self._refusing: dict[str, Handler] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the method's handler with the steps around it; grpcio asks in every call."""
        path = handler_call_details.method
        if are_too_large(handler_call_details.invocation_metadata):
            return self._refusing_handler(path, continuation(handler_call_details))
        if path in self._wrapped:
            return self._wrapped[path]
        handler = continuation(handler_call_details)
        if handler is None or path.startswith(_LEFT_ALONE):
            return handler
        wrapped = _wrapped(
            handler,
            [step(_method(path, handler)) for step in self._steps],
            received=self._patience.each if handler.request_streaming else self._patience.only,
            threads=self._threads.get(path),
        )
        return self._wrapped.setdefault(path, wrapped)

    def _refusing_handler(self, path: str, handler: Handler | None) -> Handler:
        """Return the handler that refuses a method's calls with large metadata, inside its steps.

        Health, reflection and all paths that callers make up share one.
        """
        steps, method = self._steps, _NO_METHOD
        if handler is None or path.startswith(_LEFT_ALONE):
            path, steps = "", self._refusing_steps
        else:
            method = _method(path, handler)
        if path not in self._refusing:
            self._refusing[path] = _wrapped(
                grpc.stream_unary_rpc_method_handler(refused),
                [step(method) for step in steps],
                received=refused,
                threads=self._refusals,
            )
        return self._refusing[path]


def identify(_method: Method) -> Hooks:
    """Give everything that is logged during the call its request id, and tell it to the caller.

    grpcio runs every call in a context of its own, which ends with it.
    """

    def begin(call: Call) -> None:
        logs.request_id.set(call.request_id)
        call.context.set_trailing_metadata(((logs.REQUEST_ID, call.request_id),))

    return Hooks(begin=begin)


def measure(metrics: ServerMetrics) -> Step:
    """Count the call, its code, its time and its SQL statements."""

    def step(method: Method) -> Hooks:
        calls = metrics.of(method.kind, method.service, method.name)
        statements = metrics.statements.labels(method.service, method.name)

        def begin(call: Call) -> None:
            calls.started.inc()
            statements_in_call.set(call.statements)

        def end(call: Call) -> None:
            calls.handling.observe(call.seconds)
            calls.handled[call.code].inc()
            statements.observe(call.statements[0])

        return Hooks(begin=begin, end=end)

    return step


def log_call(method: Method) -> Hooks:
    """Log one line when the call has ended."""
    line = logs.Line(_log, "call", grpc_service=method.service, grpc_method=method.name)

    def end(call: Call) -> None:
        line.write(
            f'"grpc_code": "{call.code}", "seconds": {call.seconds:.6f},'
            f' "peer": {logs.quoted(call.context.peer())}'
        )

    return Hooks(end=end)


def require_message(_method: Method) -> Hooks:
    """Refuse a call whose message cannot be read; of a stream of them each is when it is reached.

    Raises ValidationError.
    """

    def begin(call: Call) -> None:
        require_readable(call.request)

    return Hooks(begin=begin)


def limit_time(usual: timedelta) -> Step:
    """Hold a call to its caller's deadline, and to the usual time if the caller brings none.

    Raises DeadlineError when too little is left for an answer to arrive. Streams last as long as
    their callers like.
    """
    usual_seconds = usual.total_seconds()

    def step(method: Method) -> Hooks:
        most = usual_seconds if method.kind == "unary" else math.inf

        def begin(call: Call) -> None:
            left = min(call.context.time_remaining(), most)
            if left < _LEAST_SECONDS:
                raise DeadlineError("the deadline is too close to answer the call")
            deadlines.call_end.set(
                deadlines.CallEnd(time.monotonic() + left, call.context.is_active)
            )

        return Hooks(begin=begin)

    return step


def take_slots(slots: CallSlots, access: Access, *, elsewhere: Collection[str]) -> Step:
    """Let the call wait for the slots that its weight wants.

    The methods named in `elsewhere` see to that themselves. Raises what `Places.take` raises.
    """

    def step(method: Method) -> Hooks:
        if method.name in elsewhere:
            return Hooks()
        wanted = slots.of(weight(access.get(method.name)), is_stream=method.kind != "unary")

        def begin(call: Call) -> None:
            for places in wanted:
                places.take()
                call.slots.append(places)

        def end(call: Call) -> None:
            for places in call.slots:
                places.leave()

        return Hooks(begin=begin, end=end)

    return step


def weight(rule: Rule | None) -> Weight:
    """Return how much a call costs; one without a rule is refused later, which costs nothing."""
    return Weight.ORDINARY if rule is None else rule.weight


def report_errors(_method: Method) -> Hooks:
    """Answer exceptions as google.rpc.Status; what is not ours to tell becomes INTERNAL."""

    def fail(call: Call, error: Exception) -> None:
        if isinstance(error, InternalError):
            _log.exception("internal error")
        elif not isinstance(error, AppException):
            _log.exception("unexpected error")
            error = InternalError(
                "internal error; the log has the details under the request id",
                metadata={"request_id": call.request_id},
            )
        _abort(call, error)

    return Hooks(fail=fail)


def count_rejections(metrics: ServerMetrics) -> Step:
    """Count the calls that were turned away, by the reason that their callers are given.

    Stands inside `report_errors`, after which nothing is left to be told from.
    """

    def step(method: Method) -> Hooks:
        def fail(_call: Call, error: Exception) -> None:
            if isinstance(error, RateLimitError):
                reason = error.reason_name.lower()
                metrics.rejected.labels(method.service, method.name, reason).inc()

        return Hooks(fail=fail)

    return step


def _abort(call: Call, error: AppException) -> None:
    call.context.set_trailing_metadata(
        (
            (logs.REQUEST_ID, call.request_id),
            ("grpc-status-details-bin", to_status(error).SerializeToString()),
        )
    )
    call.context.abort(error.code, error.message)


def _request_id(context: grpc.ServicerContext) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == logs.REQUEST_ID and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    # A fifth of the cost of uuid4, which asks the kernel; it finds lines in a log and no more.
    return f"{random.getrandbits(128):032x}"


def _code(context: grpc.ServicerContext, *, failed: bool) -> str:
    code = context.code()  # type: ignore[attr-defined]  # since grpcio 1.45, not yet in the stubs
    if isinstance(code, grpc.StatusCode):
        return code.name
    if not context.is_active():
        return grpc.StatusCode.CANCELLED.name
    return (grpc.StatusCode.UNKNOWN if failed else grpc.StatusCode.OK).name


def _method(path: str, handler: Handler) -> Method:
    _, service, name = path.split("/")
    kind = _kind(streams_in=handler.request_streaming, streams_out=handler.response_streaming)
    return Method(kind=kind, service=service, name=name)


def _kind(*, streams_in: bool, streams_out: bool) -> str:
    if streams_in:
        return "bidi_stream" if streams_out else "client_stream"
    return "server_stream" if streams_out else "unary"


def _wrapped(
    handler: Handler,
    hooks: Sequence[Hooks],
    *,
    received: Callable[..., object],
    threads: ThreadPoolExecutor | None,
) -> Handler:
    behavior: Any = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    around = _Around(hooks)

    def respond(requests: Iterator[object], context: grpc.ServicerContext) -> object:
        request = received(requests, context)
        call = Call(context=context, request=request, request_id=_request_id(context))
        try:
            around.begin(call)
            response = behavior(request, context)
            call.has_failed = False
        except Exception as error:
            around.fail(call, error)
            raise
        finally:
            around.end(call)
        return response

    def stream(requests: Iterator[object], context: grpc.ServicerContext) -> Iterator[object]:
        request = received(requests, context)
        call = Call(context=context, request=request, request_id=_request_id(context))
        try:
            around.begin(call)
            yield from behavior(request, context)
            call.has_failed = False
        except Exception as error:
            around.fail(call, error)
            raise
        finally:
            around.end(call)

    wrapped: Callable[..., object] = stream if handler.response_streaming else respond
    if threads is not None:
        wrapped = on_threads(threads, wrapped)
    factory: Callable[..., Handler] = (
        grpc.stream_stream_rpc_method_handler
        if handler.response_streaming
        else grpc.stream_unary_rpc_method_handler
    )
    return factory(
        wrapped,
        request_deserializer=reading(handler.request_deserializer),
        response_serializer=handler.response_serializer,
    )


class _Around:
    """The hooks around a method. As three flat lists they cost a tenth of nested `with` blocks."""

    def __init__(self, hooks: Sequence[Hooks]) -> None:
        inside_out = hooks[::-1]
        self._begin = [some.begin for some in hooks if some.begin is not None]
        self._fail = [some.fail for some in inside_out if some.fail is not None]
        self._end = [some.end for some in inside_out if some.end is not None]

    def begin(self, call: Call) -> None:
        for begin in self._begin:
            begin(call)

    def fail(self, call: Call, error: Exception) -> None:
        for fail in self._fail:
            fail(call, error)

    def end(self, call: Call) -> None:
        call.seconds = time.perf_counter() - call.started
        call.code = _code(call.context, failed=call.has_failed)
        for end in self._end:
            end(call)
