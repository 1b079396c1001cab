"""Becomes a service that cannot outlive the process that started it.

child.py PARENT MODULE [ARGUMENT ...], where the path of a program can stand for the module

On Linux the kernel ends it with its parent, also if that is killed. That is asked for here, after
the fork, because between fork and exec a process that had threads may hardly do anything.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask for the parent's death to be told, then become the service."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        # Not SIGTERM: during a graceful stop a new start of Kith would find the ports in use.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent has gone already")
    if os.sep not in command[0]:
        command = [sys.executable, "-m", *command]
    os.execv(command[0], command)  # noqa: S606 -- what the parent has named


if __name__ == "__main__":
    main()
