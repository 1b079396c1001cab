"""Random changes to one world, what the databases say after each, and how to make them again."""

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from feed_service.auditor.primaries import SUSPENSION_SECONDS
from tests.proof.observed import Made, Observed
from tests.proof.worlds import World, Worlds
from tests.support.random_changes import RandomChanges
from tests.support.rpcs import Stubs

_KEPT: Final = 40
_OF_SUSPENSIONS: Final = frozenset({"SuspendUser", "RestoreUser", "DeleteUser"})


@dataclass
class Changes:
    """Changes by some people. `after` is told of every call, once it has been answered."""

    pick: random.Random
    source: RandomChanges = field(init=False)
    latest: deque[Made] = field(default_factory=lambda: deque(maxlen=_KEPT))
    after: Callable[[Made], None] = lambda _made: None
    _suspended_at: dict[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, stubs: Stubs, ids: list[int], pick: random.Random) -> Self:
        """Return changes by some people, of whom nobody was suspended or restored of late."""
        changes = cls(pick)
        changes.source = RandomChanges(Observed(stubs, changes._note), ids, pick)
        return changes

    @property
    def ids(self) -> Sequence[int]:
        """The people."""
        return self.source.ids

    def make(self, number: int) -> None:
        """Make so many changes."""
        self.source.change(number)

    def world(self, worlds: Worlds) -> World:
        """Read what is stored of these people now."""
        since = time.monotonic() - SUSPENSION_SECONDS
        lately = {user_id for user_id, at in self._suspended_at.items() if at > since}
        return worlds.read(self.ids, refused_or_not=lately)

    def _note(self, made: Made) -> None:
        self.latest.append(made)
        if made.method in _OF_SUSPENSIONS:
            self._suspended_at[made.request.user_id] = time.monotonic()
        self.after(made)
