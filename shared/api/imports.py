"""Imports: streams of chunks, each of which takes effect as a whole and may be sent again."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, Self, TypeVar

from kith.exceptions import AppException


class ImportResult(Protocol):
    """What became of some chunks."""

    @property
    def committed_chunks(self) -> int:
        """How many took effect."""

    def __add__(self, other: Self, /) -> Self:
        """Return the sum of two results."""


C = TypeVar("C")
R = TypeVar("R", bound=ImportResult)


def import_chunks(chunks: Iterable[C], take: Callable[[C], R], *, nothing: R) -> R:
    """Take each chunk, in a transaction of its own, and return the sum of what became of them.

    An error that ends the import says in its metadata `committed_chunks` how many took effect.
    """
    result = nothing
    try:
        for chunk in _one_ahead(chunks):
            result += take(chunk)
    except AppException as error:
        error.metadata["committed_chunks"] = str(result.committed_chunks)
        raise
    return result


def _one_ahead(chunks: Iterable[C]) -> Iterator[C]:
    """Yield the chunks; the next is received and read while the database is busy with one."""
    source = iter(chunks)
    thread = ThreadPoolExecutor(1, thread_name_prefix="import")
    try:
        upcoming = thread.submit(next, source, None)
        while (chunk := upcoming.result()) is not None:
            upcoming = thread.submit(next, source, None)
            yield chunk
    finally:
        # Not waited for: it may be at the mercy of a client that sends nothing more, until the call
        # has ended.
        thread.shutdown(wait=False)
