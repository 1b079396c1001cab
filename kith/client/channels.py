"""Channels to the services, with what a client shows: a certificate, or a token, or nothing."""

import threading
from collections.abc import Callable
from typing import Any, Self

import grpc

from kith.client.channel_options import Options
from kith.client.renewed import GRACE_SECONDS, Renewed, RenewedMethod
from kith.client.settings import TargetSettings


def open_channel(target: str, settings: TargetSettings, options: Options) -> grpc.Channel:
    """Open a channel that shows what the settings say; nothing is sent before the first call."""
    if not settings.shows_something:
        return grpc.insecure_channel(target, options=options)
    return _Front(target, settings, options)


class _Front(grpc.Channel):
    """Makes every call on the channel of now, with the token of now. Thread-safe."""

    def __init__(self, target: str, settings: TargetSettings, options: Options) -> None:
        def connect(credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
            if credentials is None:
                return grpc.insecure_channel(target, options=options)
            return grpc.secure_channel(target, credentials, options=options)

        self._renewed = Renewed(settings, connect=connect, retire=self._retire)

    def unary_unary(self, *arguments: Any, **keywords: Any) -> Any:
        """Return a method to call."""
        return self._method(lambda channel: channel.unary_unary(*arguments, **keywords))

    def unary_stream(self, *arguments: Any, **keywords: Any) -> Any:
        """Return a method to call."""
        return self._method(lambda channel: channel.unary_stream(*arguments, **keywords))

    def stream_unary(self, *arguments: Any, **keywords: Any) -> Any:
        """Return a method to call."""
        return self._method(lambda channel: channel.stream_unary(*arguments, **keywords))

    def stream_stream(self, *arguments: Any, **keywords: Any) -> Any:
        """Return a method to call."""
        return self._method(lambda channel: channel.stream_stream(*arguments, **keywords))

    def subscribe(
        self,
        callback: Callable[[grpc.ChannelConnectivity], None],
        try_to_connect: bool = False,  # noqa: FBT001, FBT002 -- as gRPC has it
    ) -> None:
        """Tell of the connectivity of the channel of now, not of the ones that follow it."""
        self._renewed.channel().subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """Tell no more."""
        self._renewed.channel().unsubscribe(callback)

    def close(self) -> None:
        """Close it."""
        for channel in self._renewed.end():
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def _method(self, make: Callable[[grpc.Channel], Any]) -> RenewedMethod[grpc.Channel]:
        return RenewedMethod(self._renewed, make)

    def _retire(self, former: grpc.Channel) -> None:
        closing = threading.Timer(GRACE_SECONDS, self._close, [former])
        closing.daemon = True
        closing.start()

    def _close(self, former: grpc.Channel) -> None:
        self._renewed.forget(former)
        former.close()
