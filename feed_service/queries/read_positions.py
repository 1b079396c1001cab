"""Up to where users have read their feeds, and how much there is behind that."""

from datetime import datetime

from sqlalchemy import Connection, text

from feed_service.mutes import not_muted
from feed_service.viewers import Viewer
from feed_service.visibility import VISIBLE
from shared.database.reader import Reader, Statement

_MOVE_FORWARD = text("""
    INSERT INTO read_positions AS known (user_id, read_at) VALUES (:user_id, :read_at)
    ON CONFLICT (user_id) DO UPDATE SET read_at = excluded.read_at, post_id = excluded.post_id
    WHERE excluded.read_at > known.read_at
""")

_POSITION = text("SELECT read_at FROM read_positions WHERE user_id = :user_id")


def move_forward(connection: Connection, *, user_id: int, read_at: datetime) -> datetime:
    """The user's position, which is at this moment now, or was at a later one already."""
    connection.execute(_MOVE_FORWARD, {"user_id": user_id, "read_at": read_at})
    moment: datetime = connection.execute(_POSITION, {"user_id": user_id}).scalar_one()
    return moment


_READ_POSITION = Statement(
    "read_position", "SELECT read_at FROM read_positions WHERE user_id = :user_id"
)


def read_position(reader: Reader, *, user_id: int) -> datetime | None:
    """The user's position, None for a user who has never read their feed."""
    rows = reader.rows(_READ_POSITION, {"user_id": user_id})
    return rows[0][0] if rows else None


# Each author's part is found by idx_post_author and stops at the limit, and so does the whole: the
# cost grows with the connections and, up to the limit, with what is unread.
_UNREAD_COUNT = Statement(
    "unread_count",
    f"""
    WITH position AS (
        SELECT coalesce(max(read_at), '-infinity') AS read_at
        FROM read_positions WHERE user_id = :viewer_id
    )
    SELECT count(*) FROM (
        SELECT FROM position
        CROSS JOIN unnest(CAST(:connected_ids AS bigint[])) AS author (id)
        CROSS JOIN LATERAL (
            SELECT FROM posts AS p
            WHERE p.author_id = author.id
              AND p.created_at > position.read_at
              AND {VISIBLE}
            LIMIT :limit) AS unread
        WHERE {not_muted("author.id")}
        LIMIT :limit) AS unread
""",
)


def unread_count(reader: Reader, *, viewer: Viewer, limit: int) -> int:
    """How many posts of the viewer's feed, by others, are behind their position, up to `limit`."""
    [(count,)] = reader.rows(_UNREAD_COUNT, {**viewer.parameters, "limit": limit})
    return int(count)
