"""Handlers with steps around them.

A step has hooks for when a call begins, when its handler raises, and when the call has ended, so
that it covers unary and streaming calls alike. A step looks up what it needs for a method, such as
the metrics with its labels, once and not in every call. Health and reflection have no steps: they
must answer in every state of the service, and health has its own threads.

Every handler is registered as that of a method that takes a stream of messages, which looks the
same on the wire. So the wait for a message happens here: see `incoming`.
"""

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf import descriptor_pool

from shared import logs
from shared.access.callers import Caller
from shared.database.positions import Position
from shared.server.call_slots import Slots, on_threads
from shared.server.incoming import MessageTimeouts, are_too_large, reading, refused

LEFT_ALONE: Final = ("/grpc.health.", "/grpc.reflection.")
"""The paths of the calls that have no steps begin with one of these."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")

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
    known once the call was admitted, and None without authentication. `commits` are the positions
    of the call's own commits, where there are replicas. `slots` are those that it has taken, and
    `heavy_user_id` is the user among whose heavy calls it counts.
    """

    context: grpc.ServicerContext
    request: object
    request_id: str
    started: float = field(default_factory=time.perf_counter)
    statements: list[int] = field(default_factory=lambda: [0])
    caller: Caller | None = None
    commits: list[Position] | None = None
    slots: list[Slots] = field(default_factory=list)
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

    Methods that `threads` names by their full paths run on its threads instead of the server's own.
    `refusals` are the threads that refuse calls with large metadata; these calls must not wait for
    a thread, because grpcio keeps the copied metadata meanwhile. `refusing` are the steps around
    refusals of calls that have no other steps.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        *,
        threads: Mapping[str, ThreadPoolExecutor],
        timeouts: MessageTimeouts | None = None,
        refusals: ThreadPoolExecutor | None = None,
        refusing: Sequence[Step] = (),
    ) -> None:
        self._steps = steps
        self._refusing_steps = refusing
        self._threads = threads
        self._timeouts = timeouts or MessageTimeouts()
        self._refusals = refusals
        self._wrapped: dict[str, Handler] = {}
        self._refusing: dict[str, Handler] = {}
        self.taken = 0
        """How many calls the server has taken."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the method's handler with the steps around it; grpcio asks in every call."""
        # grpcio takes calls in one thread.
        self.taken += 1
        path = handler_call_details.method
        if are_too_large(handler_call_details.invocation_metadata):
            return self._refusing_handler(path, continuation(handler_call_details))
        if path in self._wrapped:
            return self._wrapped[path]
        handler = continuation(handler_call_details)
        if handler is None or path.startswith(LEFT_ALONE):
            return handler
        wrapped = _wrapped(
            handler,
            [step(_method(path, handler)) for step in self._steps],
            received=self._timeouts.each if handler.request_streaming else self._timeouts.only,
            threads=self._threads.get(path),
        )
        return self._wrapped.setdefault(path, wrapped)

    def _refusing_handler(self, path: str, handler: Handler | None) -> Handler:
        """Return the handler that refuses a method's calls with large metadata, inside its steps.

        Health, reflection and all paths that callers make up share one.
        """
        steps, method = self._steps, _NO_METHOD
        if handler is None or path.startswith(LEFT_ALONE):
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
