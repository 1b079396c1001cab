"""Files and folders that only the account that makes them may read."""

import os
from pathlib import Path
from typing import IO, Any


def private_folder(path: Path, *, is_passed_through: bool = False) -> None:
    """Make a folder that others may not look into, if there is none; they may pass through it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o711 if is_passed_through else 0o700, exist_ok=True)


def private_file(path: Path, mode: str) -> IO[Any]:
    """Open a file for writing that others may not read, even if they could before."""
    return open(path, mode, opener=_opened)


def _opened(name: str, flags: int) -> int:
    descriptor = os.open(name, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor
