"""The page of a feed in a distributed database: the same posts in the same order as `feed`.

Citus takes apart what it can run on every shard by itself, and merges what comes back. A threshold
for all streams is none of that; and a statement costs so much, being planned on every shard, that
what it reads hardly matters. So a page is one statement where possible, and three at most:

    the newest, by the rule itself, of as much time as a page most likely takes    recent
    unless that was a page: the newest post of each author that the viewer sees    heads
    and from the last one that fits on the page on, what these authors have        page

The last alone is enough where there are fewer than `FEED_HUB_DEGREE` authors, for it reads no more
than a page of each; and `FEED_HUB_SCAN_ROWS=0` leaves out the first. Two more go to one shard: the
people with the viewer's tags, if the feed is limited to tags, or else the people that the viewer
has muted; and the tags of the viewer's own posts on the page.

Each statement decides on every shard by one snapshot what is shown, and so the page is safe as
`safe_read` has it. But shards and statements have snapshots of their own: a post that comes while a
page is being read may be missing beside a newer one, as if it had come after the page, which a
refresh reaches back for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import exp, log
from typing import Final

from feed_service.queries.citus.authors import (
    AMONG_ALL,
    FEW,
    MANY,
    Asked,
    asked,
    tagged_authors,
    unmuted,
)
from feed_service.queries.feed import IN_PART, NEWEST, FeedFilter, FeedPart
from feed_service.queries.posts import (
    POST_COLUMNS_OF_AUTHOR,
    POST_COLUMNS_OF_OTHERS,
    PostRow,
)
from feed_service.settings import HubScan
from feed_service.viewers import Viewer
from feed_service.visibility import VISIBLE_OF_CONNECTION, tag_holds
from feed_service.visibility_streams import NOT_EXCLUDED, open_posts, tagged_posts
from kith.exceptions import AbortedError
from shared.database.arrays import array_literal
from shared.database.reader import Reader, Statement

_ATTEMPTS: Final = 3

# From so many authors on, the recent posts are looked for among those of everybody. The more people
# there are, the fewer of these are by authors of the feed; so it is half the limit of connections.
_AMONG_ALL_FROM: Final = 2_500


def _recent(name: str, posts: str) -> Statement:
    return Statement(
        name,
        f"""
    SELECT {POST_COLUMNS_OF_OTHERS} FROM {posts}
      AND {IN_PART} AND {VISIBLE_OF_CONNECTION}
    {NEWEST} :limit
""",
    )


# From the few of them that a shard has: in posts it would look for each of all that are asked.
_OF_AUTHORS: Final = f"""
    authors JOIN posts AS p ON p.author_id = authors.author_id WHERE authors.author_id {MANY}"""

_RECENT: Final = {
    False: _recent("recent_posts", _OF_AUTHORS),
    True: _recent("recent_posts_among_all", f"posts AS p WHERE (p.author_id {AMONG_ALL})"),
}

# The tags that authors have given to the viewer are on the shards of these authors.
_GIVEN: Final = f"""
        given.target_user_id = :viewer_id
          AND {tag_holds("given", peer="given.owner_user_id", revisions=":peer_revisions")}
          AND given.owner_user_id"""
_GIVEN_POSTS: Final = {"author": "given.owner_user_id", "tag": "given.tag_id", "part": IN_PART}

# A post may be in several streams, hence UNION, here and below.
_HEADS = Statement(
    "feed_heads",
    f"""
    SELECT head.author_id, head.created_at, head.id
    FROM (
        SELECT head.author_id, head.id, head.created_at
        FROM authors CROSS JOIN LATERAL (
            {open_posts(author="authors.author_id", part=f"{IN_PART} AND {NOT_EXCLUDED}")}
            {NEWEST} 1) AS head
        WHERE authors.author_id {MANY}
        UNION
        SELECT head.author_id, head.id, head.created_at
        FROM user_tags AS given CROSS JOIN LATERAL (
            {tagged_posts(**_GIVEN_POSTS)} {NEWEST} 1) AS head
        WHERE {_GIVEN} {MANY}
    ) AS head
    {NEWEST} :limit
""",
)

_PAGE = Statement(
    "author_posts",
    f"""
    SELECT {POST_COLUMNS_OF_OTHERS}
    FROM (
        SELECT entry.author_id, entry.id
        FROM authors CROSS JOIN LATERAL (
            {open_posts(author="authors.author_id", part=f"{IN_PART} AND {NOT_EXCLUDED}")}
            {NEWEST} :limit) AS entry
        WHERE authors.author_id {FEW}
        UNION
        SELECT entry.author_id, entry.id
        FROM user_tags AS given CROSS JOIN LATERAL (
            {tagged_posts(**_GIVEN_POSTS)} {NEWEST} :limit) AS entry
        WHERE {_GIVEN} {FEW}
        UNION
        SELECT entry.author_id, entry.id
        FROM authors CROSS JOIN LATERAL (
            SELECT author_id, id FROM posts
            WHERE author_id = authors.author_id AND deleted_at IS NULL AND {IN_PART}
            {NEWEST} :limit) AS entry
        WHERE authors.author_id = :viewer_id AND :with_own
    ) AS page
    JOIN posts AS p ON p.author_id = page.author_id AND p.id = page.id
    ORDER BY p.created_at DESC, p.id DESC LIMIT :limit
""",
)

_OWN_POSTS = Statement(
    "own_posts",
    f"""
    SELECT {POST_COLUMNS_OF_AUTHOR} FROM posts AS p
    WHERE p.author_id = :author_id AND p.id = ANY (CAST(:post_ids AS bigint[]))
      AND p.deleted_at IS NULL
""",
)


@dataclass(frozen=True, kw_only=True)
class _Question:
    """What a page is asked for, of which authors."""

    viewer: Viewer
    authors: Asked
    with_own: bool
    part: FeedPart
    limit: int

    @property
    def parameters(self) -> Mapping[str, object]:
        """What the statements are bound to."""
        return {
            **self.viewer.parameters,
            **self.part.parameters,
            "author_ids": self.authors.literal,
            "with_own": self.with_own,
            "limit": self.limit,
        }

    def behind(self, moment: datetime, post_id: int = 0) -> "_Question":
        """Return the question for posts that are not older than a position."""
        after = max(self.part.after, (moment, post_id - 1))
        return replace(self, part=replace(self.part, after=after))


class FeedPages:
    """Reads pages, and learns from them how far back the next ones reach. Thread-safe."""

    def __init__(self) -> None:
        self._pace = _Pace()

    def page(
        self,
        reader: Reader,
        *,
        viewer: Viewer,
        among: FeedFilter,
        part: FeedPart,
        limit: int,
        hub_scan: HubScan,
    ) -> list[PostRow]:
        """Up to `limit` posts of a part of the viewer's feed, newest first."""
        question = _Question(
            viewer=viewer,
            authors=_authors(reader, viewer, among),
            with_own=among.with_own,
            part=part,
            limit=limit,
        )
        return _with_own_tags(reader, viewer, self._rows(reader, question, hub_scan))

    def _rows(self, reader: Reader, question: _Question, hub_scan: HubScan) -> list[PostRow]:
        if question.authors.count < hub_scan.degree:
            return _page(reader, question)
        rows = self._recent(reader, question, most=hub_scan.rows) if hub_scan.rows else None
        rows = _by_heads(reader, question) if rows is None else rows
        self._pace.learn(rows, author_count=question.authors.count)
        return rows

    def _recent(self, reader: Reader, question: _Question, *, most: int) -> list[PostRow] | None:
        """The page, if it is no longer than was expected; None otherwise."""
        start = self._pace.start(
            question.part.before[0],
            question.limit,
            author_count=question.authors.count,
            most=most,
        )
        recent = question.behind(start)
        own = question.viewer.user_id
        authors = recent.authors.and_also(own) if recent.with_own else recent.authors
        statement = _RECENT[authors.count >= _AMONG_ALL_FROM]
        rows = _post_rows(reader, statement, replace(recent, authors=authors))
        is_all = recent.part.after == question.part.after
        return rows if is_all or len(rows) == question.limit else None


def _authors(reader: Reader, viewer: Viewer, among: FeedFilter) -> Asked:
    authors = asked(among.author_ids)
    if among.tag_ids:
        tag_ids = array_literal(among.tag_ids)
        authors = tagged_authors(reader, viewer=viewer, literal=authors.literal, tag_ids=tag_ids)
    return authors if among.with_muted else unmuted(reader, viewer=viewer, authors=authors)


def _by_heads(reader: Reader, question: _Question) -> list[PostRow]:
    """The page, from those authors alone who are on it.

    There are as many posts on it as there are heads, unless some of these are deleted meanwhile;
    then the page would seem to be the last one, and it is read again.
    """
    for _ in range(_ATTEMPTS):
        heads = reader.rows(_HEADS, question.parameters)
        authors = asked(array_literal({author_id for author_id, _, _ in heads}))
        part = replace(question, authors=authors)
        if len(heads) < question.limit:
            return _page(reader, part)
        rows = _page(reader, part.behind(*heads[-1][1:]))
        if len(rows) == question.limit:
            return rows
    raise AbortedError("posts keep being deleted; repeat the call")


def _page(reader: Reader, question: _Question) -> list[PostRow]:
    if not question.authors.count and not question.with_own:
        return []
    return _post_rows(reader, _PAGE, question)


def _post_rows(reader: Reader, statement: Statement, question: _Question) -> list[PostRow]:
    return [PostRow._make(row) for row in reader.rows(statement, question.parameters)]


def _with_own_tags(reader: Reader, viewer: Viewer, rows: list[PostRow]) -> list[PostRow]:
    """The same rows, those of the viewer's own posts with their tags."""
    own = [row.id for row in rows if row.author_id == viewer.user_id]
    if not own:
        return rows
    found = reader.rows(
        _OWN_POSTS,
        {
            "viewer_id": viewer.user_id,
            "author_id": viewer.user_id,
            "post_ids": array_literal(own),
        },
    )
    complete = {row.id: row for row in map(PostRow._make, found)}
    return [complete.get(row.id, row) if row.author_id == viewer.user_id else row for row in rows]


class _Pace:
    """How recently and how often one author is seen to post, as far as pages have told.

    It decides what a page costs, and nothing else. A page whose authors post at another pace than
    most takes three statements instead of one.
    """

    _FIRST: Final = timedelta(days=1) / timedelta(seconds=1)
    _LONGEST: Final = timedelta(days=3650) / timedelta(seconds=1)
    _SHORTEST: Final = 1e-6
    _LEAST_WEIGHT: Final = 0.1
    # So much more than a page, and so many posts besides, that a page is hardly ever too short.
    _MARGIN: Final = 3
    _MORE: Final = 10

    def __init__(self) -> None:
        self._newest = datetime.max.replace(tzinfo=UTC)
        self._seconds = self._FIRST
        self._pages = 0

    def start(self, before: datetime, limit: int, *, author_count: int, most: int) -> datetime:
        """Return since when so many authors have a page of posts before a moment, or `most`."""
        wanted = min(limit * self._MARGIN + self._MORE, most)
        seconds = min(self._seconds * wanted / max(author_count, 1), self._LONGEST)
        return min(before, self._newest, datetime.now(UTC)) - timedelta(seconds=seconds)

    def learn(self, rows: Sequence[PostRow], *, author_count: int) -> None:
        """Take a page of so many authors into account."""
        if len(rows) < 2:  # noqa: PLR2004 -- one post has no pace
            return
        newest, oldest = rows[0].created_at, rows[-1].created_at
        self._newest = max(newest, self._newest) if self._pages else newest
        seconds = (newest - oldest).total_seconds() * author_count / (len(rows) - 1)
        weight = max(self._LEAST_WEIGHT, 1 / (self._pages + 1))
        # The mean of logarithms: one feed that sleeps must not slow down all others.
        learnt = weight * log(max(seconds, self._SHORTEST)) + (1 - weight) * log(self._seconds)
        self._seconds = exp(learnt)
        self._pages += 1
