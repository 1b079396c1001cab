"""Imports of a distributed database.

A lock can be taken on one shard at a time, so tags of many owners are changed to lock them.
"""

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, text

from feed_service.queries import imported_tags, imports
from feed_service.queries.imported_tags import NAMED_EXTERNALLY, ExternalTag, FoundTag
from feed_service.queries.imports import NAMED_TAGS, ExternalName, ImportedPost, TagName
from feed_service.queries.posts import PostName
from shared.database.arrays import array_literal

_LOCK_TAGS = text(f"""
    UPDATE tags AS tag SET version = tag.version FROM {NAMED_TAGS}
    WHERE tag.owner_user_id = named.owner_id AND tag.id = named.id AND tag.deleted_at IS NULL
    RETURNING tag.owner_user_id, tag.id
""")


def lock_tags(connection: Connection, *, names: Collection[TagName]) -> set[TagName]:
    """Those of the tags that their owners have; they stay so until the transaction ends."""
    return imports.tags_locked_by(connection, _LOCK_TAGS, names=names)


_LOCK_IMPORTED_TAGS = text(f"""
    UPDATE tags AS tag SET version = tag.version FROM {NAMED_EXTERNALLY}
    WHERE tag.owner_user_id = named.owner_id AND tag.external_id = named.external_id
    RETURNING tag.owner_user_id, tag.external_id, tag.id, tag.deleted_at IS NOT NULL
""")


def lock_imported_tags(
    connection: Connection, *, keys: Collection[ExternalTag]
) -> dict[ExternalTag, FoundTag]:
    """Those of the tags that were imported; they stay as they are until the transaction ends."""
    return imported_tags.tags_found_by(connection, _LOCK_IMPORTED_TAGS, keys=keys)


_INSERT_POSTS = text(imports.INSERT_POSTS)

_ADD_AUTHORS = text("""
    INSERT INTO authors (author_id) SELECT unnest(CAST(:author_ids AS bigint[]))
    ON CONFLICT DO NOTHING
""")


def insert_posts(
    connection: Connection, *, posts: Sequence[ImportedPost]
) -> dict[ExternalName, PostName]:
    """The names of those posts that had not been imported before; their tags are still to come."""
    names = imports.inserted_posts(connection, _INSERT_POSTS, posts=posts)
    if names:
        author_ids = array_literal({author_id for author_id, _ in names})
        connection.execute(_ADD_AUTHORS, {"author_ids": author_ids})
    return names
