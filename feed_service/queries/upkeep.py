"""Cleaning up beside the calls, a limited number of rows at a time.

Each statement waits for rows that others have locked, since SKIP LOCKED does not work on several
shards. It then checks of each row again that it is to go, for it may have changed meanwhile.
"""

from datetime import timedelta

from sqlalchemy import Connection, text

# What belongs to a post goes with it.
_PURGE_POSTS = text("""
    DELETE FROM posts AS p
    USING (SELECT author_id, id FROM posts
           WHERE deleted_at < now() - CAST(:age AS interval)
             AND (kept_until > now()) IS NOT TRUE
           ORDER BY deleted_at LIMIT :limit) AS old
    WHERE p.author_id = old.author_id AND p.id = old.id
      AND p.deleted_at < now() - CAST(:age AS interval)
      AND (p.kept_until > now()) IS NOT TRUE
""")


def purge_posts(connection: Connection, *, age: timedelta, limit: int) -> int:
    """How many posts that no hold keeps were deleted longer than `age` ago; they are gone."""
    return connection.execute(_PURGE_POSTS, {"age": age, "limit": limit}).rowcount


_PURGE_COMMENTS = text("""
    DELETE FROM comments AS c
    USING (SELECT post_author_id, post_id, id FROM comments
           WHERE deleted_at < now() - CAST(:age AS interval)
             AND (kept_until > now()) IS NOT TRUE
           ORDER BY deleted_at LIMIT :limit) AS old
    WHERE c.post_author_id = old.post_author_id AND c.post_id = old.post_id AND c.id = old.id
      AND c.deleted_at < now() - CAST(:age AS interval)
      AND (c.kept_until > now()) IS NOT TRUE
""")


def purge_comments(connection: Connection, *, age: timedelta, limit: int) -> int:
    """How many comments that no hold keeps were deleted longer than `age` ago; they are gone."""
    return connection.execute(_PURGE_COMMENTS, {"age": age, "limit": limit}).rowcount


# Their author has been erased and cannot restore them, so they do not wait for PURGE_DAYS.
_PURGE_KEPT_POSTS = text("""
    DELETE FROM posts AS p
    USING (SELECT author_id, id FROM posts
           WHERE deleted_at IS NOT NULL AND purge_at IS NULL AND kept_until <= now()
           ORDER BY kept_until LIMIT :limit) AS kept
    WHERE p.author_id = kept.author_id AND p.id = kept.id
      AND p.deleted_at IS NOT NULL AND p.purge_at IS NULL AND p.kept_until <= now()
""")


def purge_kept_posts(connection: Connection, *, limit: int) -> int:
    """How many posts of erased users were kept by a hold that has ended; they are gone."""
    return connection.execute(_PURGE_KEPT_POSTS, {"limit": limit}).rowcount


# No matter when they were deleted: their author may have been erased.
_PURGE_KEPT_COMMENTS = text("""
    DELETE FROM comments AS c
    USING (SELECT post_author_id, post_id, id FROM comments
           WHERE deleted_at IS NOT NULL AND kept_until <= now()
           ORDER BY kept_until LIMIT :limit) AS kept
    WHERE c.post_author_id = kept.post_author_id AND c.post_id = kept.post_id AND c.id = kept.id
      AND c.deleted_at IS NOT NULL AND c.kept_until <= now()
""")


def purge_kept_comments(connection: Connection, *, limit: int) -> int:
    """How many deleted comments were kept by a hold that has ended; they are gone."""
    return connection.execute(_PURGE_KEPT_COMMENTS, {"limit": limit}).rowcount


# A deleted tag stays for as long as a post excludes people by it. One that was imported as deleted
# comes before its posts.
_DROP_UNUSED_TAGS = text("""
    DELETE FROM tags AS tag
    USING (SELECT owner_user_id, id FROM tags AS deleted
           WHERE deleted_at IS NOT NULL
             AND (imported_at IS NULL OR imported_at < now() - interval '1 day')
             AND NOT EXISTS (SELECT FROM post_audience_tags AS audience
                             WHERE audience.author_id = deleted.owner_user_id
                               AND audience.tag_id = deleted.id)
           LIMIT :limit) AS unused
    WHERE tag.owner_user_id = unused.owner_user_id AND tag.id = unused.id
""")


def drop_unused_tags(connection: Connection, *, limit: int) -> int:
    """How many deleted tags excluded no person from a post any more; they are gone."""
    return connection.execute(_DROP_UNUSED_TAGS, {"limit": limit}).rowcount
