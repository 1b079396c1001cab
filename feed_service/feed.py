"""The feed: pages of what a viewer's connections have posted."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from feed_service import queries
from feed_service.graph_client import ConnectedIds, GraphClient
from feed_service.metrics import FeedMetrics
from feed_service.queries import PostRow
from feed_service.safe_read import safe_read
from shared.database import Database, array_literal
from shared.paging import PageTokens, Scope, from_micros, to_micros

_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)
_LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class FeedQuery:
    """What a page of a feed is asked for; empty filters let everything through."""

    viewer_id: int
    tag_ids: Sequence[int]
    author_ids: Sequence[int]
    page_size: int
    page_token: str


@dataclass(frozen=True, kw_only=True)
class FeedPage:
    """A page and the token of the next one, empty at the end."""

    posts: list[PostRow]
    next_page_token: str


class Feed:
    """Reads feeds, one SQL statement a page."""

    def __init__(
        self, database: Database, graph: GraphClient, tokens: PageTokens, metrics: FeedMetrics
    ) -> None:
        self._database = database
        self._graph = graph
        self._tokens = tokens
        self._metrics = metrics

    def page(self, query: FeedQuery) -> FeedPage:
        """Return a page of what the viewer may see, newest first; full unless the feed ends."""
        self._metrics.feed_requests.inc()
        with self._metrics.feed_latency.time():
            scope = Scope.of(
                "feed", query.viewer_id, sorted(query.tag_ids), sorted(query.author_ids)
            )
            position = self._tokens.read(scope, query.page_token, length=2)
            before = (
                (from_micros(position[0]), position[1]) if position else (_END_OF_TIME, _LARGEST_ID)
            )
            result = safe_read(
                self._graph, query.viewer_id, lambda held: self._rows(query, held, before)
            )
            rows = result.value[: query.page_size]
            token = ""
            if len(result.value) > query.page_size:
                token = self._tokens.issue(scope, (to_micros(rows[-1].created_at), rows[-1].id))
            posts = [
                row
                for row in rows
                if result.allows(author_id=row.author_id, viewer_id=query.viewer_id)
            ]
            return FeedPage(posts=posts, next_page_token=token)

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
