"""Comments, and how many each post has.

Every transaction locks a comment before the count of its post, so no two wait for each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from feed_service.queries.posts import PostName
from feed_service.viewers import Viewer
from feed_service.visibility import NOT_BLOCKED, VISIBLE_OF_AUTHOR, shown_comment

CommentName = tuple[int, int, int]
"""The name of a post, and the id of one of its comments."""


@dataclass(frozen=True, kw_only=True)
class CommentRow:
    """A comment."""

    post_author_id: int
    post_id: int
    id: int
    author_id: int
    body: str
    version: int
    created_at: datetime
    edited_at: datetime | None
    is_moderated: bool


class LockedComment(NamedTuple):
    """The version of a comment, and whether a hold keeps it from being changed."""

    version: int
    is_held: bool


COMMENT_COLUMNS = """
    c.post_author_id, c.post_id, c.id, c.author_id, c.body, c.version, c.created_at, c.edited_at,
    c.moderated_at IS NOT NULL AS is_moderated
"""
"""What CommentRow holds, of a row `c` of comments."""

_NAMED = "c.post_author_id = :post_author_id AND c.post_id = :post_id AND c.id = :comment_id"

_COUNT_COMMENT = text("""
    INSERT INTO post_stats (author_id, post_id, comment_count)
    VALUES (:post_author_id, :post_id, 1)
    ON CONFLICT (author_id, post_id)
    DO UPDATE SET comment_count = post_stats.comment_count + 1
""")

# The time is that of the statement, not of the transaction, which may have waited for the count.
_INSERT_COMMENT = text(f"""
    INSERT INTO comments AS c (post_author_id, post_id, author_id, body, created_at)
    VALUES (:post_author_id, :post_id, :author_id, :body, clock_timestamp())
    RETURNING {COMMENT_COLUMNS}
""")


def insert_comment(
    connection: Connection, *, post: PostName, author_id: int, body: str
) -> CommentRow:
    """The new comment, which is counted.

    It is counted first. That locks the count until the transaction ends, so the comments on a post
    get their times in the order in which others come to see them: a reader who goes on behind the
    last one read misses none.
    """
    of_post = {"post_author_id": post[0], "post_id": post[1]}
    connection.execute(_COUNT_COMMENT, of_post)
    row = connection.execute(_INSERT_COMMENT, {**of_post, "author_id": author_id, "body": body})
    return CommentRow(**row.mappings().one())


_IS_THERE = text(f"""
    SELECT EXISTS (SELECT FROM comments AS c
                   JOIN posts AS p ON p.author_id = c.post_author_id AND p.id = c.post_id
                   WHERE {_NAMED} AND c.deleted_at IS NULL AND p.deleted_at IS NULL)
""")


def is_there(connection: Connection, *, name: CommentName) -> bool:
    """Whether there is a comment of which neither it nor its post has been deleted."""
    post_author_id, post_id, comment_id = name
    found: bool = connection.execute(
        _IS_THERE,
        {"post_author_id": post_author_id, "post_id": post_id, "comment_id": comment_id},
    ).scalar_one()
    return found


# One row more than there are comments tells a post without comments from one that is hidden.
_COMMENT_PAGE = text(f"""
    SELECT comment.*
    FROM posts AS p
    LEFT JOIN LATERAL (
        SELECT {COMMENT_COLUMNS}
        FROM comments AS c
        WHERE c.post_author_id = :author_id AND c.post_id = p.id AND c.deleted_at IS NULL
          AND (c.created_at, c.id) > (:after_time, :after_id)
          AND {NOT_BLOCKED} AND {shown_comment()}
        ORDER BY c.created_at, c.id LIMIT :limit) AS comment ON true
    WHERE p.author_id = :author_id AND p.id = :post_id AND {VISIBLE_OF_AUTHOR}
    ORDER BY comment.created_at, comment.id
""")


def comment_page(
    connection: Connection,
    *,
    viewer: Viewer,
    post: PostName,
    after: tuple[datetime, int],
    limit: int,
) -> list[CommentRow] | None:
    """Up to `limit` comments on a post behind a position, oldest first.

    Comments of blocked people are left out, and those that a service hides from the viewer. None
    when the viewer may not see the post.
    """
    rows = (
        connection.execute(
            _COMMENT_PAGE,
            {
                **viewer.parameters,
                "blocked_ids": viewer.blocked_ids,
                "author_id": post[0],
                "post_id": post[1],
                "after_time": after[0],
                "after_id": after[1],
                "limit": limit,
            },
        )
        .mappings()
        .all()
    )
    if not rows:
        return None
    return [CommentRow(**row) for row in rows if row["id"] is not None]


_LOCK_COMMENT = text(f"""
    SELECT c.version, coalesce(c.held_until > now(), false) FROM comments AS c
    WHERE {_NAMED} AND c.author_id = :author_id AND c.deleted_at IS NULL
    FOR NO KEY UPDATE
""")


def lock_comment(
    connection: Connection, *, name: CommentName, author_id: int
) -> LockedComment | None:
    """The author's comment, locked until the transaction ends."""
    found = connection.execute(
        _LOCK_COMMENT, {**_parameters(name), "author_id": author_id}
    ).one_or_none()
    return None if found is None else LockedComment._make(found)


_UPDATE_COMMENT = text(f"""
    UPDATE comments AS c SET body = :body, version = c.version + 1, edited_at = now()
    WHERE {_NAMED}
    RETURNING {COMMENT_COLUMNS}
""")


def update_comment(connection: Connection, *, name: CommentName, body: str) -> CommentRow:
    """The locked comment with its new text."""
    row = connection.execute(_UPDATE_COMMENT, {**_parameters(name), "body": body})
    return CommentRow(**row.mappings().one())


# Comments that a service hides are not counted, and not there for the author of the post.
_DELETE_COMMENT = text(f"""
    WITH found AS (
        SELECT c.post_author_id, c.post_id, c.id, c.deleted_at FROM comments AS c
        WHERE {_NAMED} AND (c.author_id = :user_id
                            OR c.post_author_id = :user_id AND c.moderated_at IS NULL)
        FOR NO KEY UPDATE
    ),
    deleted AS (
        UPDATE comments AS c SET deleted_at = now(), version = c.version + 1
        FROM found
        WHERE {_NAMED} AND found.deleted_at IS NULL
        RETURNING c.post_author_id, c.post_id, c.author_id, c.moderated_at
    ),
    counted AS (
        UPDATE post_stats AS stats SET comment_count = stats.comment_count - 1
        FROM deleted
        WHERE stats.author_id = :post_author_id AND stats.post_id = deleted.post_id
          AND deleted.moderated_at IS NULL
    )
    SELECT (SELECT count(*) FROM found), (SELECT deleted.author_id FROM deleted)
""")


def delete_comment(
    connection: Connection, *, name: CommentName, user_id: int
) -> tuple[bool, int | None]:
    """Whether there is such a comment, by the user or on the user's post; it is deleted now.

    And who wrote it, if it was deleted now. Only then it is taken off the count.
    """
    found, author_id = connection.execute(
        _DELETE_COMMENT, {**_parameters(name), "user_id": user_id}
    ).one()
    return bool(found), author_id


def _parameters(name: CommentName) -> Mapping[str, int]:
    return dict(zip(("post_author_id", "post_id", "comment_id"), name, strict=True))
