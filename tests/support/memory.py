"""A folder in memory for the databases of tests, where there is room.

Files of a database are made there with half the CPU, and none is written to a disk later.
"""

import fcntl
import shutil
from contextlib import suppress
from pathlib import Path

_FOLDER = Path("/dev/shm")  # noqa: S108 -- what is made in it has a random name and an owner
_PREFIX = "kith-test-"
# Several times what all tests store, in all processes together.
_ROOM_BYTES = 12 * 1024**3


def folder_in_memory() -> Path | None:
    """Return a folder of a file system in memory with room for all databases, if there is one."""
    has_room = _FOLDER.is_dir() and shutil.disk_usage(_FOLDER).free > _ROOM_BYTES
    return _FOLDER if has_room else None


def free_memory_of_killed_runs() -> None:
    """Remove the databases that no process uses: runs that are killed leave theirs behind.

    Call it before the processes of a run make theirs.
    """
    for left in _FOLDER.glob(f"{_PREFIX}*"):
        with suppress(OSError), (left / "postgres" / "postgres.holders").open() as holders:
            # Raises OSError while somebody uses the cluster, or while it is being stopped.
            fcntl.flock(holders, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
