"""Measuring things in turns, so that what else the machine does falls on all of them alike."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from statistics import median
from typing import Final

# Even a slow contender gets as many calls as a median needs.
_FEWEST_CALLS: Final = 5


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How often everything is repeated, and for how long at most."""

    rounds: int
    calls: int
    segment_seconds: float
    mixed_calls: int
    imported_pairs: int
    imported_posts: int
    cache_mebibytes: int = 64
    profiled_pages: int = 200


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Some calls in a row: the median time of one, and the mean CPU time by process; seconds."""

    p50: float
    cpu: Mapping[str, float]

    @property
    def total_cpu(self) -> float:
        """The CPU time of a call in all processes."""
        return sum(self.cpu.values())

    @property
    def python_cpu(self) -> float:
        """The CPU time of a call in the services, without PostgreSQL."""
        return sum(seconds for name, seconds in self.cpu.items() if name != "postgres")


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Something that is called again and again, and the clocks of the processes at work."""

    calls: Sequence[Callable[[], object]]
    clocks: Mapping[str, Callable[[], float]] = field(default_factory=dict)

    def segment(self, count: int, most_seconds: float) -> Segment:
        """Make so many calls, or fewer when they take too long."""
        before = {name: clock() for name, clock in self.clocks.items()}
        walls = list(_timed(self.calls, count, most_seconds))
        return Segment(
            p50=median(walls),
            cpu={
                name: (clock() - before[name]) / len(walls) for name, clock in self.clocks.items()
            },
        )


def in_turns(
    effort: Effort, contenders: Mapping[str, Contender], *, calls: int = 0
) -> dict[str, list[Segment]]:
    """Return a segment of each contender for each round, in another order each time.

    Not in a circle: then each would always find the caches as the same one before it left them.
    """
    segments: dict[str, list[Segment]] = {name: [] for name in contenders}
    for contender in contenders.values():
        contender.segment(len(contender.calls), effort.segment_seconds)  # so that all are warm
    for number in range(effort.rounds):
        for name in Random(number).sample(list(contenders), len(contenders)):
            segment = contenders[name].segment(calls or effort.calls, effort.segment_seconds)
            segments[name].append(segment)
    return segments


def ratio(these: Iterable[float], those: Iterable[float]) -> float:
    """Return the median of how these relate to those, round by round."""
    return median(this / that for this, that in zip(these, those, strict=True))


def _timed(
    calls: Sequence[Callable[[], object]], count: int, most_seconds: float
) -> Iterable[float]:
    ends_at = time.perf_counter() + most_seconds
    for number in range(count):
        call = calls[number % len(calls)]
        started = time.perf_counter()
        call()
        ended = time.perf_counter()
        yield ended - started
        if ended > ends_at and number + 1 >= _FEWEST_CALLS:
            return
