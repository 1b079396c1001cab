"""What a digest says of its week in one sentence."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Protocol

_EVENTFUL: Final = 6.0
_BALANCED: Final = 4.0
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True, kw_only=True)
class ShownPost:
    """What a summary may go by: a post that the reader sees, on which of their days."""

    author_id: int
    importance: float
    day: date


class Summarizer(Protocol):
    """Sums up a digest; another one can be given to `Digests`.

    It is asked at every reading, for posts that the reader sees at that moment, so that no sentence
    tells of a post that has disappeared.
    """

    def summary(self, posts: Sequence[ShownPost]) -> str:
        """Return a sentence about the posts, or nothing when there are none."""


class PlainSummarizer:
    """Says how eventful the week was, how many posts and people there are, and the busiest day."""

    def summary(self, posts: Sequence[ShownPost]) -> str:
        """Return a sentence about the posts, or nothing when there are none."""
        if not posts:
            return ""
        people = len({post.author_id for post in posts})
        return (
            f"{_kind(posts)} week: {_counted(len(posts), 'post', 'posts')} by "
            f"{_counted(people, 'person', 'people')}, {_busiest_day(posts)}."
        )


def _kind(posts: Sequence[ShownPost]) -> str:
    mean = sum(post.importance for post in posts) / len(posts)
    if mean > _EVENTFUL:
        return "An eventful"
    return "A balanced" if mean > _BALANCED else "A quieter"


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _busiest_day(posts: Sequence[ShownPost]) -> str:
    """Name the day with the most posts, of several such days the first."""
    counts = Counter(post.day for post in posts)
    busiest = min(counts, key=lambda day: (-counts[day], day))
    name = _DAYS[busiest.weekday()]
    return f"on {name}" if len(counts) == 1 else f"busiest on {name}"
