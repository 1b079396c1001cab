"""The terminal that a person looks at."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class CommandError(Exception):
    """What was asked for cannot be done; the message says why, in words for the person."""


def progress(console: Console) -> Progress:
    """Return a progress bar that counts."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
