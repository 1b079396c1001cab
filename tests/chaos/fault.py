"""A fault, its promise, and the figures by which it is judged."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from benchmarks.row import Row
from tests.chaos.history import Comparison, History
from tests.chaos.stage import Stage

Break: TypeAlias = "Callable[[Stage, Effort], Iterator[Row]]"

LEAST_RATE: Final = 200


class NotBuiltError(Exception):
    """What would be broken does not exist yet."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How thoroughly: `times` scales how often something is broken, or how long.

    Where `is_timed` is off, other work may be under way: bounds on times say nothing, and `rate`,
    how many calls a second are made meanwhile, leaves most of the machine to it. `settings` are
    those of the services where a fault needs no more of them, and `senders` are how many processes
    send messages at once.
    """

    times: float
    is_timed: bool = True
    rate: float = 320
    senders: int = 2
    settings: Mapping[str, str] = field(default_factory=dict)

    def of(self, number: int) -> int:
        """Return how many of so many are to be done, at least one."""
        return max(1, round(number * self.times))


FULL: Final = Effort(times=1)
QUICK: Final = Effort(
    times=0.02,
    is_timed=False,
    rate=40,
    senders=1,
    settings={"GRAPH_WORKERS": "1", "FEED_WORKERS": "1"},
)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that breaks; `run` breaks it and yields the figures of what came of it."""

    name: str
    what: str
    promise: str
    run: Break


def none(name: str, measured: float, *, note: str = "") -> Row:
    """Return the row of something that may not happen even once."""
    return Row(name=name, measured=measured, target=0, unit="", note=note)


def within(name: str, measured: float, target: float, unit: str, *, note: str = "") -> Row:
    """Return the row of something that has a bound."""
    return Row(name=name, measured=measured, target=target, unit=unit, note=note)


def at_least(name: str, measured: float, target: float, unit: str, *, note: str = "") -> Row:
    """Return the row of something that has to be reached."""
    return Row(name=name, measured=measured, target=target, unit=unit, at_least=True, note=note)


def kept(history: History, found: Comparison) -> Iterator[Row]:
    """Yield what holds under every fault: nothing lost, nothing twice, no wrong answer."""
    note = f"of {found.acknowledged:,}"
    yield none("acknowledged writes lost", found.lost, note=note)
    yield none("writes made twice", found.duplicated)
    yield none("wrong answers", len(history.wrong), note="; ".join(history.wrong[:3]))


def no_failure(history: History) -> Iterator[Row]:
    """Yield that no call failed, and that there were enough."""
    note = " | ".join([history.codes(), *history.details[:1]])
    yield none(
        "failed calls", len(history.failed), note=note if history.failed else _number(history)
    )
    yield at_least("calls a second", history.rate, LEAST_RATE, "/s")


def _number(history: History) -> str:
    return f"of {len(history.outcomes):,}"
