"""Posts that come from elsewhere, and everything of one user's on its way out."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, TextClause, text

from feed_service.importance import heuristic
from feed_service.queries.comments import COMMENT_COLUMNS, CommentRow
from feed_service.queries.posts import (
    POST_COLUMNS_OF_AUTHOR,
    Audience,
    PostName,
    PostRow,
    attributes_json,
)
from feed_service.queries.tags import IS_THERE, MemberRow
from feed_service.viewers import Viewer
from feed_service.visibility import HAS_TAG_OF_VIEWER
from shared.database.arrays import array_literal

TagName = tuple[int, int]
"""An owner's id and the id of one of their tags."""
ExternalName = tuple[int, str]
"""An author's id and an importer's name for one of their posts."""


@dataclass(frozen=True, kw_only=True)
class ImportedPost:
    """A post from elsewhere; `importance` None leaves the scoring to Kith."""

    author_id: int
    external_id: str
    body: str
    created_at: datetime
    audience: Audience
    importance: float | None
    attributes: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class TaggedRow(MemberRow):
    """A person who has a tag or had it, and the tag."""

    tag_id: int


NAMED_TAGS: Final = """
    unnest(CAST(:owner_ids AS bigint[]), CAST(:tag_ids AS bigint[])) AS named (owner_id, id)"""
"""The tags that `lock_tags` is asked for, as rows."""

_LOCK_TAGS = text(f"""
    SELECT tag.owner_user_id, tag.id
    FROM {NAMED_TAGS}
    JOIN tags AS tag ON tag.owner_user_id = named.owner_id AND tag.id = named.id
    WHERE tag.deleted_at IS NULL
    ORDER BY tag.owner_user_id, tag.id
    FOR SHARE OF tag
""")


def lock_tags(connection: Connection, *, names: Collection[TagName]) -> set[TagName]:
    """Those of the tags that their owners have; they stay so until the transaction ends."""
    return tags_locked_by(connection, _LOCK_TAGS, names=names)


def tags_locked_by(
    connection: Connection, statement: TextClause, *, names: Collection[TagName]
) -> set[TagName]:
    """Those of the tags that a statement has found, and locked in its own way."""
    parameters = {
        "owner_ids": array_literal(owner_id for owner_id, _ in names),
        "tag_ids": array_literal(tag_id for _, tag_id in names),
    }
    rows = connection.execute(statement, parameters)
    return {(owner_id, tag_id) for owner_id, tag_id in rows}


# In the order of the unique index, so that two imports of the same posts do not wait for each
# other.
_INSERT_POSTS = text(f"""
    INSERT INTO posts
        (author_id, external_id, body, audience, created_at, importance, importance_given,
         attributes)
    SELECT author_id, external_id, body, audience, created_at,
           coalesce(importance, {heuristic(body="body", photo_count="0")}),
           importance IS NOT NULL,
           CAST(attributes AS jsonb)
    FROM unnest(CAST(:author_ids AS bigint[]), CAST(:external_ids AS text[]),
                CAST(:bodies AS text[]), CAST(:audiences AS text[]),
                CAST(:created_at AS timestamptz[]), CAST(:importances AS double precision[]),
                CAST(:attributes AS text[]))
         AS imported (author_id, external_id, body, audience, created_at, importance, attributes)
    ORDER BY author_id, external_id
    ON CONFLICT (author_id, external_id) WHERE external_id IS NOT NULL DO NOTHING
    RETURNING author_id, external_id, id
""")


def insert_posts(
    connection: Connection, *, posts: Sequence[ImportedPost]
) -> dict[ExternalName, PostName]:
    """The names of those posts that had not been imported before; their tags are still to come."""
    rows = connection.execute(
        _INSERT_POSTS,
        {
            "author_ids": array_literal(post.author_id for post in posts),
            "external_ids": [post.external_id for post in posts],
            "bodies": [post.body for post in posts],
            "audiences": [post.audience.kind for post in posts],
            "created_at": [post.created_at.isoformat() for post in posts],
            "importances": [post.importance for post in posts],
            "attributes": [attributes_json(post.attributes) for post in posts],
        },
    )
    return {(author_id, external_id): (author_id, id_) for author_id, external_id, id_ in rows}


_EXPORTED_TAGGED = text(f"""
    SELECT given.tag_id, given.target_user_id, given.created_at,
           tag.deleted_at IS NOT NULL OR NOT {HAS_TAG_OF_VIEWER} AS is_former
    FROM user_tags AS given
    JOIN tags AS tag
      ON tag.owner_user_id = given.owner_user_id AND tag.id = given.tag_id AND {IS_THERE}
    WHERE given.owner_user_id = :viewer_id
      AND (given.tag_id, given.target_user_id) > (:after_tag_id, :after_target_id)
    ORDER BY given.tag_id, given.target_user_id LIMIT :limit
""")


def exported_tagged(
    connection: Connection, *, owner: Viewer, after: tuple[int, int], limit: int
) -> list[TaggedRow]:
    """Up to `limit` tags given by the owner to people behind a tag and person, in that order."""
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
    """Up to `limit` posts of the author behind a place, oldest first, as the author sees them."""
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
    """Up to `limit` comments by the user behind an id, by id, on whatever posts."""
    rows = connection.execute(
        _EXPORTED_COMMENTS, {"user_id": user_id, "after_id": after_id, "limit": limit}
    )
    return [CommentRow(**row) for row in rows.mappings()]
