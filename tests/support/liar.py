"""A server in front of another that breaks promises of its own: what a check has to notice.

It passes on every call, with its metadata and its deadline, but for those that it lies about.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import grpc

_LONG: Final = 3600.0

Honest: TypeAlias = Callable[[bytes], bytes]
"""Gets the answer to a request."""
Lie: TypeAlias = Callable[[bytes, Honest, grpc.ServicerContext], bytes]
"""Answers a request, or aborts the call."""


def unimplemented(_request: bytes, _honest: Honest, context: grpc.ServicerContext) -> bytes:
    """Answer as a server does that knows no call at all."""
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


@dataclass(frozen=True, kw_only=True)
class _Calls(grpc.GenericRpcHandler):
    """Handles each call by its name; a lie under the empty name is about all calls."""

    channel: grpc.Channel
    lies: Mapping[str, Lie]

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return what answers a call."""
        path = str(handler_call_details.method)
        sent = [
            (key, value)
            for key, value in handler_call_details.invocation_metadata
            if not key.startswith((":", "grpc-")) and key != "user-agent"
        ]
        lie = self.lies.get(path.rpartition("/")[2], self.lies.get(""))
        return grpc.stream_stream_rpc_method_handler(self._answering(path, sent, lie))

    def _answering(
        self, path: str, sent: list[tuple[str, str | bytes]], lie: Lie | None
    ) -> Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]:
        call: Any = self.channel.stream_stream(path)

        def answer(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            def passed_on(messages: Iterator[bytes]) -> Iterator[bytes]:
                # Without a deadline it is hundreds of years, which no call can be given.
                left = min(context.time_remaining() or _LONG, _LONG)
                under_way = call(messages, timeout=left, metadata=tuple(sent))
                context.add_callback(under_way.cancel)
                try:
                    context.send_initial_metadata(under_way.initial_metadata())
                    yield from under_way
                except grpc.RpcError as error:
                    _abort(error, context)

            if lie is None:
                yield from passed_on(requests)
            else:
                yield lie(next(requests), lambda sent: next(passed_on(iter([sent]))), context)

        return answer


def _abort(error: grpc.RpcError, context: grpc.ServicerContext) -> None:
    assert isinstance(error, grpc.Call)
    context.set_trailing_metadata(error.trailing_metadata() or ())
    context.abort(error.code(), error.details() or "")


@contextmanager
def lying(target: str, lies: Mapping[str, Lie]) -> Iterator[str]:
    """Start one in front of a server; yields its address."""
    with grpc.insecure_channel(target) as channel, ThreadPoolExecutor(8) as threads:
        server = grpc.server(threads)
        server.add_generic_rpc_handlers((_Calls(channel=channel, lies=lies),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()
