"""A safe read that a test pauses between any two of its steps, to let something happen there.

The proxies between the parts of the pair stop it, wherever its posts are read.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import Final

from tests.support.pair import Pair
from tests.support.wire import Hook

STEPS = [
    "before the 1st question to the graph",
    "after the 1st question to the graph",
    "before the posts are read",
    "after the posts are read",
    "before the 2nd question to the graph",
    "after the 2nd question to the graph",
]
# A replica's rows are confirmed by a statement to the primary.
FENCE_STEPS = ["before the fence is read", "after the fence is read"]
# When the connections are at hand, the only question is the one afterwards.
CASES = [("cold", step) for step in STEPS] + [("warm", step) for step in STEPS if "2nd" not in step]
# Parts of statements, not their names, which are sent only where statements are prepared.
OPENS_FENCES: Final = "INSERT INTO open_fences"
CLOSES_FENCES: Final = "DELETE FROM open_fences"
_WHAT: Final = {"posts are read": "posts AS p", "fence is read": "FROM fences WHERE"}


@dataclass
class Pause:
    """Runs an action once, when a read comes to a step."""

    pair: Pair

    def at(self, step: str, action: Callable[[], None], *, viewer_id: int | None = None) -> None:
        """Choose the step and what happens while the read is paused there.

        Only a statement that names the viewer is one of the read, if there is a viewer. Fences of
        everybody are also read beside the calls.
        """
        named = "" if viewer_id is None else str(viewer_id)
        when, _, what = step.partition(" the ")
        questions = 0
        is_over = False

        def act() -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                action()

        def on_question(method: str) -> None:
            nonlocal questions
            if method == "GetConnectedUserIds" and not is_over:
                questions += 1
                if what.startswith(str(questions)):
                    act()

        def on_statement(statement: str) -> None:
            if _WHAT.get(what, what) in statement and named in statement:
                act()

        self._set(f"{when}_call", f"{when}_statement", on_question, on_statement)

    def off(self) -> None:
        """Let everything through."""
        for when in ("before", "after"):
            self._set(f"{when}_call", f"{when}_statement", _pass, _pass)

    def _set(self, calls: str, statements: str, on_call: Hook, on_statement: Hook) -> None:
        setattr(self.pair.gate, calls, on_call)
        for tap in (self.pair.feed_tap, *self.pair.replica_taps):
            setattr(tap, statements, on_statement)


@contextmanager
def nothing_told(pair: Pair) -> Iterator[None]:
    """Keep the changes of the graph from followers, and tell them at the end."""
    told = Event()

    def wait(method: str) -> None:
        if method == "WatchConnections":
            told.wait()

    pair.gate.after_call = wait
    try:
        yield
    finally:
        pair.gate.after_call = lambda _method: None
        told.set()


def _pass(_what: str) -> None:
    """Let something through."""
