"""A value that is read beside the rows of statements, in the snapshot of the rows.

A caller says what, for the statements of a block, and the readers put it into each: a value that a
statement of its own would read is of another snapshot, and costs a round trip.

    with asking(Beside(query="SELECT ...", parameters={})) as told:
        rows = read()
    told.value
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final


@dataclass(kw_only=True)
class Beside:
    """A query for one row with one text, and what it said beside the last statement of a block.

    It `is_told` unless that statement did not ask it, so the value never is of a snapshot before
    that of the last rows.
    """

    query: str
    parameters: Mapping[str, object]
    value: str | None = None
    is_told: bool = False

    def taken_from(self, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Note the value that comes with rows, and return the rows without it."""
        self.value, self.is_told = rows[0][0], True
        return [row[2:] for row in rows if row[1]]

    def forget(self) -> None:
        """Note that a statement has run without the query."""
        self.value, self.is_told = None, False


asked: Final[ContextVar[Beside | None]] = ContextVar("asked_beside", default=None)
"""What the statements of now are to tell beside their rows."""


@contextmanager
def asking(query: Beside) -> Iterator[Beside]:
    """Have a query asked beside the statements of the block."""
    token = asked.set(query)
    try:
        yield query
    finally:
        asked.reset(token)
