"""Channels of grpc.aio to the services, with what a client shows.

Files that change are looked at in the event loop, at most once a second: they are small and local.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Self

import grpc

from kith.client.channel_options import Options
from kith.client.renewed import GRACE_SECONDS, Renewed, RenewedMethod
from kith.client.settings import TargetSettings


def open_channel(target: str, settings: TargetSettings, options: Options) -> grpc.aio.Channel:
    """Open a channel that shows what the settings say; nothing is sent before the first call."""
    if not settings.shows_something:
        return grpc.aio.insecure_channel(target, options=options)
    return _Front(target, settings, options)


class _Front(grpc.aio.Channel):
    """Makes every call on the channel of now, with the token of now."""

    def __init__(self, target: str, settings: TargetSettings, options: Options) -> None:
        def connect(credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
            if credentials is None:
                return grpc.aio.insecure_channel(target, options=options)
            return grpc.aio.secure_channel(target, credentials, options=options)

        self._renewed = Renewed(settings, connect=connect, retire=self._retire)
        self._closing = set[asyncio.Task[None]]()

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

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002 -- as gRPC has it
        """Return the state of the channel of now."""
        return self._renewed.channel().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait for another state of the channel of now, not of the ones that follow it."""
        await self._renewed.channel().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait until the channel of now is connected."""
        await self._renewed.channel().channel_ready()

    async def close(self, grace: float | None = None) -> None:
        """Close it."""
        for task in self._closing:
            task.cancel()
        for channel in self._renewed.end():
            await channel.close(grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        await self.close()

    def _method(self, make: Callable[[grpc.aio.Channel], Any]) -> RenewedMethod[grpc.aio.Channel]:
        return RenewedMethod(self._renewed, make)

    def _retire(self, former: grpc.aio.Channel) -> None:
        # The event loop alone would not keep the task.
        task = asyncio.get_running_loop().create_task(self._close(former))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close(self, former: grpc.aio.Channel) -> None:
        # Refuses no call that is being made on it just now, as closing it with a grace would.
        await asyncio.sleep(GRACE_SECONDS)
        self._renewed.forget(former)
        await former.close()
