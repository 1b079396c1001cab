"""A gRPC proxy that passes every unary call on, and lets a test act before and after it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import grpc

Hook = Callable[[str], None]


class Gate(grpc.GenericRpcHandler):
    """Stands between two services; it knows no message, only bytes."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.insecure_channel(target)
        self._server = grpc.server(ThreadPoolExecutor(16))
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
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(path)

        def forward(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.before_call(method)
            try:
                response: bytes = call(request, timeout=context.time_remaining())
            except grpc.RpcError as error:
                context.abort(error.code(), error.details() or "")
            self.after_call(method)
            return response

        return grpc.unary_unary_rpc_method_handler(forward)
