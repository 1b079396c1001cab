"""A folder in memory for the databases of tests, where there is room.

Files of a database are made there with half the CPU, and none is written to a disk later.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FOLDER = Path("/dev/shm")  # noqa: S108 -- what is made in it has a random name and an owner
_PREFIX = "kith-test-"
# Locked by who uses a folder: by the test that made it, and by the cluster of an embedded server.
_LOCKS = ("in-use", "postgres/postgres.holders")
# Several times what all tests store, in all processes together.
_ROOM_BYTES = 12 * 1024**3


def folder_in_memory() -> Path | None:
    """Return a folder of a file system in memory with room for all databases, if there is one."""
    has_room = _FOLDER.is_dir() and shutil.disk_usage(_FOLDER).free > _ROOM_BYTES
    return _FOLDER if has_room else None


@contextmanager
def folder_for_postgres() -> Iterator[Path]:
    """Make a folder that the account of PostgreSQL may enter, and remove it after the block.

    No test waits for its removal, which takes a disk up to a minute: a server has many files.
    """
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder_in_memory()))
    directory.chmod(0o755)
    try:
        with (directory / _LOCKS[0]).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield directory
    finally:
        os.posix_spawnp("rm", ["rm", "-rf", str(directory)], os.environ, setsid=True)


def free_memory_of_killed_runs() -> None:
    """Remove the databases that no process uses: runs that are killed leave theirs behind.

    Call it before the processes of a run make theirs.
    """
    for left in _FOLDER.glob(f"{_PREFIX}*"):
        locks = [left / name for name in _LOCKS if (left / name).exists()]
        if locks and not any(map(_is_locked, locks)):
            shutil.rmtree(left, ignore_errors=True)


def _is_locked(path: Path) -> bool:
    """Whether a test uses a folder, or a server that may still be stopping."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
