"""Comments and replies to them, and how many each post has.

Every transaction locks a comment before its replies, and these before the count of their post, so
no two wait for each other.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, text

from feed_service.queries.posts import KEEP_POST, PostName
from feed_service.viewers import Viewer
from feed_service.visibility import (
    MAY_COMMENT,
    VISIBLE_OF_AUTHOR,
    clause,
    shown,
    shown_by_itself,
    visible,
)
from shared.database.arrays import array_literal
from shared.database.database import run
from shared.database.reader import Reader
from shared.database.statement import Rows, Statement

CommentName = tuple[int, int, int]
"""The name of a post, and the id of one of its comments."""


NO_COMMENT: Final = 0
"""The id of no comment: that of what a comment replies to that is no reply."""

MOST_COUNTED: Final = 1_000
"""How many replies to a comment are counted."""


@dataclass(frozen=True, kw_only=True)
class CommentRow:
    """A comment; `reply_count` is how many of its replies the viewer sees, 0 if not counted.

    `parent_author_id` is set where it is not known otherwise.
    """

    post_author_id: int
    post_id: int
    id: int
    author_id: int
    body: str
    version: int
    created_at: datetime
    edited_at: datetime | None
    is_moderated: bool
    parent_id: int | None
    hidden: bool
    reply_count: int = 0
    parent_author_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class CommentPart:
    """A part of the comments on a post, or of the replies to one; who wrote that."""

    comments: Sequence[CommentRow]
    parent_author_id: int | None


class LockedComment(NamedTuple):
    """The version of a comment, and whether a hold keeps it from being changed."""

    version: int
    is_held: bool


class DeletableComment(NamedTuple):
    """The version of a comment, and whether it is deleted already."""

    version: int
    is_deleted: bool


@dataclass(frozen=True, kw_only=True)
class Openness:
    """Whether a user may comment on a post, and sees the comment that they want to reply to.

    `has_parent` is True if they want to reply to none, and `parent_author_id` is None then.
    """

    is_open: bool
    has_parent: bool
    parent_author_id: int | None


_FIELDS: Final = [field.name for field in fields(CommentRow)]

COMMENT_COLUMNS = """
    c.post_author_id, c.post_id, c.id, c.author_id, c.body, c.version, c.created_at, c.edited_at,
    c.moderated_at IS NOT NULL AS is_moderated, c.parent_id, c.hidden
"""
"""What CommentRow holds, of a row `c` of comments, except for the number of replies."""

_NAMED = "c.post_author_id = :post_author_id AND c.post_id = :post_id AND c.id = :comment_id"

_KEEP_COMMENT: Final = Statement(
    "keep_comment",
    """
    SELECT FROM comments AS c
    WHERE c.post_author_id = :author_id AND c.post_id = :post_id AND c.id = :parent_id
      AND c.deleted_at IS NULL
    FOR SHARE
""",
)

_OPENNESS: Final = Statement(
    "openness",
    f"""
    SELECT {MAY_COMMENT} AS is_open,
           (SELECT c.author_id FROM comments AS c
            WHERE c.post_author_id = :author_id AND c.post_id = p.id AND c.id = :parent_id
              AND c.parent_id IS NULL AND {shown_by_itself("c")}) AS parent_author_id
    FROM posts AS p
    WHERE p.author_id = :author_id AND p.id = :post_id AND {VISIBLE_OF_AUTHOR}
""",
)


def openness(reader: Reader, *, viewer: Viewer, post: PostName, parent_id: int) -> Openness | None:
    """Whether the viewer may comment on the post, or reply there; None if they may not see it."""
    rows = reader.rows(_OPENNESS, _openness_parameters(viewer, post, parent_id))
    return _openness(rows, parent_id)


def locked_openness(
    connection: Connection, *, viewer: Viewer, post: PostName, parent_id: int
) -> Openness | None:
    """The same; the post and what is replied to cannot change until the transaction ends.

    One statement locks and another looks, all in one message: a lock that has waited for a change
    of the post goes on with the new post and the tags of before.
    """
    of_parent = () if parent_id == NO_COMMENT else (_KEEP_COMMENT,)
    rows = run(
        connection,
        KEEP_POST,
        *of_parent,
        _OPENNESS,
        parameters=_openness_parameters(viewer, post, parent_id),
    )
    return _openness(rows, parent_id)


def _openness_parameters(
    viewer: Viewer, post: PostName, parent_id: int
) -> Mapping[str, int | str | None]:
    return {
        **viewer.parameters,
        "blocked_ids": viewer.blocked_ids,
        "author_id": post[0],
        "post_id": post[1],
        "parent_id": parent_id,
    }


def _openness(rows: Rows, parent_id: int) -> Openness | None:
    if not rows:
        return None
    [(is_open, parent_author_id)] = rows
    return Openness(
        is_open=is_open,
        has_parent=parent_id == NO_COMMENT or parent_author_id is not None,
        parent_author_id=parent_author_id,
    )


_COUNT_COMMENT: Final = Statement(
    "count_comment",
    """
    INSERT INTO post_stats (author_id, post_id, comment_count)
    VALUES (:post_author_id, :post_id, 1)
    ON CONFLICT (author_id, post_id)
    DO UPDATE SET comment_count = post_stats.comment_count + 1
""",
)

# The time is that of the statement, not of the transaction, which may have waited for the count.
_INSERT_COMMENT: Final = Statement(
    "insert_comment",
    f"""
    INSERT INTO comments AS c (post_author_id, post_id, parent_id, author_id, body, created_at)
    VALUES (:post_author_id, :post_id, nullif(CAST(:parent_id AS bigint), {NO_COMMENT}), :author_id,
            :body, clock_timestamp())
    RETURNING {COMMENT_COLUMNS}
""",
)


def insert_comment(
    connection: Connection,
    *,
    post: PostName,
    author_id: int,
    body: str,
    parent_id: int = NO_COMMENT,
) -> CommentRow:
    """The new comment, which is counted; a reply if it has a parent.

    It is counted first. That locks the count until the transaction ends, so the comments on a post
    get their times in the order in which others come to see them: a reader who goes on behind the
    last one read misses none.
    """
    [row] = run(
        connection,
        _COUNT_COMMENT,
        _INSERT_COMMENT,
        parameters={
            "post_author_id": post[0],
            "post_id": post[1],
            "parent_id": parent_id,
            "author_id": author_id,
            "body": body,
        },
    )
    return _comment(row)


_IS_THERE = text(f"""
    SELECT EXISTS (SELECT FROM comments AS c
                   JOIN posts AS p ON p.author_id = c.post_author_id AND p.id = c.post_id
                   WHERE {_NAMED} AND c.deleted_at IS NULL AND p.deleted_at IS NULL)
""")


def is_there(connection: Connection, *, name: CommentName) -> bool:
    """Whether there is a comment of which neither it nor its post has been deleted."""
    found: bool = connection.execute(_IS_THERE, _parameters(name)).scalar_one()
    return found


def _reply_count(author: str, *, limit: str) -> str:
    """Count those replies to a row `c` that the viewer sees.

    As an array, because a distributed database takes no aggregate in a subquery that refers to
    what is around it.
    """
    return f"""least({MOST_COUNTED}, cardinality(ARRAY(
            SELECT reply.id FROM comments AS reply
            WHERE reply.post_author_id = {author} AND reply.post_id = c.post_id
              AND reply.parent_id = c.id AND {shown_by_itself("reply")} {limit}))) AS reply_count"""


def _comment_page(*, newest_first: bool, of_parent: bool) -> Statement:
    """Return the statement for a page of the comments on a post, or of the replies to one.

    One row more than there are tells a post without comments from one that is hidden.
    """
    beyond, direction = ("<", "DESC") if newest_first else (">", "ASC")
    parent, which = "", "c.parent_id IS NULL"
    parent_author = "CAST(NULL AS bigint)"
    reply_count = _reply_count(":author_id", limit=f"LIMIT {MOST_COUNTED}")
    if of_parent:
        parent = f"""
    JOIN comments AS parent
      ON parent.post_author_id = :author_id AND parent.post_id = p.id AND parent.id = :parent_id
     AND parent.parent_id IS NULL AND {shown_by_itself("parent")}"""
        which, reply_count = "c.parent_id = :parent_id", "0 AS reply_count"
        parent_author = "parent.author_id"
    what, order = "replies" if of_parent else "comments", "newest" if newest_first else "oldest"
    return Statement(
        f"{order}_{what}",
        f"""
    SELECT {parent_author} AS parent_author_id, comment.*
    FROM posts AS p {parent}
    LEFT JOIN LATERAL (
        SELECT {COMMENT_COLUMNS}, {reply_count}
        FROM comments AS c
        WHERE c.post_author_id = :author_id AND c.post_id = p.id AND {which}
          AND (c.created_at, c.id) {beyond} (:beyond_time, :beyond_id)
          AND {shown_by_itself("c")}
        ORDER BY c.created_at {direction}, c.id {direction} LIMIT :limit) AS comment ON true
    WHERE p.author_id = :author_id AND p.id = :post_id AND {VISIBLE_OF_AUTHOR}
    ORDER BY comment.created_at {direction}, comment.id {direction}
""",
    )


_COMMENT_PAGE = {
    (newest_first, of_parent): _comment_page(newest_first=newest_first, of_parent=of_parent)
    for newest_first in (False, True)
    for of_parent in (False, True)
}


def comment_page(
    reader: Reader,
    *,
    viewer: Viewer,
    post: PostName,
    parent_id: int = NO_COMMENT,
    newest_first: bool = False,
    beyond: tuple[datetime, int],
    limit: int,
) -> CommentPart | None:
    """Up to `limit` comments on a post beyond a position, or replies to its parent, in an order.

    None when the viewer may not see the post, or the parent.
    """
    rows = reader.rows(
        _COMMENT_PAGE[newest_first, parent_id != NO_COMMENT],
        {
            **viewer.parameters,
            "blocked_ids": viewer.blocked_ids,
            "author_id": post[0],
            "post_id": post[1],
            "parent_id": parent_id,
            "beyond_time": beyond[0],
            "beyond_id": beyond[1],
            "limit": limit,
        },
    )
    if not rows:
        return None
    return CommentPart(
        comments=[_comment(row[1:]) for row in rows if row[1] is not None],
        parent_author_id=rows[0][0],
    )


def _comment(values: Sequence[Any]) -> CommentRow:
    """Return the comment of values that are in the order of its fields."""
    return CommentRow(**dict(zip(_FIELDS, values, strict=False)))


def _visible_comments(name: str, *, author: str, posts: str, limit: str) -> Statement:
    return Statement(
        name,
        f"""
    SELECT {COMMENT_COLUMNS}, {_reply_count(author, limit=limit)},
           (SELECT parent.author_id FROM comments AS parent
            WHERE parent.post_author_id = {author} AND parent.post_id = c.post_id
              AND parent.id = c.parent_id) AS parent_author_id
    FROM unnest(CAST(:author_ids AS bigint[]), CAST(:post_ids AS bigint[]),
                CAST(:comment_ids AS bigint[])) AS asked (author_id, post_id, comment_id)
    JOIN posts AS p ON p.author_id = asked.author_id AND p.id = asked.post_id
    JOIN comments AS c ON c.post_author_id = {author} AND c.post_id = asked.post_id
                      AND c.id = asked.comment_id
    WHERE p.author_id {posts} AND {visible(clause(author=author))} AND {shown(author=author)}
""",
    )


# Those of one author are on one shard. Elsewhere a distributed database takes no LIMIT in a
# subquery that refers to what is around it.
_VISIBLE_COMMENTS_OF_AUTHOR = _visible_comments(
    "visible_comments_of_author",
    author=":author_id",
    posts="= :author_id",
    limit=f"LIMIT {MOST_COUNTED}",
)
_VISIBLE_COMMENTS = _visible_comments(
    "visible_comments",
    author="p.author_id",
    posts="= ANY (CAST(:author_ids AS bigint[]))",
    limit="",
)


def visible_comments(
    reader: Reader, *, viewer: Viewer, names: Collection[CommentName]
) -> dict[CommentName, CommentRow]:
    """Those of the named comments that the viewer may see."""
    author_ids, post_ids, comment_ids = zip(*names, strict=True)
    parameters = {
        **viewer.parameters,
        "blocked_ids": viewer.blocked_ids,
        "author_ids": array_literal(author_ids),
        "post_ids": array_literal(post_ids),
        "comment_ids": array_literal(comment_ids),
    }
    if len(set(author_ids)) == 1:
        parameters["author_id"] = author_ids[0]
        rows = reader.rows(_VISIBLE_COMMENTS_OF_AUTHOR, parameters)
    else:
        rows = reader.rows(_VISIBLE_COMMENTS, parameters)
    found = [_comment(row) for row in rows]
    return {(row.post_author_id, row.post_id, row.id): row for row in found}


_OWN_COMMENTS = text(f"""
    SELECT {COMMENT_COLUMNS} FROM comments AS c
    WHERE c.author_id = :user_id AND c.id < :before_id AND c.deleted_at IS NULL
    ORDER BY c.id DESC LIMIT :limit
""")


def own_comments(
    connection: Connection, *, user_id: int, before_id: int, limit: int
) -> list[CommentRow]:
    """Up to `limit` comments by the user before an id, on any post, the highest id first."""
    rows = connection.execute(
        _OWN_COMMENTS, {"user_id": user_id, "before_id": before_id, "limit": limit}
    )
    return [CommentRow(**row) for row in rows.mappings()]


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
_LOCK_DELETABLE = text(f"""
    SELECT c.version, c.deleted_at IS NOT NULL FROM comments AS c
    WHERE {_NAMED} AND (c.author_id = :user_id
                        OR c.post_author_id = :user_id AND c.moderated_at IS NULL)
    FOR NO KEY UPDATE
""")


def lock_deletable(
    connection: Connection, *, name: CommentName, user_id: int
) -> DeletableComment | None:
    """The comment, if it is by the user or on the user's post, deleted or not.

    It takes no replies until the transaction ends.
    """
    parameters = {**_parameters(name), "user_id": user_id}
    found = connection.execute(_LOCK_DELETABLE, parameters).one_or_none()
    return None if found is None else DeletableComment._make(found)


AUTHOR_IS_ERASED: Final = "(p.deleted_at IS NOT NULL AND p.purge_at IS NULL)"
"""Whether row `p` of posts is by an author who has been erased, and is kept by a hold."""

# Not one statement with the lock: that may have waited for a reply, which its snapshot does not
# show.
_DELETE_COMMENT = text(f"""
    WITH gone AS (
        UPDATE comments AS c SET deleted_at = now(), version = c.version + 1
        WHERE {_NAMED} AND c.deleted_at IS NULL
        RETURNING c.id, c.author_id, c.moderated_at
    ),
    replies AS (
        UPDATE comments AS c SET deleted_at = now(), version = c.version + 1
        FROM (SELECT id FROM comments
              WHERE post_author_id = :post_author_id AND post_id = :post_id
                AND parent_id = :comment_id AND deleted_at IS NULL
              ORDER BY id FOR NO KEY UPDATE) AS found
        WHERE c.post_author_id = :post_author_id AND c.post_id = :post_id AND c.id = found.id
        RETURNING c.id, c.author_id, c.moderated_at
    ),
    fewer AS (
        SELECT (SELECT count(*) FROM gone WHERE moderated_at IS NULL)
               + (SELECT count(*) FROM replies WHERE moderated_at IS NULL) AS number
    ),
    counted AS (
        UPDATE post_stats AS stats SET comment_count = stats.comment_count - fewer.number
        FROM fewer
        WHERE stats.author_id = :post_author_id AND stats.post_id = :post_id AND fewer.number > 0
    )
    SELECT id, author_id
    FROM (SELECT id, author_id FROM gone UNION ALL SELECT id, author_id FROM replies) AS deleted
    WHERE NOT EXISTS (SELECT FROM posts AS p
                      WHERE p.author_id = :post_author_id AND p.id = :post_id
                        AND {AUTHOR_IS_ERASED})
""")


def delete_comment(connection: Connection, *, name: CommentName) -> dict[CommentName, int]:
    """Who wrote what is deleted now: a locked comment and the replies to it.

    What was deleted before is not among them, and is not taken off the count again.
    Nor is what a hold keeps under the post of an erased author, who is in no event any more.
    """
    rows = connection.execute(_DELETE_COMMENT, _parameters(name))
    return {(*name[:2], comment_id): author_id for comment_id, author_id in rows}


# The author of the post sees no moderated comment but their own.
_SET_HIDDEN = text(f"""
    WITH found AS (
        SELECT c.id, c.hidden FROM comments AS c
        WHERE {_NAMED} AND c.deleted_at IS NULL
          AND (c.moderated_at IS NULL OR c.author_id = :post_author_id)
        FOR NO KEY UPDATE
    ),
    changed AS (
        UPDATE comments AS c SET hidden = :hidden
        FROM found
        WHERE {_NAMED} AND found.hidden <> :hidden
        RETURNING c.author_id
    )
    SELECT (SELECT count(*) FROM found), (SELECT changed.author_id FROM changed)
""")


def set_hidden(
    connection: Connection, *, name: CommentName, hidden: bool
) -> tuple[bool, int | None]:
    """Whether there is such a comment, and who wrote it, if it was not so before.

    It is hidden from now on, or is not any more.
    """
    found, author_id = connection.execute(
        _SET_HIDDEN, {**_parameters(name), "hidden": hidden}
    ).one()
    return bool(found), author_id


def _parameters(name: CommentName) -> Mapping[str, int]:
    return dict(zip(("post_author_id", "post_id", "comment_id"), name, strict=True))
