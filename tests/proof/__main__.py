"""Compare answers with the second rule until there are as many as asked for, and print how many.

    python -m tests.proof [--decisions N] [--walks N] [--minutes N] [FILE]

What has been done is kept in FILE, by default .proof.json, and the next run goes on from there. Of
both kinds the same share is done at any time. Exits with 1 when an answer is wrong, with 3 when the
minutes end first. Each run has its own seed, which is printed.
"""

import argparse
import json
import logging
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from feed_service.auditor.primaries import Primaries, Primary
from kith.environment import Environment
from shared.database.embedded_postgres import EmbeddedPostgres
from shared.database.settings import DatabaseSettings
from tests.proof.sweeps import Sweeps
from tests.proof.walks import Walks
from tests.support.pair import Databases, running_pair
from tests.support.roles import make_auditor

_SAVE_SECONDS: Final = 10.0
_UNFINISHED: Final = 3


@dataclass
class Done:
    """How much has been done, in how many seconds, and what was wrong."""

    decisions: int = 0
    decision_seconds: float = 0.0
    walks: int = 0
    walk_seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return it as a line for people."""
        return (
            f"{self.decisions:,} decisions ({_rate(self.decisions, self.decision_seconds)}), "
            f"{self.walks:,} walks with changes between pages "
            f"({_rate(self.walks, self.walk_seconds)}), {len(self.wrong)} wrong, "
            f"{(self.decision_seconds + self.walk_seconds) / 3600:.2f} hours on "
            f"{os.cpu_count()} cores of {platform.machine()}"
        )


def _rate(number: int, seconds: float) -> str:
    return f"{number / seconds:,.0f}/s" if seconds else "none yet"


def main() -> int:
    """Do what the command line asks for; returns the exit status."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    path = Path(arguments.file)
    done = Done(**json.loads(path.read_text())) if path.exists() else Done()
    seed = random.SystemRandom().randrange(2**32)
    sys.stdout.write(f"seed {seed}; so far {done.line()}\n")
    ends_at = time.monotonic() + 60 * arguments.minutes
    try:
        _go_on(arguments, done, path, seed, ends_at)
    except KeyboardInterrupt:
        sys.stdout.write("interrupted\n")
    _save(done, path)
    sys.stdout.write(f"{done.line()}\n")
    if done.wrong:
        sys.stdout.write("\n".join([*done.wrong[:20], ""]))
        return 1
    is_all = done.decisions >= arguments.decisions and done.walks >= arguments.walks
    return 0 if is_all else _UNFINISHED


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
    return parser.parse_args()


def _go_on(
    arguments: argparse.Namespace, done: Done, path: Path, seed: int, ends_at: float
) -> None:
    pick = random.Random(seed)
    settings = DatabaseSettings.read(Environment({}), "FEED")
    with (
        tempfile.TemporaryDirectory(prefix="kith-proof-") as name,
        EmbeddedPostgres(_passable(Path(name)) / "postgres") as cluster,
        running_pair(Databases(cluster)) as pair,
        closing(
            Primaries(
                Primary(settings, make_auditor("graph", pair.graph_url)),
                Primary(settings, make_auditor("feed", pair.feed_url)),
                pick=pick,
            )
        ) as primaries,
    ):
        sweeps = Sweeps(pair=pair, primaries=primaries, pick=pick)
        walks = Walks(pair=pair, primaries=primaries, pick=pick)
        saved_at = time.monotonic()
        while time.monotonic() < ends_at and not done.wrong:
            share_of_decisions = done.decisions / max(1, arguments.decisions)
            share_of_walks = done.walks / max(1, arguments.walks)
            if min(share_of_decisions, share_of_walks) >= 1:
                return
            if share_of_decisions <= share_of_walks:
                number, wrong, seconds = _timed(sweeps.sweep)
                done.decisions += number
                done.decision_seconds += seconds
            else:
                number, wrong, seconds = _timed(walks.walk)
                done.walks += number
                done.walk_seconds += seconds
            done.wrong += wrong
            if time.monotonic() > saved_at + _SAVE_SECONDS:
                saved_at = time.monotonic()
                _save(done, path)
                sys.stdout.write(f"{done.line()}\n")
                sys.stdout.flush()


def _passable(directory: Path) -> Path:
    """Return a directory that the account which PostgreSQL runs as may enter now."""
    directory.chmod(0o755)
    return directory


def _timed(work: Callable[[], tuple[int, list[str]]]) -> tuple[int, list[str], float]:
    started = time.monotonic()
    number, wrong = work()
    return number, wrong, time.monotonic() - started


def _save(done: Done, path: Path) -> None:
    """Write the file as a whole, or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(asdict(done)))
    new.replace(path)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    sys.exit(main())
