"""The states that a world has gone through, each with the time in which it may have been read."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.proof.changes import Changes
from tests.proof.observed import Made
from tests.proof.worlds import World, Worlds


@dataclass(kw_only=True)
class _State:
    """A world from when the call began that made it, to when the call was over that changed it."""

    world: World
    since: float
    until: float = float("inf")


@dataclass
class History:
    """The latest states of a world, read after every call that may change it.

    One thread at a time makes changes; others may look at the states meanwhile.
    """

    changes: Changes
    worlds: Worlds
    _states: list[_State] = field(init=False)

    def __post_init__(self) -> None:
        """Begin with the state of now."""
        self._states = [_State(world=self.changes.world(self.worlds), since=0)]
        self.changes.after = self._add

    @property
    def now(self) -> World:
        """The state after the latest change."""
        return self._states[-1].world

    def between(self, began_at: float, ended_at: float) -> list[World]:
        """Return the states that an answer may be of, by when its call began and ended."""
        return list(self._between(began_at, ended_at))

    def forget(self) -> None:
        """Forget all states but that of now."""
        del self._states[:-1]

    def _between(self, began_at: float, ended_at: float) -> Iterator[World]:
        for state in list(self._states):
            if state.since <= ended_at and state.until >= began_at:
                yield state.world

    def _add(self, made: Made) -> None:
        # No later state than the one before can be in an answer that came before this call began.
        world = self.changes.world(self.worlds)
        before = self._states[-1]
        self._states.append(_State(world=world, since=made.began_at))
        before.until = time.monotonic()
