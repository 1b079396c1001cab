"""Erasing what a user wrote on the shards of others, in a distributed database."""

from sqlalchemy import Connection, text

from feed_service.queries import erasure
from feed_service.queries.erasure import comments_gone

# Rows of several shards cannot be locked in an order. Two erasures may lock comments and counts for
# which the other waits; the database finds that out, and the one that loses is repeated.
_ERASE_COMMENTS = text(f"""
    WITH {comments_gone(locked="")},
    counted AS (
        UPDATE post_stats AS stats SET comment_count = stats.comment_count - fewer.number
        FROM fewer
        WHERE stats.author_id = fewer.post_author_id AND stats.post_id = fewer.post_id
    )
    SELECT count(*) FROM gone
""")


def erase_comments(connection: Connection, *, user_id: int, limit: int) -> int:
    """How many comments of the user are gone; those that others could see are counted off."""
    return erasure.comments_erased_by(connection, _ERASE_COMMENTS, user_id=user_id, limit=limit)
