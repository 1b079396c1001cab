"""Asking a feed for what has come since: the token that a first page is answered with.

A post becomes visible when its transaction commits, a moment after it got its time. So what is
newer than the newest post of a page is not all that has come since: another post may have got its
time a little earlier and be committed a little later. The token therefore reaches back by more than
a transaction can last, and names the posts behind that which the reader has already.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Final

from feed_service.queries.posts import PostRow
from shared.api.paging import OLDER_THAN_ALL, ByTime, PageTokens, Scope

_REACH_BACK: Final = timedelta(seconds=10) // timedelta(microseconds=1)
_MOST_SEEN: Final = 100


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a reader has of a feed: everything up to a position, and some posts behind it."""

    up_to: ByTime = OLDER_THAN_ALL
    posts: Sequence[ByTime] = ()

    @property
    def after(self) -> tuple[datetime, int]:
        """The position behind which everything is new, but for `ids`."""
        return self.up_to.key

    @property
    def ids(self) -> list[int]:
        """The posts behind that position that the reader has already."""
        return [post.id for post in self.posts]

    def and_page(self, rows: Sequence[PostRow], *, is_last: bool) -> "Seen":
        """Return what the reader has after a first page too, of which more pages may follow.

        What lies between the end of the page and what the reader had before is left to these pages.
        """
        if not rows:
            return self
        newest, oldest = (ByTime.of(row.created_at, row.id) for row in (rows[0], rows[-1]))
        reach = ByTime(newest.micros - _REACH_BACK, 0)
        up_to = max(self.up_to, reach if is_last else max(reach, oldest))
        posts = sorted(
            {*_behind(up_to, rows), *(post for post in self.posts if post > up_to)}, reverse=True
        )
        if len(posts) > _MOST_SEEN:
            up_to = posts[_MOST_SEEN]
        return Seen(up_to=up_to, posts=posts[:_MOST_SEEN])


def _behind(up_to: ByTime, rows: Sequence[PostRow]) -> Iterator[ByTime]:
    """Yield the rows' positions down to one; few reach back so little, so few are computed."""
    positions = (ByTime.of(row.created_at, row.id) for row in rows)
    return takewhile(lambda post: post > up_to, positions)


def issue(tokens: PageTokens, scope: Scope, seen: Seen) -> str:
    """Return the refresh token for what a reader has."""
    return tokens.issue(scope, [*seen.up_to, *(part for post in seen.posts for part in post)])


def read(tokens: PageTokens, scope: Scope, token: str) -> Seen:
    """Return what a refresh token says, or that the reader has nothing when it is empty.

    Raises ValidationError naming `newer_than`.
    """
    parts = tokens.read_integers(scope, token, field="newer_than")
    if not parts:
        return Seen()
    up_to, *posts = map(ByTime, parts[::2], parts[1::2])
    return Seen(up_to=up_to, posts=posts)
