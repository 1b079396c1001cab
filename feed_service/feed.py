"""The feed: pages of what a viewer's connections have posted."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final, NamedTuple

from feed_service import refresh
from feed_service.queries.feed import FeedFilter, FeedPart
from feed_service.queries.posts import PostRow
from feed_service.refresh import Seen
from feed_service.resources import Resources
from feed_service.safe_read import safe_read
from feed_service.settings import HubScan
from feed_service.viewers import Viewer
from shared.api.paging import NEWER_THAN_ALL, ByTime, Page, Scope

# How many times as far as at the pace of the page before the next one is expected to reach. Where
# posts come at random, one to three pages in a hundred reach more than twice as far.
_SLACK: Final = 3
_MICROSECOND: Final = timedelta(microseconds=1)


class _Position(NamedTuple):
    """Where a page ends, and the mean time between its posts; both in microseconds.

    The pace tells the next page what to expect. It is 0 where it is unknown, as in tokens of
    earlier versions.
    """

    micros: int
    id: int
    pace: int = 0

    @property
    def key(self) -> tuple[datetime, int]:
        """The time and the id of the last post, as the database orders by them."""
        return ByTime(self.micros, self.id).key

    def guess(self, posts: int) -> datetime | None:
        """Return the time down to which so many posts behind the page are expected."""
        reach = _SLACK * self.pace * posts
        return ByTime(max(self.micros - reach, 0), 0).key[0] if reach else None


_START: Final = _Position(*NEWER_THAN_ALL)


@dataclass(frozen=True, kw_only=True)
class FeedQuery:
    """What a page of a feed is asked for; empty filters let everything through."""

    viewer_id: int
    tag_ids: Sequence[int]
    author_ids: Sequence[int]
    newer_than: str
    page_size: int
    page_token: str

    @cached_property
    def scope(self) -> Scope:
        """What a page token is bound to."""
        since = [self.newer_than] if self.newer_than else []
        return Scope.of("feed", *self._filters, *since)

    @cached_property
    def refresh_scope(self) -> Scope:
        """What a refresh token is bound to."""
        return Scope.of("refresh", *self._filters)

    @property
    def _filters(self) -> tuple[object, ...]:
        return (self.viewer_id, sorted(self.tag_ids), sorted(self.author_ids))


@dataclass(frozen=True, kw_only=True)
class FeedPage:
    """A page of a feed; the refresh token is empty on all pages but the first."""

    posts: Sequence[PostRow]
    next_page_token: str
    refresh_token: str


class Feed:
    """Reads feeds, one SQL statement a page."""

    def __init__(self, resources: Resources, *, hub_scan: HubScan) -> None:
        self._reads = resources.reads
        self._graph = resources.graph
        self._tokens = resources.tokens
        self._metrics = resources.metrics
        self._layout = resources.layout
        self._hub_scan = hub_scan

    def page(self, query: FeedQuery) -> FeedPage:
        """Return a page of what the viewer may see, newest first.

        It is full unless the feed ends, or connections with its authors change during every read.
        """
        self._metrics.feed_requests.inc()
        with self._metrics.feed_latency.time():
            before = self._tokens.read(query.scope, query.page_token, start=_START)
            seen = refresh.read(self._tokens, query.refresh_scope, query.newer_than)
            part = FeedPart(
                before=before.key,
                after=seen.after,
                seen_ids=seen.ids,
                guess=before.guess(query.page_size),
            )
            result = safe_read(
                self._graph,
                query.viewer_id,
                lambda viewer: self._rows(query, viewer, part),
                authors=lambda rows: {row.author_id for row in rows},
            )
            # The pace of a page from which something may be dropped would tell of that.
            pace = _pace(result.value[: query.page_size]) if result.allows_all else 0
            page = self._tokens.cut(
                query.scope,
                result.value,
                size=query.page_size,
                position=lambda row: _Position(*ByTime.of(row.created_at, row.id), pace),
                is_shown=None
                if result.allows_all
                else lambda row: result.allows(author_id=row.author_id, viewer_id=query.viewer_id),
            )
            return FeedPage(
                posts=page.items,
                next_page_token=page.next_page_token,
                refresh_token="" if query.page_token else self._refresh_token(query, seen, page),
            )

    def _rows(self, query: FeedQuery, viewer: Viewer, part: FeedPart) -> list[PostRow]:
        return self._reads.prepared(
            lambda reader: self._layout.feed_page(
                reader,
                viewer=viewer,
                among=_among(query, viewer),
                part=part,
                limit=query.page_size + 1,
                hub_scan=self._hub_scan,
            ),
            since=viewer.since,
        )

    def _refresh_token(self, query: FeedQuery, seen: Seen, page: Page[PostRow]) -> str:
        now_seen = seen.and_page(page.items, is_last=not page.next_page_token)
        return refresh.issue(self._tokens, query.refresh_scope, now_seen)


def _pace(posts: Sequence[PostRow]) -> int:
    """Return the mean time between posts, the newest first, in microseconds; 0 if there is none."""
    if not posts:
        return 0
    return (posts[0].created_at - posts[-1].created_at) // _MICROSECOND // max(len(posts) - 1, 1)


def _among(query: FeedQuery, viewer: Viewer) -> FeedFilter:
    if not query.author_ids:
        return FeedFilter(
            author_ids=viewer.connected_ids,
            tag_ids=query.tag_ids,
            with_muted=bool(query.tag_ids),
        )
    return FeedFilter(
        author_ids=viewer.connected_among(query.author_ids),
        tag_ids=query.tag_ids,
        with_own=viewer.user_id in query.author_ids,
        with_muted=True,
    )
