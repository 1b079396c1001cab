"""How much of a feed is unread, in a distributed database: the same number as `read_positions`.

In two statements, for the position and the mutes are with the viewer.
"""

from feed_service.mutes import MUTED
from feed_service.queries.citus.authors import FEW, MANY, asked
from feed_service.viewers import Viewer
from feed_service.visibility import VISIBLE_OF_CONNECTION
from shared.database.reader import Reader, Statement

# The position is in the one row without a user.
_POSITION_AND_MUTED = Statement(
    "position_and_muted",
    f"""
    SELECT CAST(NULL AS bigint) AS user_id, max(read_at) AS read_at
    FROM read_positions WHERE user_id = :viewer_id
    UNION ALL
    SELECT muted.target_user_id, NULL FROM ({MUTED}) AS muted
""",
)


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


_UNREAD = {
    False: Statement("unread_of_few", _unread(FEW)),
    True: Statement("unread_of_many", _unread(MANY)),
}


def unread_count(reader: Reader, *, viewer: Viewer, limit: int) -> int:
    """How many posts of the viewer's feed, by others, are behind their position, up to `limit`."""
    of_viewer = reader.rows(_POSITION_AND_MUTED, viewer.parameters)
    [read_at] = [moment for user_id, moment in of_viewer if user_id is None]
    muted = {user_id for user_id, _ in of_viewer if user_id is not None}
    authors = asked(viewer.connected_ids).without(muted)
    rows = reader.rows(
        _UNREAD[authors.are_many],
        {
            **viewer.parameters,
            "author_ids": authors.literal,
            "read_at": read_at or "-infinity",
            "limit": limit,
        },
    )
    return len(rows)
