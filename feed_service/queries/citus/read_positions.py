"""How much of a feed is unread, in a distributed database: the same number as `read_positions`.

In two statements, for the position is with the viewer.
"""

from sqlalchemy import Connection, text

from feed_service.queries.citus.authors import FEW, MANY, asked
from feed_service.viewers import Viewer
from feed_service.visibility import VISIBLE_OF_CONNECTION

_POSITION = text("SELECT read_at FROM read_positions WHERE user_id = :viewer_id")


# One row for each, so that no shard looks for more of them than are counted.
def _unread(of_asked: str) -> str:
    return f"""
    SELECT true
    FROM authors CROSS JOIN LATERAL (
        SELECT FROM posts AS p
        WHERE p.author_id = authors.author_id
          AND p.created_at > CAST(:read_at AS timestamptz)
          AND {VISIBLE_OF_CONNECTION}
        LIMIT :limit) AS unread
    WHERE authors.author_id {of_asked}
    LIMIT :limit
"""


_UNREAD = {False: text(_unread(FEW)), True: text(_unread(MANY))}


def unread_count(connection: Connection, *, viewer: Viewer, limit: int) -> int:
    """How many posts by others the viewer may see behind their position, at most `limit`."""
    read_at = connection.execute(_POSITION, {"viewer_id": viewer.user_id}).scalar()
    authors = asked(viewer.connected_ids)
    rows = connection.execute(
        _UNREAD[authors.are_many],
        {
            **viewer.parameters,
            "author_ids": authors.literal,
            "read_at": read_at or "-infinity",
            "limit": limit,
        },
    )
    return len(rows.all())
