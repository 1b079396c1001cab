"""What clients were told, and whether the databases agree."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.support.processes import Session

OK: Final = "OK"
_PAIRS: Final = """
    SELECT CASE WHEN requested_by = user_a_id
                THEN user_a_id || ' ' || user_b_id
                ELSE user_b_id || ' ' || user_a_id END
    FROM connections
"""
_STORED: Final = {
    "CreatePost": ("feed", "SELECT body FROM posts WHERE deleted_at IS NULL"),
    "CreateComment": ("feed", "SELECT body FROM comments WHERE deleted_at IS NULL"),
    "RequestConnection": ("graph", _PAIRS),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one call ended; `started` is of `time.monotonic`, which all processes share."""

    started: float
    seconds: float
    method: str
    code: str

    @property
    def ended(self) -> float:
        """When it ended."""
        return self.started + self.seconds


@dataclass(kw_only=True)
class History:
    """What a load did: every call, every write that was acknowledged, every wrong answer.

    A write is the method and what it left behind, which no other write does.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    attempted: set[tuple[str, str]] = field(default_factory=set)
    acknowledged: list[tuple[str, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    """What the first failures said."""

    @property
    def failed(self) -> Sequence[Outcome]:
        """The calls that were not answered."""
        return [outcome for outcome in self.outcomes if outcome.code != OK]

    @property
    def rate(self) -> float:
        """Calls a second."""
        first = min(outcome.started for outcome in self.outcomes)
        last = max(outcome.ended for outcome in self.outcomes)
        return len(self.outcomes) / (last - first)

    def codes(self) -> str:
        """Return how calls failed, for a person."""
        counts = Counter(f"{outcome.method} {outcome.code}" for outcome in self.failed)
        return ", ".join(f"{number} {name}" for name, number in counts.most_common(4))

    def first_answer_after(self, when: float, methods: Collection[str]) -> float:
        """Return after how many seconds the first call that began after a time was answered."""
        ends = [
            outcome.ended
            for outcome in self.outcomes
            if outcome.code == OK and outcome.started >= when and outcome.method in methods
        ]
        return min(ends) - when if ends else float("inf")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How many acknowledged writes are not there, and how many are there more than once."""

    acknowledged: int
    lost: int
    duplicated: int


def compared(history: History, *, graph_url: str, feed_url: str) -> Comparison:
    """Return what the databases have stored of a history."""
    urls = {"graph": graph_url, "feed": feed_url}
    lost = duplicated = 0
    for method, (service, statement) in _STORED.items():
        with Session(urls[service]) as session:
            stored = Counter(key for (key,) in session.rows(statement))
        told, asked = (
            {key for write, key in writes if write == method}
            for writes in (history.acknowledged, history.attempted)
        )
        lost += sum(stored[key] == 0 for key in told)
        duplicated += sum(stored[key] > 1 for key in asked)
    return Comparison(acknowledged=len(history.acknowledged), lost=lost, duplicated=duplicated)
