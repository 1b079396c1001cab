"""The channel of now and the token of now, where files that change say what a client shows.

gRPC for Python cannot exchange the certificate of a channel, and its own way of adding a token to
every call goes through a thread. So a channel that shows something is a front for another one,
which is replaced when a file changes.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import grpc

from kith.client.settings import TargetSettings
from kith.tls import certificates
from kith.tls.watched_files import WatchedFiles

GRACE_SECONDS: Final = 60.0
"""How long a call may take that is under way on a channel when that is replaced.

Endless streams are broken off then: they begin again, with what is shown now.
"""

C = TypeVar("C")
M = TypeVar("M")


class Renewed(Generic[C]):
    """A channel that is replaced when the files behind it change. Thread-safe.

    `connect` opens one, encrypted if it is given credentials. `retire` closes one after
    GRACE_SECONDS and then calls `forget`.
    """

    def __init__(
        self,
        settings: TargetSettings,
        *,
        connect: Callable[[grpc.ChannelCredentials | None], C],
        retire: Callable[[C], None],
    ) -> None:
        files = settings.certificates

        def connect_now() -> C:
            if files.authorities is None:
                return connect(None)
            return connect(certificates.channel_credentials(certificates.read(files)))

        self._channels = WatchedFiles(files.paths, connect_now)
        self._token = _authorization(settings.token)
        self._retire = retire
        self._lock = threading.Lock()
        self._open = [self._channels.current()]
        self._is_over = False

    def channel(self) -> C:
        """Return the channel to make a call on."""
        if self._is_over:
            return self._open[-1]
        current = self._channels.current()
        if current is not self._open[-1]:
            self._replace(current)
        return current

    def metadata(self, given: Any) -> Any:
        """Return what a call sends beside its message."""
        if self._token is None:
            return given
        return (*(given or ()), ("authorization", self._token.current()))

    def made(self, channel: C, make: Callable[[C], M]) -> M | None:
        """Return what is made of a channel that stays open meanwhile; None when all are closed.

        gRPC for Python crashes when it makes a method of a closed channel.
        """
        with self._lock:
            return None if self._is_over else make(channel)

    def end(self) -> list[C]:
        """Return the channels to be closed, the one of now being the last; no other follows it."""
        with self._lock:
            self._is_over = True
            return list(self._open)

    def forget(self, former: C) -> None:
        """Drop a channel that is closed."""
        with self._lock:
            self._open.remove(former)

    def _replace(self, current: C) -> None:
        with self._lock:
            if current in self._open:
                return
            former = self._open[-1]
            self._open.append(current)
        self._retire(former)


class RenewedMethod(Generic[C]):
    """Calls a method on the channel of now."""

    def __init__(self, renewed: Renewed[C], make: Callable[[C], Any]) -> None:
        self._renewed = renewed
        self._make = make
        channel = renewed.channel()
        self._made = channel, make(channel)

    def __call__(
        self, request: Any = None, timeout: float | None = None, metadata: Any = None, **others: Any
    ) -> Any:
        """Call it."""
        shown = self._renewed.metadata(metadata)
        return self._now()(request, timeout=timeout, metadata=shown, **others)

    def future(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **others: Any
    ) -> Any:
        """Call it and do not wait."""
        shown = self._renewed.metadata(metadata)
        return self._now().future(request, timeout=timeout, metadata=shown, **others)

    def with_call(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **others: Any
    ) -> Any:
        """Call it, and return the call beside the answer."""
        shown = self._renewed.metadata(metadata)
        return self._now().with_call(request, timeout=timeout, metadata=shown, **others)

    def _now(self) -> Any:
        channel = self._renewed.channel()
        if self._made[0] is not channel:
            method = self._renewed.made(channel, self._make)
            # At the end it stays that of a closed channel, which says so when it is called.
            if method is not None:
                self._made = channel, method
        return self._made[1]


def _authorization(token: Path | None) -> WatchedFiles[str] | None:
    if token is None:
        return None
    return WatchedFiles([token], lambda: f"Bearer {token.read_text().strip()}")
