"""Breadth-first search of all states that a model can come to, for one that breaks its promise.

It visits every state once, so it ends when a model has finitely many, and the promise is then kept
in all of them. Breadth first, because the steps to the first broken state that it finds are as few
as possible.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

S = TypeVar("S", bound=Hashable)

Steps: TypeAlias = Iterable[tuple[str, S]]
"""What may happen next, in words, and the states after it."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """How many states were visited, and the steps to the first that is broken, if any is."""

    states: int
    steps: tuple[str, ...] | None = None

    def __str__(self) -> str:
        if self.steps is None:
            return f"kept in all {self.states:,} states"
        lines = [f"{number:5}. {step}" for number, step in enumerate(self.steps, start=1)]
        return "\n".join([f"broken, found after {self.states:,} states:", *lines])


def search(first: S, successors: Callable[[S], Steps[S]], is_broken: Callable[[S], bool]) -> Found:
    """Visit the states that can be reached from the first one, until one is broken."""
    came_from: dict[S, tuple[S, str] | None] = {first: None}
    waiting = deque([first])
    while waiting:
        state = waiting.popleft()
        if is_broken(state):
            return Found(states=len(came_from), steps=_steps(came_from, state))
        for step, successor in successors(state):
            if successor not in came_from:
                came_from[successor] = (state, step)
                waiting.append(successor)
    return Found(states=len(came_from))


def _steps(came_from: dict[S, tuple[S, str] | None], state: S) -> tuple[str, ...]:
    steps = list[str]()
    origin = came_from[state]
    while origin is not None:
        state, step = origin
        steps.append(step)
        origin = came_from[state]
    return tuple(reversed(steps))
