"""A gRPC proxy that passes every call with one request on, and lets a test act on either side."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import grpc

_ENDLESS_SECONDS = 1e9
# Streams, and the calls that a test stops.
_THREADS = 64
# What every client says of itself.
_OWN = "user-agent"

Hook = Callable[[str], None]


class Gate(grpc.GenericRpcHandler):
    """Stands between two services; it knows no message, only bytes."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.insecure_channel(target)
        self._under_way = set[grpc.Call]()
        self._server = grpc.server(ThreadPoolExecutor(_THREADS))
        self._server.add_generic_rpc_handlers((self,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self.before_call: Hook = lambda _method: None
        self.after_call: Hook = lambda _method: None
        self._server.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop."""
        self._server.stop(None).wait()
        self._channel.close()

    def break_calls(self) -> None:
        """Break every call under way, as a crash of the server would."""
        for call in list(self._under_way):
            call.cancel()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """Return a handler that passes the call on."""
        path = handler_call_details.method
        method = path.rsplit("/", 1)[-1]
        # On the wire a call with one answer is a stream of one message.
        call: grpc.UnaryStreamMultiCallable[bytes, bytes] = self._channel.unary_stream(path)

        def forward(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            self.before_call(method)
            remaining = context.time_remaining()
            # Without a deadline it is so large a number that a client takes it for the past.
            has_deadline = remaining is not None and remaining < _ENDLESS_SECONDS
            answers = call(
                request,
                timeout=remaining if has_deadline else None,
                metadata=tuple(
                    (key, value) for key, value in context.invocation_metadata() if key != _OWN
                ),
            )

            def hang_up() -> None:
                answers.cancel()

            context.add_callback(hang_up)
            self._under_way.add(answers)
            try:
                for answer in answers:
                    self.after_call(method)
                    yield answer
            except grpc.RpcError as error:
                context.abort(error.code(), error.details() or "")
            finally:
                self._under_way.discard(answers)

        return grpc.unary_stream_rpc_method_handler(forward)
