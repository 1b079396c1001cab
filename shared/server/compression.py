"""Answers compressed by gzip, for callers who accept that.

grpcio hides from handlers what a caller accepts, and `ServicerContext.set_compression` compresses
also for a caller who does not. gRPC itself goes by what the caller accepts if the server has a
default level. It would compress every message then, so the short ones are excepted here.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import grpc

from shared.server.handlers import LEFT_ALONE

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
else:
    Handler = grpc.RpcMethodHandler  # generic in the stubs only

# Of two levels that mean gzip to gRPC; both are zlib's default.
_LOW: Final = 1


def compression_options(from_bytes: int) -> Sequence[tuple[str, int]]:
    """Return the options of a server that compresses; 0 bytes is never."""
    return [("grpc.default_compression_level", _LOW)] if from_bytes else []


class Compression(grpc.ServerInterceptor):
    """Leaves answers uncompressed that have fewer bytes, each message of a stream by itself.

    It comes inside `Around`, which says on which threads a handler runs.
    """

    def __init__(self, from_bytes: int) -> None:
        self._from_bytes = from_bytes

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the handler, which makes bytes of its answers itself: their number is wanted."""
        handler = continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(LEFT_ALONE):
            return handler
        if handler.response_streaming:
            return self._streaming(handler)
        return self._single(handler)

    def _single(self, handler: Handler) -> Handler:
        behavior: Any = handler.stream_unary if handler.request_streaming else handler.unary_unary
        factory: Callable[..., Handler] = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )

        def respond(request: object, context: grpc.ServicerContext) -> bytes:
            return self._written(handler, behavior(request, context), context)

        return factory(respond, request_deserializer=handler.request_deserializer)

    def _streaming(self, handler: Handler) -> Handler:
        behavior: Any = handler.stream_stream if handler.request_streaming else handler.unary_stream
        factory: Callable[..., Handler] = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )

        def respond(request: object, context: grpc.ServicerContext) -> Iterator[bytes]:
            for message in behavior(request, context):
                yield self._written(handler, message, context)

        return factory(respond, request_deserializer=handler.request_deserializer)

    def _written(self, handler: Handler, message: object, context: grpc.ServicerContext) -> bytes:
        serialize: Any = handler.response_serializer
        written: bytes = serialize(message)
        if len(written) < self._from_bytes:
            context.disable_next_message_compression()
        return written
