"""A program that writes what it can see of itself, and ends as it is told.

self_description.py HOW [ARGUMENT ...], where HOW is `well`, `raise`, `interrupt` or a status
"""

import atexit
import gc
import json
import locale
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

_CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def main() -> None:
    """Write it as JSON, then end."""
    sys.stdout.write(json.dumps(_described()) + "\n")
    sys.stderr.write("an error\n")
    atexit.register(sys.stdout.write, "at exit\n")
    threading.Thread(target=sys.stdout.write, args=("of a thread\n",)).start()
    how = sys.argv[1]
    if how == "raise":
        raise ValueError(how)
    if how == "interrupt":
        raise KeyboardInterrupt
    if how != "well":
        sys.exit(int(how) if how.isdecimal() else how)


def _described() -> dict[str, Any]:
    status = Path("/proc/self/status").read_text().splitlines()
    return {
        "arguments": sys.argv,
        "main": [__name__, __spec__.name, sys.modules["__main__"].__dict__ is globals()],
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
        "path": sys.path,
        "flags": repr(sys.flags),
        "encodings": [
            (file.encoding, file.errors, file.line_buffering)
            for file in (sys.stdin, sys.stdout, sys.stderr)
        ],
        "locale": locale.setlocale(locale.LC_ALL),
        "files": sorted(int(file.name) for file in Path("/proc/self/fd").iterdir())[:-1],
        "read": sys.stdin.read(),
        "signals": [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "threads": len([*Path("/proc/self/task").iterdir()]),
        "collects": [gc.isenabled(), gc.get_threshold()],
        "capabilities": [line for line in status if line.startswith(_CAPABILITIES)],
        "umask": [line for line in status if line.startswith("Umask")],
    }


if __name__ == "__main__":
    main()
