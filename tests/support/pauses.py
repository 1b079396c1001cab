"""Reads and changes that a test pauses between two of their steps, to let something happen there.

The proxies between the parts of the pair stop it, wherever its posts are read.
"""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import Final

from kith.graph.v1 import graph_pb2
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
# A ceiling that only something broken reaches.
_WITHIN_SECONDS: Final = 60
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


@contextmanager
def removing(pair: Pair, user_id: int, peer_id: int) -> Iterator[None]:
    """Let a removal come as far as its COMMIT, and go on after the block."""
    is_committing, may_commit = Event(), Event()

    def on_statement(statement: str) -> None:
        # No other transaction stores the answer to a request id.
        if "UPDATE idempotency_keys" in statement and "COMMIT" in statement:
            is_committing.set()
            may_commit.wait(_WITHIN_SECONDS)

    removal = graph_pb2.RemoveConnectionRequest(
        user_id=user_id, peer_id=peer_id, request_id=str(uuid.uuid4())
    )
    pair.graph_tap.before_statement = on_statement
    with ThreadPoolExecutor(1) as threads:
        changing = threads.submit(pair.graph.RemoveConnection, removal)
        try:
            assert is_committing.wait(_WITHIN_SECONDS), "the removal does not commit"
            pair.graph_tap.before_statement = _pass
            yield
        finally:
            may_commit.set()
        changing.result()


def _pass(_what: str) -> None:
    """Let something through."""
