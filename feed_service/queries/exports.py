"""Everything of one user, section by section."""

import json
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from feed_service.queries.comments import COMMENT_COLUMNS, CommentRow
from feed_service.queries.digest_subscriptions import SUBSCRIPTION_COLUMNS, SubscriptionRow
from feed_service.queries.digests import Reason
from feed_service.queries.posts import POST_COLUMNS_OF_AUTHOR, PostRow
from feed_service.queries.tags import MemberRow, is_there
from feed_service.viewers import Viewer
from feed_service.visibility import HAS_TAG_OF_VIEWER


@dataclass(frozen=True, kw_only=True)
class TaggedRow(MemberRow):
    """A person who has a tag or had it, and the tag."""

    tag_id: int


_EXPORTED_TAGGED = text(f"""
    SELECT given.tag_id, given.target_user_id, given.created_at,
           tag.deleted_at IS NOT NULL OR NOT {HAS_TAG_OF_VIEWER} AS is_former
    FROM user_tags AS given
    JOIN tags AS tag
      ON tag.owner_user_id = given.owner_user_id AND tag.id = given.tag_id
     AND {is_there(":viewer_id")}
    WHERE given.owner_user_id = :viewer_id
      AND (given.tag_id, given.target_user_id) > (:after_tag_id, :after_target_id)
    ORDER BY given.tag_id, given.target_user_id LIMIT :limit
""")


def exported_tagged(
    connection: Connection, *, owner: Viewer, after: tuple[int, int], limit: int
) -> list[TaggedRow]:
    """Up to `limit` tags given by the owner to people after a tag and person, in that order."""
    rows = connection.execute(
        _EXPORTED_TAGGED,
        {
            **owner.parameters,
            "with_deleted": True,
            "after_tag_id": after[0],
            "after_target_id": after[1],
            "limit": limit,
        },
    )
    return [TaggedRow(**row) for row in rows.mappings()]


# In the order of idx_post_author from its other end: by id alone, all posts of an author would have
# to be sorted for each page.
_EXPORTED_POSTS = text(f"""
    SELECT {POST_COLUMNS_OF_AUTHOR} FROM posts AS p
    WHERE p.author_id = :author_id AND (p.created_at, p.id) > (:after_time, :after_id)
      AND p.deleted_at IS NULL
    ORDER BY p.created_at, p.id LIMIT :limit
""")


def exported_posts(
    connection: Connection, *, author_id: int, after: tuple[datetime, int], limit: int
) -> list[PostRow]:
    """Up to `limit` posts of the author after a position, oldest first, as the author sees them."""
    rows = connection.execute(
        _EXPORTED_POSTS,
        {
            "author_id": author_id,
            "viewer_id": author_id,
            "after_time": after[0],
            "after_id": after[1],
            "limit": limit,
        },
    )
    return [PostRow._make(row) for row in rows]


_EXPORTED_COMMENTS = text(f"""
    SELECT {COMMENT_COLUMNS} FROM comments AS c
    WHERE c.author_id = :user_id AND c.id > :after_id AND c.deleted_at IS NULL
    ORDER BY c.id LIMIT :limit
""")


def exported_comments(
    connection: Connection, *, user_id: int, after_id: int, limit: int
) -> list[CommentRow]:
    """Up to `limit` comments by the user after an id, by id, on any post."""
    rows = connection.execute(
        _EXPORTED_COMMENTS, {"user_id": user_id, "after_id": after_id, "limit": limit}
    )
    return [CommentRow(**row) for row in rows.mappings()]


_EXPORTED_READ_TIMES = text("SELECT read_at FROM read_positions WHERE user_id = :user_id")


def exported_read_times(connection: Connection, *, user_id: int) -> list[datetime]:
    """Up to when the user has read their feed; nothing if they never did."""
    return list(connection.execute(_EXPORTED_READ_TIMES, {"user_id": user_id}).scalars())


@dataclass(frozen=True, kw_only=True)
class FrozenItemRow:
    """A post of a frozen digest."""

    author_id: int
    post_id: int
    importance: float
    reason: Reason


@dataclass(frozen=True, kw_only=True)
class FrozenDigestRow:
    """A frozen digest, and its number among those of its week."""

    start_at: datetime
    number: int
    created_at: datetime
    left_out_count: int
    items: list[FrozenItemRow]


# A week has as many as there were ways of asking for it, and the beginning of a digest of these
# tells them apart.
_NUMBER = """
    CAST(CAST('x' || encode(substr(digest.fingerprint, 1, 8), 'hex') AS bit(64)) AS bigint)"""

_EXPORTED_DIGESTS = text(f"""
    SELECT digest.start_at, {_NUMBER} AS number, digest.created_at, digest.left_out_count,
           (SELECT CAST(json_agg(json_build_array(item.author_id, item.post_id,
                                                  item.importance, item.reason)
                                 ORDER BY item.author_id, item.post_id) AS text)
            FROM frozen_digest_items AS item
            WHERE item.user_id = :user_id AND item.start_at = digest.start_at
              AND item.fingerprint = digest.fingerprint) AS items
    FROM frozen_digests AS digest
    WHERE digest.user_id = :user_id
      AND (digest.start_at, {_NUMBER}) > (:after_time, :after_number)
    ORDER BY digest.start_at, number LIMIT :limit
""")


def exported_digests(
    connection: Connection, *, user_id: int, after: tuple[datetime, int], limit: int
) -> list[FrozenDigestRow]:
    """Up to `limit` frozen digests of the user after a position, by week, with all their items."""
    rows = connection.execute(
        _EXPORTED_DIGESTS,
        {
            "user_id": user_id,
            "after_time": after[0],
            "after_number": after[1],
            "limit": limit,
        },
    )
    return [
        FrozenDigestRow(
            start_at=row.start_at,
            number=row.number,
            created_at=row.created_at,
            left_out_count=row.left_out_count,
            items=[
                FrozenItemRow(
                    author_id=author_id,
                    post_id=post_id,
                    importance=importance,
                    reason=Reason(reason),
                )
                for author_id, post_id, importance, reason in json.loads(row.items or "[]")
            ],
        )
        for row in rows
    ]


_EXPORTED_SUBSCRIPTIONS = text(f"""
    SELECT {SUBSCRIPTION_COLUMNS} FROM digest_subscriptions WHERE user_id = :user_id
""")


def exported_subscriptions(connection: Connection, *, user_id: int) -> list[SubscriptionRow]:
    """The user's subscription to digests; nothing if there is none."""
    rows = connection.execute(_EXPORTED_SUBSCRIPTIONS, {"user_id": user_id})
    return [SubscriptionRow(**row) for row in rows.mappings()]
