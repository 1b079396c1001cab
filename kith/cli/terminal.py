"""The terminal that a person looks at, and what a command tells the shell that started it."""

from enum import IntEnum
from typing import ClassVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)


class Status(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    """Arguments or settings cannot be used, and nothing was tried."""
    ROWS_REFUSED = 3
    """The import ran to its end, and some of its rows were refused."""
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141
    """The reader of the output left, such as `head`; shells say so of what SIGPIPE ends."""


class CommandError(Exception):
    """What was asked for cannot be done; the message says why, in words for the person."""

    status: ClassVar[Status] = Status.FAILED


class UsageError(CommandError):
    """The arguments cannot be used, or do not suffice."""

    status = Status.USAGE


class RowsRefusedError(CommandError):
    """An import is complete but for rows that were refused."""

    status = Status.ROWS_REFUSED


class InterruptedCommandError(CommandError):
    """A person stopped the command before its end."""

    status = Status.INTERRUPTED


class Terminal(Console):
    """Standard output, rendered."""

    def on_broken_pipe(self) -> None:
        """Leave the exit to `outcome`, which knows the status; rich would exit by itself."""
        raise BrokenPipeError


def progress(console: Console) -> Progress:
    """Return a progress bar that counts to a number that is known."""
    return _progress(console, MofNCompleteColumn())


def reading(console: Console) -> Progress:
    """Return a progress bar of how much of a file is read; `rows` of its task counts its rows."""
    return _progress(console, TextColumn("{task.fields[rows]:,} rows"))


def _progress(console: Console, count: ProgressColumn) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), count, TimeElapsedColumn(), console=console
    )
