"""A node of a Citus, as a process of this machine: killed without a word, and started again."""

import os
import signal
import subprocess
from pathlib import Path

import psycopg2
import pytest

from tests.support.citus import Citus, Node
from tests.support.processes import Session, is_there, until


class NodeProcess:
    """A node. Skips the test where it runs elsewhere."""

    def __init__(self, citus: Citus, node: Node) -> None:
        self._url = citus.url("postgres", node)
        with Session(self._url) as session:
            [(lines,)] = session.rows("SELECT pg_read_file('postmaster.pid')")
        self._pid = int(lines.split()[0])
        process = Path(f"/proc/{self._pid}")
        if not is_there(self._pid) or b"postgres" not in (process / "cmdline").read_bytes():
            pytest.skip("the nodes of KITH_TEST_CITUS_URL are no processes of this machine")
        self._account = process.stat().st_uid
        self._command = _parts(process / "cmdline")
        self._variables = dict(part.split("=", 1) for part in _parts(process / "environ"))

    def kill(self) -> None:
        """Kill its postmaster, and with that all of its sessions."""
        os.kill(self._pid, signal.SIGKILL)
        until(lambda: not is_there(self._pid))

    def start(self) -> None:
        """Start it as it was started before, and wait until it answers."""
        until(self._answers)

    def _answers(self) -> bool:
        # It gives up at once while the last of its former sessions is there.
        subprocess.run(
            ["setsid", "--fork", *self._command],
            check=True,
            env=self._variables,
            user=self._account,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(self._accepts, within_seconds=2)
        except AssertionError:
            return False
        return True

    def _accepts(self) -> bool:
        try:
            with Session(self._url):
                return True
        except psycopg2.OperationalError:
            return False


def _parts(path: Path) -> list[str]:
    return [part for part in path.read_text().split("\0") if part]
