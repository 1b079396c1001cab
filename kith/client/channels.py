"""Channels to the services, with what a client shows: a certificate, or a token, or nothing.

gRPC for Python cannot exchange the certificate of a channel, and its own way of adding a token to
every call goes through a thread. So a channel that shows something is a front for another one,
which is replaced when a file changes.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeAlias

import grpc

from kith.client.settings import TargetSettings
from kith.tls import certificates
from kith.tls.watched_files import WatchedFiles

Options: TypeAlias = Sequence[tuple[str, Any]]

# What is under way on a channel that was replaced has this long. Endless streams are broken off
# then: they begin again, with what is shown now.
_GRACE_SECONDS = 60.0


def open_channel(target: str, settings: TargetSettings, options: Options) -> grpc.Channel:
    """Open a channel that shows what the settings say; nothing is sent before the first call."""
    if not settings.certificates.paths and settings.token is None:
        return grpc.insecure_channel(target, options=options)
    return _Front(target, settings, options)


class _Front(grpc.Channel):
    """Makes every call on the channel of now, with the token of now. Thread-safe."""

    def __init__(self, target: str, settings: TargetSettings, options: Options) -> None:
        files = settings.certificates

        def connect() -> grpc.Channel:
            if files.authorities is None:
                return grpc.insecure_channel(target, options=options)
            shown = certificates.channel_credentials(certificates.read(files))
            return grpc.secure_channel(target, shown, options=options)

        self._channels = WatchedFiles(files.paths, connect)
        self._token = _authorization(settings.token)
        self._lock = threading.Lock()
        self._open = [self._channels.current()]

    def channel(self) -> grpc.Channel:
        """Return the channel to make a call on."""
        current = self._channels.current()
        if current is not self._open[-1]:
            self._replace(current)
        return current

    def metadata(self, given: Any) -> Any:
        """Return what a call sends beside its message."""
        if self._token is None:
            return given
        return (*(given or ()), ("authorization", self._token.current()))

    def unary_unary(self, *arguments: Any, **keywords: Any) -> Any:
        """Return a method to call."""
        return _Method(self, lambda channel: channel.unary_unary(*arguments, **keywords))

    def unary_stream(self, *arguments: Any, **keywords: Any) -> Any:
        """Return a method to call."""
        return _Method(self, lambda channel: channel.unary_stream(*arguments, **keywords))

    def stream_unary(self, *arguments: Any, **keywords: Any) -> Any:
        """Return a method to call."""
        return _Method(self, lambda channel: channel.stream_unary(*arguments, **keywords))

    def stream_stream(self, *arguments: Any, **keywords: Any) -> Any:
        """Return a method to call."""
        return _Method(self, lambda channel: channel.stream_stream(*arguments, **keywords))

    def subscribe(
        self,
        callback: Callable[[grpc.ChannelConnectivity], None],
        try_to_connect: bool = False,  # noqa: FBT001, FBT002 -- as gRPC has it
    ) -> None:
        """Tell of the connectivity of the channel of now, not of the ones that follow it."""
        self.channel().subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """Tell no more."""
        self.channel().unsubscribe(callback)

    def close(self) -> None:
        """Close it."""
        with self._lock:
            for channel in self._open:
                channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def _replace(self, current: grpc.Channel) -> None:
        with self._lock:
            if current in self._open:
                return
            former = self._open[-1]
            self._open.append(current)
        closing = threading.Timer(_GRACE_SECONDS, self._close, [former])
        closing.daemon = True
        closing.start()

    def _close(self, former: grpc.Channel) -> None:
        with self._lock:
            self._open.remove(former)
        former.close()


class _Method:
    """Calls a method on the channel of now."""

    def __init__(self, front: _Front, make: Callable[[grpc.Channel], Any]) -> None:
        self._front = front
        self._make = make
        self._made = self._make_on(front.channel())

    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **others: Any
    ) -> Any:
        """Call it."""
        return self._now()(request, timeout, self._front.metadata(metadata), **others)

    def future(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **others: Any
    ) -> Any:
        """Call it and do not wait."""
        return self._now().future(request, timeout, self._front.metadata(metadata), **others)

    def with_call(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **others: Any
    ) -> Any:
        """Call it, and return the call beside the answer."""
        return self._now().with_call(request, timeout, self._front.metadata(metadata), **others)

    def _now(self) -> Any:
        channel = self._front.channel()
        if self._made[0] is not channel:
            self._made = self._make_on(channel)
        return self._made[1]

    def _make_on(self, channel: grpc.Channel) -> tuple[grpc.Channel, Any]:
        return channel, self._make(channel)


def _authorization(token: Path | None) -> WatchedFiles[str] | None:
    if token is None:
        return None
    return WatchedFiles([token], lambda: f"Bearer {token.read_text().strip()}")
