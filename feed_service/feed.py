"""The feed: pages of what a viewer's connections have posted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from feed_service import queries
from feed_service.graph_client import ConnectedIds, GraphClient
from feed_service.metrics import FeedMetrics
from feed_service.queries import PostRow
from feed_service.safe_read import safe_read
from shared.database import Database, array_literal
from shared.paging import Page, PageTokens, Scope, newest_first, place


@dataclass(frozen=True, kw_only=True)
class FeedQuery:
    """What a page of a feed is asked for; empty filters let everything through."""

    viewer_id: int
    tag_ids: Sequence[int]
    author_ids: Sequence[int]
    page_size: int
    page_token: str


class Feed:
    """Reads feeds, one SQL statement a page."""

    def __init__(
        self, database: Database, graph: GraphClient, tokens: PageTokens, metrics: FeedMetrics
    ) -> None:
        self._database = database
        self._graph = graph
        self._tokens = tokens
        self._metrics = metrics

    def page(self, query: FeedQuery) -> Page[PostRow]:
        """Return a page of what the viewer may see, newest first; full unless the feed ends."""
        self._metrics.feed_requests.inc()
        with self._metrics.feed_latency.time():
            scope = Scope.of(
                "feed", query.viewer_id, sorted(query.tag_ids), sorted(query.author_ids)
            )
            before = place(self._tokens.read(scope, query.page_token, length=2))
            result = safe_read(
                self._graph, query.viewer_id, lambda held: self._rows(query, held, before)
            )
            page = self._tokens.cut(
                scope,
                result.value,
                size=query.page_size,
                position=lambda row: newest_first(row.created_at, row.id),
            )
            allowed = [
                row
                for row in page.items
                if result.allows(author_id=row.author_id, viewer_id=query.viewer_id)
            ]
            return replace(page, items=allowed)

    def _rows(
        self, query: FeedQuery, held: ConnectedIds, before: tuple[datetime, int]
    ) -> list[PostRow]:
        return self._database.read(
            lambda connection: queries.feed_page(
                connection,
                viewer_id=query.viewer_id,
                connected_ids=held.literal,
                author_ids=_author_ids(query, held),
                tag_ids=query.tag_ids,
                before_time=before[0],
                before_id=before[1],
                limit=query.page_size + 1,
            )
        )


def _author_ids(query: FeedQuery, held: ConnectedIds) -> str:
    """Return whose posts to look at; whether they may be seen is decided elsewhere."""
    if query.author_ids:
        return array_literal(query.author_ids)
    return held.literal_with(query.viewer_id)
