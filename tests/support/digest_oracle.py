"""What a digest should hold, from the design and the proto alone: plain lists, no cleverness.

Days are found by walking through the minutes and reading the date on a clock of the time zone.
"""

from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import groupby
from zoneinfo import ZoneInfo

ALL, TAGS, PRIVATE = "all", "tags", "private"
MOST_LEFT_OUT = 100

_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Post:
    """A post as it is stored."""

    author: int
    id: int
    at: datetime
    importance: float
    audience: str = ALL
    tags: frozenset[int] = frozenset()
    excluded: frozenset[int] = frozenset()
    deleted: bool = False
    moderated: bool = False


@dataclass(frozen=True, kw_only=True)
class World:
    """A viewer, their connections, who has which tag or had it, and what was posted.

    `muted` are tags of the viewer.
    """

    viewer: int
    connected: frozenset[int]
    members: Mapping[int, frozenset[int]]
    former: Mapping[int, frozenset[int]]
    posts: Sequence[Post]
    muted: frozenset[int] = frozenset()

    def sees(self, post: Post) -> bool:
        """Whether the viewer sees a post."""
        if post.deleted:
            return False
        if post.author == self.viewer:
            return True
        if post.author not in self.connected or post.audience == PRIVATE or post.moderated:
            return False
        if any(self.viewer in self.members[tag] | self.former[tag] for tag in post.excluded):
            return False
        return post.audience == ALL or any(self.viewer in self.members[tag] for tag in post.tags)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a digest is asked for, and the rules that are set."""

    week_of: datetime
    zone: ZoneInfo
    start_day: int
    tags: frozenset[int]
    own: bool
    read_at: datetime | None
    min_importance: float
    per_author_and_day: int
    max_posts: int


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A post of a digest: its name, why it is there, and on which day of the week."""

    author: int
    id: int
    importance: float
    reason: str
    day: int


def digest(world: World, question: Question) -> tuple[list[Chosen], int]:
    """Return the posts of a digest, oldest first, and how many visible ones are left out.

    That number is told up to MOST_LEFT_OUT.
    """
    return choice(
        [
            post
            for post in world.posts
            if (post.author != world.viewer or question.own)
            and (post.author == world.viewer or _is_wanted(world, question, post.author))
            and world.sees(post)
        ],
        question,
    )


def choice(posts: Sequence[Post], question: Question) -> tuple[list[Chosen], int]:
    """Return the same of the posts of any time that may be in the digest.

    That is what the viewer sees of the viewer's own and others' posts, as the question wants them.
    """
    days = week(question.week_of, question.zone, question.start_day)
    edges = [first_moment(day, question.zone) for day in [*days, days[-1] + _DAY]]
    visible = [
        (post, days[bisect(edges, post.at) - 1])
        for post in posts
        if edges[0] <= post.at < edges[-1]
        and (question.read_at is None or post.at > question.read_at)
    ]
    important = [(post, day) for post, day in visible if post.importance > question.min_importance]

    def author_and_day(entry: tuple[Post, date]) -> tuple[int, date]:
        return entry[0].author, entry[1]

    best = list[Post]()
    for _, group in groupby(sorted(important, key=author_and_day), author_and_day):
        ranked = sorted((post for post, _ in group), key=lambda post: (-post.importance, post.id))
        best += ranked[: question.per_author_and_day]

    if any(post.importance >= 7.0 for post, _ in important):
        best = [post for post in best if post.importance > 4.0]

    best.sort(key=lambda post: (post.importance, post.at, post.id), reverse=True)
    share = max(1, question.max_posts // 3)
    reasons = dict[Post, str]()
    for post in best:
        of_author = [other for other in reasons if other.author == post.author]
        if len(reasons) < question.max_posts and len(of_author) < share:
            reasons[post] = "important"
    for post in best:
        if len(reasons) < question.max_posts and post not in reasons:
            reasons[post] = "filled_place"

    day_of = dict(visible)
    chosen = [
        Chosen(
            author=post.author,
            id=post.id,
            importance=post.importance,
            reason=reasons[post],
            day=days.index(day_of[post]),
        )
        for post in sorted(reasons, key=lambda post: (post.at, post.id))
    ]
    return chosen, min(len(visible) - len(chosen), MOST_LEFT_OUT)


def _is_wanted(world: World, question: Question, author: int) -> bool:
    """Whether an author has one of the tags of a question or, if it has none, is not muted."""
    if question.tags:
        return any(author in world.members[tag] for tag in question.tags)
    return not any(author in world.members[tag] for tag in world.muted)


def week(moment: datetime, zone: ZoneInfo, start_day: int) -> list[date]:
    """Return the seven days of the week in which a moment is."""
    day = moment.date() - 2 * _DAY
    while first_moment(day + _DAY, zone) <= moment:
        day += _DAY
    while day.isoweekday() != start_day:
        day -= _DAY
    return [day + number * _DAY for number in range(7)]


@cache
def first_moment(day: date, zone: ZoneInfo) -> datetime:
    """Return the first minute at which clocks show a date or a later one."""
    moment = datetime.combine(day, time(), UTC) - timedelta(hours=16)
    while moment.astimezone(zone).date() < day:
        moment += timedelta(minutes=1)
    return moment
