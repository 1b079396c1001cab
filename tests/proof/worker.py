"""One process of the proof: it starts both services, and compares what they answer."""

import logging
import os
import random
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event

from feed_service.auditor.primaries import Primary
from kith.environment import Environment
from shared.database.settings import DatabaseSettings
from tests.proof.services import running_services
from tests.proof.sweeps import Sweeps
from tests.proof.tally import Tally
from tests.proof.walks import Walks
from tests.proof.worlds import Worlds
from tests.support.rpcs import Stubs

_REPORT_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a process has to compare, on databases of its own, with a seed of its own.

    It makes as many decisions for each walk as these are for those.
    """

    decisions: int
    walks: int
    urls: Mapping[str, str]
    seed: int
    fenced: bool


def work(task: Task, reports: "Queue[Tally]", stop: Event) -> None:
    """Report what has been compared every few seconds.

    It ends when it is told to, when something is wrong, and with its parent.
    """
    # An interrupt of the terminal reaches all processes; the parent tells this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.WARNING)
    parent = os.getppid()
    settings = DatabaseSettings.read(Environment({}), "FEED")
    primaries = {name: Primary(settings, url) for name, url in task.urls.items()}
    with (
        running_services(task.urls, fenced=task.fenced) as services,
        closing(Worlds(graph=primaries["graph"], feed=primaries["feed"])) as worlds,
    ):
        new, reported_at = Tally(), time.monotonic()
        for tally in _compared(task, services, worlds):
            new.add(tally)
            if time.monotonic() > reported_at + _REPORT_SECONDS:
                reports.put(new)
                new, reported_at = Tally(), time.monotonic()
            if new.wrong or stop.is_set() or os.getppid() != parent:
                break
        reports.put(new)


def _compared(task: Task, services: Stubs, worlds: Worlds) -> Iterator[Tally]:
    """Yield what has been compared, of both kinds the same share at any time."""
    pick = random.Random(task.seed)
    sweeps = Sweeps(services, worlds, pick).run()
    walks = Walks(services, worlds, pick).run()
    decisions = walked = 0
    while True:
        is_sweep = task.decisions > 0 and decisions * task.walks <= walked * task.decisions
        began_at = time.monotonic()
        tally = next(sweeps if is_sweep else walks)
        seconds = time.monotonic() - began_at
        if is_sweep:
            tally.decision_seconds = seconds
        else:
            tally.walk_seconds = seconds
        decisions += tally.decisions
        walked += tally.walked
        yield tally
