"""Threads of their own for the calls that must not wait for, or hold up, the others."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial


def on_threads(threads: ThreadPoolExecutor, behavior: Callable[..., object]) -> partial[object]:
    """Return a handler that grpcio runs on these threads instead of the server's."""
    handler = partial(behavior)
    handler.experimental_thread_pool = threads  # type: ignore[attr-defined]  # grpc._server looks for it
    return handler
