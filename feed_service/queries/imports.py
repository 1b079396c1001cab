"""Posts that come from elsewhere."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, TextClause, text

from feed_service.importance import heuristic
from feed_service.queries.posts import Audience, PostName, attributes_json
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
