"""Read positions: up to where users have read their feeds, shared by all their devices."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from feed_service import posts, queries
from feed_service.queries.posts import PostName
from feed_service.resources import Resources
from feed_service.safe_read import read_of_author, steady_read
from feed_service.viewers import Viewer
from shared.api.idempotency import Call, M, once_prepared

_MOST_COUNTED: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class Unread:
    """How much of a feed is unread; `more` when it is more than is counted."""

    count: int
    more: bool


class ReadPositions:
    """Moves read positions, and counts what is behind them."""

    def __init__(self, resources: Resources) -> None:
        self._database = resources.database
        self._reads = resources.reads
        self._graph = resources.graph
        self._layout = resources.layout

    def mark(self, call: Call[datetime, M], post: PostName) -> M:
        """Move the user's position up to a post that they may see, never back."""

        def read(viewer: Viewer) -> datetime | None:
            return self._database.read(
                lambda connection: queries.posts.visible_post_time(
                    connection, viewer=viewer, name=post
                )
            )

        def time_of_post() -> datetime:
            moment = read_of_author(self._graph, call.user_id, post[0], read)
            if moment is None:
                raise posts.not_found()
            return moment

        def work(connection: Connection, moment: datetime) -> datetime:
            return queries.read_positions.move_forward(
                connection, user_id=call.user_id, read_at=moment
            )

        response, _ = once_prepared(self._database, call, prepare=time_of_post, work=work)
        return response

    def unread(self, user_id: int) -> Unread:
        """Return how many posts by others are newer than the user's position."""
        count = steady_read(
            self._graph,
            user_id,
            lambda viewer: self._reads.prepared(
                lambda reader: self._layout.unread_count(
                    reader, viewer=viewer, limit=_MOST_COUNTED + 1
                ),
                since=viewer.since,
            ),
        )
        return Unread(count=min(count, _MOST_COUNTED), more=count > _MOST_COUNTED)
