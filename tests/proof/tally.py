"""What has been compared, by kind, and what was wrong."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

_COUNTED: Final = ("calls", "kinds", "walks", "pages", "refused")
_NUMBERS: Final = ("decision_seconds", "walk_seconds", "seconds")


@dataclass
class Tally:
    """How many decisions and walks there were; `wrong` has what to reproduce an error by.

    The seconds are those of all processes together. A walk is counted by how many pages it took,
    and by what changed meanwhile; those that a refusal ended are counted apart, by its reason.
    """

    calls: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    walks: Counter[str] = field(default_factory=Counter)
    pages: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    decision_seconds: float = 0.0
    walk_seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def decisions(self) -> int:
        """How often an answer about one viewer and one item was compared with the rule."""
        return self.calls.total()

    @property
    def walked(self) -> int:
        """How many feeds were read from the first page to the last, with changes in between."""
        return self.pages.total()

    def add(self, other: "Tally") -> None:
        """Add what was compared elsewhere."""
        self.calls += other.calls
        self.kinds += other.kinds
        self.walks += other.walks
        self.pages += other.pages
        self.refused += other.refused
        self.decision_seconds += other.decision_seconds
        self.walk_seconds += other.walk_seconds
        self.wrong += other.wrong

    def table(self) -> str:
        """Return all numbers as lines for people."""
        parts = (
            ("decisions by call", self.calls),
            ("decisions by kind", self.kinds),
            ("walks by number of pages", self.pages),
            ("of these walks", self.walks),
            ("more walks that were refused", self.refused),
        )
        return "".join(f"{title}\n{_lines(counted)}" for title, counted in parts if counted)


def _lines(counted: Counter[str]) -> str:
    return "".join(f"{number:>15,}  {name}\n" for name, number in counted.most_common())


@dataclass
class Done(Tally):
    """All that was ever compared, and how many seconds have passed meanwhile."""

    seconds: float = 0.0

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what runs before have done; nothing if there is no file yet."""
        if not path.exists():
            return cls()
        said: dict[str, Any] = json.loads(path.read_text())
        return cls(**{**said, **{name: Counter(said[name]) for name in _COUNTED}})

    def write(self, path: Path) -> None:
        """Write the file as a whole, or not at all."""
        new = path.with_name(f"{path.name}.new")
        counted = {name: dict(getattr(self, name)) for name in _COUNTED}
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        new.write_text(json.dumps({**counted, **numbers, "wrong": self.wrong}))
        new.replace(path)
