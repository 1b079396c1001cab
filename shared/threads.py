"""The threads that calls run on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class CallThreads(ThreadPoolExecutor):
    """Threads for calls, which know whether as many calls as may are waiting for one of them.

    grpcio can refuse calls as well, but would refuse health among them, and say nothing of when to
    come again (`maximum_concurrent_rpcs`).
    """

    def __init__(self, threads: int, *, queue: int) -> None:
        super().__init__(threads, thread_name_prefix="call")
        self._most = threads + queue
        # Its methods are atomic.
        self._under_way = set["Future[Any]"]()

    @property
    def are_full(self) -> bool:
        """Whether the next call had to wait behind too many others."""
        return len(self._under_way) >= self._most

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        """Run a call on the next thread that is free."""
        future = super().submit(fn, *args, **kwargs)
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return future


def on_threads(threads: ThreadPoolExecutor, behavior: Callable[..., object]) -> partial[object]:
    """Return a handler that grpcio runs on these threads instead of the server's."""
    handler = partial(behavior)
    handler.experimental_thread_pool = threads  # type: ignore[attr-defined]  # grpc._server looks for it
    return handler
