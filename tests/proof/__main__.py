"""Compare answers with the plain rule until there are as many as asked for, and print how many.

    python -m tests.proof [--decisions N] [--walks N] [--minutes N] [--processes N] [FILE]

A decision is the answer of one call about one viewer and one post or comment. A walk is a feed that
is read from the first page to the last while others change what is in it. Both are made by several
processes, each with services and databases of its own; every second pair of services has fences.
What has been done is kept in FILE, by default .proof.json, and the next run goes on from there. Of
both kinds the same share is done at any time. Exits with 1 when an answer is wrong, with 3 when the
minutes end first. Each run has its own seed, which is printed, and each process the seed after that
of the one before it.
"""

import argparse
import multiprocessing
import os
import platform
import queue
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Final

from shared.database.embedded_postgres import EmbeddedPostgres
from tests.proof.tally import Done, Tally
from tests.proof.worker import Task, work
from tests.support.pair import Databases

_SAVE_SECONDS: Final = 10.0
_STOP_SECONDS: Final = 20.0
_UNFINISHED: Final = 3
_MOST_PRINTED: Final = 5


class WorkerLostError(Exception):
    """A process ended by itself; what it printed says why."""


@dataclass(frozen=True, kw_only=True)
class _Workers:
    processes: list[BaseProcess]
    reports: "Queue[Tally]"

    def tallies(self, ends_at: float) -> Iterator[Tally]:
        """Yield what the processes report."""
        while time.monotonic() < ends_at:
            try:
                yield self.reports.get(timeout=1)
            except queue.Empty:
                if any(process.exitcode for process in self.processes):
                    raise WorkerLostError("a process of the proof ended by itself") from None


def main() -> int:
    """Do what the command line asks for; returns the exit status."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    path = Path(arguments.file)
    done = Done.read(path)
    seed = random.SystemRandom().randrange(2**32)
    _say(f"seed {seed}; so far {_line(done)}")
    try:
        if not _is_all(arguments, done):
            _go_on(arguments, done, path, seed)
    except KeyboardInterrupt:
        _say("interrupted")
    finally:
        done.write(path)
    _say(done.table())
    _say(_line(done))
    if done.wrong:
        _say("\n".join(done.wrong[:_MOST_PRINTED]))
        return 1
    return 0 if _is_all(arguments, done) else _UNFINISHED


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.proof",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", nargs="?", default=".proof.json", metavar="FILE")
    parser.add_argument("--decisions", type=int, default=100_000_000)
    parser.add_argument("--walks", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def _is_all(arguments: argparse.Namespace, done: Done) -> bool:
    return bool(done.decisions >= arguments.decisions and done.walked >= arguments.walks)


def _go_on(arguments: argparse.Namespace, done: Done, path: Path, seed: int) -> None:
    began_at, before = time.monotonic(), done.seconds
    ends_at = began_at + 60 * arguments.minutes
    saved_at = began_at
    with _running(arguments, done, seed) as workers:
        for tally in workers.tallies(ends_at):
            done.add(tally)
            done.seconds = before + time.monotonic() - began_at
            if done.wrong or _is_all(arguments, done):
                return
            if time.monotonic() > saved_at + _SAVE_SECONDS:
                saved_at = time.monotonic()
                done.write(path)
                _say(_line(done))


@contextmanager
def _running(arguments: argparse.Namespace, done: Done, seed: int) -> Iterator[_Workers]:
    """Start the processes; stops them at the end."""
    context = multiprocessing.get_context("spawn")
    reports: Queue[Tally] = context.Queue()
    stop = context.Event()
    with (
        tempfile.TemporaryDirectory(prefix="kith-proof-") as name,
        EmbeddedPostgres(_passable(Path(name)) / "postgres") as cluster,
    ):
        databases = Databases(cluster)
        tasks = [
            Task(
                decisions=max(0, arguments.decisions - done.decisions),
                walks=max(0, arguments.walks - done.walked),
                urls={service: databases.new(service) for service in ("graph", "feed")},
                seed=seed + position,
                fenced=position % 2 == 0,
            )
            for position in range(arguments.processes)
        ]
        processes = [
            context.Process(target=work, args=(task, reports, stop), daemon=True) for task in tasks
        ]
        for process in processes:
            process.start()
        workers = _Workers(processes=list(processes), reports=reports)
        try:
            yield workers
        finally:
            stop.set()
            _add_the_last(workers, done)


def _add_the_last(workers: _Workers, done: Done) -> None:
    """Take what the processes report while they stop, which they do after their next comparison."""
    ends_at = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < ends_at:
        are_over = not any(process.is_alive() for process in workers.processes)
        try:
            done.add(workers.reports.get(timeout=1))
        except queue.Empty:
            if are_over:
                break
    for process in workers.processes:
        process.join(timeout=1)
        if process.is_alive():
            process.kill()


def _passable(directory: Path) -> Path:
    """Return a directory that the account which PostgreSQL runs as may enter now."""
    directory.chmod(0o755)
    return directory


def _line(done: Done) -> str:
    return (
        f"{done.decisions:,} decisions ({_rate(done.decisions, done.decision_seconds)}), "
        f"{done.walked:,} walks with changes between pages "
        f"({_rate(done.walked, done.walk_seconds)}; {done.refused.total():,} more were refused), "
        f"{len(done.wrong)} wrong, {done.seconds / 3600:.2f} hours on {os.cpu_count()} cores of "
        f"{platform.machine()}"
    )


def _rate(number: int, seconds: float) -> str:
    return f"{number / seconds:,.0f} in a second of a process" if seconds else "none yet"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
