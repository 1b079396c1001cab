"""Erasing what a user wrote on the shards of others, in a distributed database."""

from sqlalchemy import Connection, text

from feed_service.queries import erasure
from feed_service.queries.comments import CommentName
from feed_service.queries.erasure import comments_hidden

# Rows of several shards cannot be locked in an order. Two erasures may lock comments and counts for
# which the other waits; the database finds that out, and the one that loses is repeated.
_HIDE_COMMENTS = text(comments_hidden(locked=""))

_COUNT_OFF = text("""
    UPDATE post_stats AS stats SET comment_count = stats.comment_count - fewer.number
    FROM unnest(CAST(:author_ids AS bigint[]), CAST(:post_ids AS bigint[]),
                CAST(:numbers AS bigint[])) AS fewer (author_id, post_id, number)
    WHERE stats.author_id = fewer.author_id AND stats.post_id = fewer.post_id
""")


def hide_comments(
    connection: Connection, *, user_id: int, limit: int
) -> tuple[int, dict[CommentName, int]]:
    """How many comments of the user are hidden now, and who wrote the replies that are, too."""
    return erasure.comments_hidden_by(
        connection, hide=_HIDE_COMMENTS, count_off=_COUNT_OFF, user_id=user_id, limit=limit
    )
