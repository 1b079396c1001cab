"""Erasing a user, a limited number of rows at a time; every function says how many rows there were.

What a function does it does whole, so a user can be erased from wherever it was broken off. Posts
and comments are hidden before their rows are deleted, so that no viewer sees parts of a post.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import Connection, TextClause, text

from feed_service.queries import fences
from feed_service.queries.comments import AUTHOR_IS_ERASED, CommentName
from feed_service.queries.photos import insert_removals, remove_uploads
from feed_service.queries.posts import name_literals
from kith.exceptions import UnavailableError
from shared.database.arrays import array_literal
from shared.database.database import RETRY_AFTER
from shared.database.reader import Reader, Statement

_ERASED_UP_TO = """
    SELECT user_id, revision FROM erased_users WHERE user_id = ANY (CAST(:user_ids AS bigint[]))
"""
_KNOWN = Statement("erased_up_to", _ERASED_UP_TO)

# In one message. The second statement has a snapshot of its own, from when the lock was given.
_TAKE_TURNS = text(f"""
    SELECT pg_advisory_xact_lock(hashtextextended('erasure', :user_id)); {_ERASED_UP_TO}
""")


def take_turns(connection: Connection, *, user_id: int) -> int:
    """Up to which revision the id is erased; no other erasure goes on until the transaction ends.

    The erasure of a former user of the id must not go on once the id belongs to another user.
    """
    rows = connection.execute(
        _TAKE_TURNS, {"user_id": user_id, "user_ids": array_literal([user_id])}
    )
    return next((revision for _, revision in rows), 0)


class ErasedUpTo(NamedTuple):
    """Up to which revision ids are erased, and the history of the database in which they are."""

    revisions: Mapping[int, int]
    history: str


def erased_up_to(reader: Reader, *, user_ids: Collection[int]) -> ErasedUpTo:
    """Up to which revision each of those ids is erased that ever was.

    Raises UnavailableError on a standby: what was erased may come back when it is promoted.
    """
    # First, so that what is found later is of this history, or the next look tells another one.
    history = fences.database_history(reader)
    if history is None:
        raise UnavailableError("the database is a standby", retry_after=RETRY_AFTER)
    rows = reader.rows(_KNOWN, {"user_ids": array_literal(user_ids)})
    return ErasedUpTo(dict(rows), history)


_RECORD_ERASURE = text("""
    INSERT INTO erased_users AS known (user_id, revision) VALUES (:user_id, :revision)
    ON CONFLICT (user_id)
    DO UPDATE SET revision = excluded.revision, erased_at = excluded.erased_at
    WHERE excluded.revision > known.revision
""")


def record_erasure(connection: Connection, *, user_id: int, revision: int) -> bool:
    """Store that nothing is left of the users who had the id before this revision.

    Returns whether that was not known.
    """
    stored = connection.execute(_RECORD_ERASURE, {"user_id": user_id, "revision": revision})
    return stored.rowcount > 0


_IS_KEPT = "(p.kept_until > now()) IS TRUE"
"""Whether a hold keeps row `p` of posts, whose author is being erased, and its photos."""

# What an UPDATE returns may not ask for the time: a distributed database refuses that.
_HIDE_POSTS = text("""
    WITH hidden AS (
        UPDATE posts AS p SET deleted_at = now(), external_id = NULL, version = p.version + 1
        FROM (SELECT id FROM posts
              WHERE author_id = :user_id AND deleted_at IS NULL
              ORDER BY id LIMIT :limit FOR UPDATE) AS found
        WHERE p.author_id = :user_id AND p.id = found.id
        RETURNING p.id, p.kept_until
    ),
    photos AS (
        DELETE FROM post_photos AS photo USING hidden
        WHERE photo.author_id = :user_id AND photo.post_id = hidden.id
          AND (hidden.kept_until > now()) IS NOT TRUE
        RETURNING photo.object_key
    )
    SELECT (SELECT count(*) FROM hidden), ARRAY(SELECT object_key FROM photos)
""")


def hide_posts(connection: Connection, *, user_id: int, limit: int) -> int:
    """How many posts of the user are hidden now.

    Their photos belong to no post any more, as when a post is deleted, except for those of a post
    that a hold keeps.
    """
    hidden: int
    hidden, object_keys = connection.execute(
        _HIDE_POSTS, {"user_id": user_id, "limit": limit}
    ).one()
    insert_removals(connection, objects=[(user_id, key) for key in object_keys])
    return hidden


# Of all hidden posts that still have photos: a hold that ends meanwhile must leave none behind.
_NOTE_KEPT_PHOTOS = text("""
    INSERT INTO object_removals (owner_user_id, object_key, due_at)
    SELECT photo.author_id, photo.object_key, greatest(p.kept_until, now())
    FROM post_photos AS photo
    JOIN posts AS p ON p.author_id = photo.author_id AND p.id = photo.post_id
    WHERE photo.author_id = :user_id AND p.author_id = :user_id AND p.deleted_at IS NOT NULL
      AND NOT EXISTS (SELECT FROM object_removals AS noted
                      WHERE noted.owner_user_id = :user_id
                        AND noted.object_key = photo.object_key)
    LIMIT :limit
""")


def note_kept_photos(connection: Connection, *, user_id: int, limit: int) -> int:
    """How many photos of hidden posts are to be removed when the hold ends that keeps their post.

    Not those that were to be removed anyway.
    """
    return connection.execute(_NOTE_KEPT_PHOTOS, {"user_id": user_id, "limit": limit}).rowcount


# Before the photos of deleted posts are due, so that a hold finds a post with its photos, or none.
_WITHHOLD_POSTS = text("""
    UPDATE posts AS p SET purge_at = NULL, external_id = NULL
    FROM (SELECT id FROM posts
          WHERE author_id = :user_id AND purge_at IS NOT NULL
          ORDER BY id LIMIT :limit FOR UPDATE) AS found
    WHERE p.author_id = :user_id AND p.id = found.id
""")


def withhold_posts(connection: Connection, *, user_id: int, limit: int) -> int:
    """How many posts the user could have restored; they cannot be restored now."""
    return connection.execute(_WITHHOLD_POSTS, {"user_id": user_id, "limit": limit}).rowcount


# Those of posts that the user had deleted are noted for when these can be restored no longer.
_HASTEN_REMOVALS = text("""
    UPDATE object_removals AS removal SET due_at = found.due_at
    FROM (SELECT noted.object_key, greatest(p.kept_until, now()) AS due_at
          FROM post_photos AS photo
          JOIN posts AS p ON p.author_id = photo.author_id AND p.id = photo.post_id
          JOIN object_removals AS noted
            ON noted.owner_user_id = photo.author_id AND noted.object_key = photo.object_key
          WHERE photo.author_id = :user_id AND p.author_id = :user_id
            AND noted.owner_user_id = :user_id
            AND noted.due_at > greatest(p.kept_until, now()) AND noted.attempts = 0
          ORDER BY noted.object_key LIMIT :limit) AS found
    WHERE removal.owner_user_id = :user_id AND removal.object_key = found.object_key
""")


def hasten_removals(connection: Connection, *, user_id: int, limit: int) -> int:
    """How many photos of the user's deleted posts were to be removed later than they are now.

    They are due now, or when the hold ends that keeps their post.
    """
    return connection.execute(_HASTEN_REMOVALS, {"user_id": user_id, "limit": limit}).rowcount


def comments_hidden(*, locked: str) -> str:
    """The statement that deletes comments of a user, and returns their names."""
    return f"""
    UPDATE comments AS c SET deleted_at = now(), external_id = NULL, version = c.version + 1
    FROM (SELECT post_author_id, post_id, id FROM comments
          WHERE author_id = :user_id AND deleted_at IS NULL
          ORDER BY id LIMIT :limit {locked}) AS found
    WHERE c.post_author_id = found.post_author_id AND c.post_id = found.post_id
      AND c.id = found.id AND c.deleted_at IS NULL
    RETURNING c.post_author_id, c.post_id, c.id, c.moderated_at
"""


# The comments are locked before their replies, and these before the counts, as everywhere, and the
# comments and the counts in an order of their own. Two erasures may still wait for each other's
# replies; the database finds that out, and the one that loses is repeated.
_HIDE_COMMENTS = text(comments_hidden(locked="FOR NO KEY UPDATE"))

_COUNT_OFF = text("""
    WITH locked AS (
        SELECT stats.author_id, stats.post_id, fewer.number
        FROM unnest(CAST(:author_ids AS bigint[]), CAST(:post_ids AS bigint[]),
                    CAST(:numbers AS bigint[])) AS fewer (author_id, post_id, number)
        JOIN post_stats AS stats
          ON stats.author_id = fewer.author_id AND stats.post_id = fewer.post_id
        ORDER BY stats.author_id, stats.post_id FOR NO KEY UPDATE OF stats
    )
    UPDATE post_stats AS stats SET comment_count = stats.comment_count - locked.number
    FROM locked WHERE stats.author_id = locked.author_id AND stats.post_id = locked.post_id
""")

# A statement of its own, because the one before may have waited for a reply.
_HIDE_REPLIES = text(f"""
    UPDATE comments AS c SET deleted_at = now(), version = c.version + 1
    FROM (SELECT p.author_id, p.id AS post_id, named.id, {AUTHOR_IS_ERASED} AS author_is_erased
          FROM unnest(CAST(:author_ids AS bigint[]), CAST(:post_ids AS bigint[]),
                      CAST(:comment_ids AS bigint[])) AS named (author_id, post_id, id)
          JOIN posts AS p ON p.author_id = named.author_id AND p.id = named.post_id) AS parent
    WHERE c.post_author_id = parent.author_id AND c.post_id = parent.post_id
      AND c.parent_id = parent.id AND c.deleted_at IS NULL
    RETURNING c.post_author_id, c.post_id, c.id, c.moderated_at, c.author_id,
              parent.author_is_erased
""")


def hide_comments(
    connection: Connection, *, user_id: int, limit: int
) -> tuple[int, dict[CommentName, int]]:
    """How many comments of the user are hidden now, and who wrote the replies that are, too.

    All of them are counted off. Replies under the post of an erased author are not among those
    that are returned: no event names that author any more.
    """
    return comments_hidden_by(
        connection, hide=_HIDE_COMMENTS, count_off=_COUNT_OFF, user_id=user_id, limit=limit
    )


def comments_hidden_by(
    connection: Connection,
    *,
    hide: TextClause,
    count_off: TextClause,
    user_id: int,
    limit: int,
) -> tuple[int, dict[CommentName, int]]:
    """The same, hidden and counted off by two statements in their own way."""
    hidden = connection.execute(hide, {"user_id": user_id, "limit": limit}).all()
    if not hidden:
        return 0, {}
    author_ids, post_ids, comment_ids, _ = zip(*hidden, strict=True)
    replies = connection.execute(
        _HIDE_REPLIES,
        {
            "author_ids": array_literal(author_ids),
            "post_ids": array_literal(post_ids),
            "comment_ids": array_literal(comment_ids),
        },
    ).all()
    # What is moderated is not counted.
    fewer = Counter((row[0], row[1]) for row in (*hidden, *replies) if row[3] is None)
    connection.execute(
        count_off,
        {**name_literals(fewer), "numbers": array_literal(fewer.values())},
    )
    return len(hidden), {(row[0], row[1], row[2]): row[4] for row in replies if not row[5]}


_ERASE_COMMENTS = text("""
    DELETE FROM comments AS c
    USING (SELECT post_author_id, post_id, id FROM comments
           WHERE author_id = :user_id AND deleted_at IS NOT NULL
             AND (kept_until > now()) IS NOT TRUE
           ORDER BY id LIMIT :limit) AS found
    WHERE c.post_author_id = found.post_author_id AND c.post_id = found.post_id
      AND c.id = found.id AND (c.kept_until > now()) IS NOT TRUE
""")


def erase_comments(connection: Connection, *, user_id: int, limit: int) -> int:
    """How many hidden comments that no hold keeps are gone, with the replies to them."""
    return connection.execute(_ERASE_COMMENTS, {"user_id": user_id, "limit": limit}).rowcount


_ERASE_TAGS_GIVEN_TO = text("""
    DELETE FROM user_tags AS given
    USING (SELECT owner_user_id, tag_id, target_user_id FROM user_tags
           WHERE target_user_id = :user_id LIMIT :limit) AS found
    WHERE given.owner_user_id = found.owner_user_id AND given.tag_id = found.tag_id
      AND given.target_user_id = found.target_user_id
""")


def erase_tags_given_to(connection: Connection, *, user_id: int, limit: int) -> int:
    """How many tags of others the user had; they have none now."""
    return connection.execute(_ERASE_TAGS_GIVEN_TO, {"user_id": user_id, "limit": limit}).rowcount


# A post that everybody comments on would make the deletion of the post itself last too long.
_ERASE_COMMENTS_UNDER = text(f"""
    DELETE FROM comments AS c
    USING (SELECT post_id, id FROM comments AS under
           WHERE post_author_id = :user_id
             AND NOT EXISTS (SELECT FROM posts AS p
                             WHERE p.author_id = :user_id AND p.id = under.post_id AND {_IS_KEPT})
           ORDER BY post_id, id LIMIT :limit FOR UPDATE) AS found
    WHERE c.post_author_id = :user_id AND c.post_id = found.post_id AND c.id = found.id
""")


def erase_comments_under(connection: Connection, *, user_id: int, limit: int) -> int:
    """How many comments there were on the user's posts, which are hidden already.

    Those on posts that a hold keeps stay with them.
    """
    return connection.execute(_ERASE_COMMENTS_UNDER, {"user_id": user_id, "limit": limit}).rowcount


# Freezing a digest of a distributed database locks its authors and not their posts.
_LOCK_POSTS = text("SELECT pg_advisory_xact_lock(hashtextextended('posts', :user_id))")

_ERASE_POSTS = text("""
    DELETE FROM posts AS p
    USING (SELECT id FROM posts
           WHERE author_id = :user_id AND deleted_at IS NOT NULL
             AND (kept_until > now()) IS NOT TRUE
           ORDER BY id LIMIT :limit FOR UPDATE) AS found
    WHERE p.author_id = :user_id AND p.id = found.id
""")


def erase_posts(connection: Connection, *, user_id: int, limit: int) -> int:
    """How many hidden posts of the user that no hold keeps are gone, with what belonged to them."""
    connection.execute(_LOCK_POSTS, {"user_id": user_id})
    return connection.execute(_ERASE_POSTS, {"user_id": user_id, "limit": limit}).rowcount


_UNTAG_KEPT_POSTS = text(f"""
    DELETE FROM post_audience_tags AS audience
    USING (SELECT p.id, tagged.tag_id FROM posts AS p
           JOIN post_audience_tags AS tagged
             ON tagged.author_id = p.author_id AND tagged.post_id = p.id
           WHERE p.author_id = :user_id AND tagged.author_id = :user_id
             AND p.deleted_at IS NOT NULL AND {_IS_KEPT}
           LIMIT :limit) AS found
    WHERE audience.author_id = :user_id AND audience.post_id = found.id
      AND audience.tag_id = found.tag_id
""")


def untag_kept_posts(connection: Connection, *, user_id: int, limit: int) -> int:
    """How many tags the audiences of posts had that a hold keeps; they have none now."""
    return connection.execute(_UNTAG_KEPT_POSTS, {"user_id": user_id, "limit": limit}).rowcount


# After the posts: freezing a digest locks the posts that it names.
_ERASE_FROM_DIGESTS = text("""
    DELETE FROM frozen_digest_items AS item
    USING (SELECT user_id, start_at, fingerprint, author_id, post_id FROM frozen_digest_items
           WHERE author_id = :user_id LIMIT :limit) AS found
    WHERE item.user_id = found.user_id AND item.start_at = found.start_at
      AND item.fingerprint = found.fingerprint AND item.author_id = found.author_id
      AND item.post_id = found.post_id
""")


def erase_from_digests(connection: Connection, *, user_id: int, limit: int) -> int:
    """How often the user's posts were named in the digests of others; they are not any more."""
    return connection.execute(_ERASE_FROM_DIGESTS, {"user_id": user_id, "limit": limit}).rowcount


_ERASE_TAGGED = text("""
    DELETE FROM user_tags AS given
    USING (SELECT tag_id, target_user_id FROM user_tags
           WHERE owner_user_id = :user_id
           ORDER BY tag_id, target_user_id LIMIT :limit FOR UPDATE) AS found
    WHERE given.owner_user_id = :user_id AND given.tag_id = found.tag_id
      AND given.target_user_id = found.target_user_id
""")


def erase_tagged(connection: Connection, *, user_id: int, limit: int) -> int:
    """How many tags the user had given to people; they are taken back now."""
    return connection.execute(_ERASE_TAGGED, {"user_id": user_id, "limit": limit}).rowcount


_LOCK_TAGS = text("SELECT FROM tags WHERE owner_user_id = :user_id ORDER BY id FOR UPDATE")

_ERASE_TAGS = text("""
    DELETE FROM tags AS tag
    USING (SELECT id FROM tags AS owned
           WHERE owner_user_id = :user_id
             AND NOT EXISTS (SELECT FROM post_audience_tags AS audience
                             WHERE audience.author_id = :user_id AND audience.tag_id = owned.id)
           LIMIT :limit) AS unused
    WHERE tag.owner_user_id = :user_id AND tag.id = unused.id
""")


def erase_tags(connection: Connection, *, user_id: int, limit: int) -> int:
    """How many tags of the user are gone.

    Locked first: a post that the user is just now publishing for a tag keeps it, until that post is
    erased in its turn.
    """
    connection.execute(_LOCK_TAGS, {"user_id": user_id})
    return connection.execute(_ERASE_TAGS, {"user_id": user_id, "limit": limit}).rowcount


_ERASE_UPLOADS = text("""
    DELETE FROM photo_uploads AS upload
    USING (SELECT object_key FROM photo_uploads
           WHERE owner_user_id = :user_id LIMIT :limit FOR UPDATE) AS found
    WHERE upload.owner_user_id = :user_id AND upload.object_key = found.object_key
    RETURNING upload.object_key, upload.created_at
""")


def erase_uploads(connection: Connection, *, user_id: int, valid_for: timedelta, limit: int) -> int:
    """How many uploads the user was permitted that no post has used; they are to be removed."""
    uploads = connection.execute(_ERASE_UPLOADS, {"user_id": user_id, "limit": limit}).all()
    remove_uploads(
        connection,
        owner_user_id=user_id,
        permitted_at={object_key: created_at for object_key, created_at in uploads},  # noqa: C416 -- rows are not tuples to mypy
        valid_for=valid_for,
    )
    return len(uploads)


_ERASE_DIGESTS = text("""
    DELETE FROM frozen_digests AS digest
    USING (SELECT start_at, fingerprint FROM frozen_digests
           WHERE user_id = :user_id LIMIT :limit FOR UPDATE) AS found
    WHERE digest.user_id = :user_id AND digest.start_at = found.start_at
      AND digest.fingerprint = found.fingerprint
""")


def erase_digests(connection: Connection, *, user_id: int, limit: int) -> int:
    """How many digests were kept for the user; they are gone."""
    return connection.execute(_ERASE_DIGESTS, {"user_id": user_id, "limit": limit}).rowcount


_ERASE_SUBSCRIPTION = text("DELETE FROM digest_subscriptions WHERE user_id = :user_id")


def erase_subscription(connection: Connection, *, user_id: int, limit: int) -> int:  # noqa: ARG001 -- as the other steps
    """How many subscriptions to digests the user had: one, or none."""
    return connection.execute(_ERASE_SUBSCRIPTION, {"user_id": user_id}).rowcount


_ERASE_READ_POSITION = text("DELETE FROM read_positions WHERE user_id = :user_id")


def erase_read_position(connection: Connection, *, user_id: int, limit: int) -> int:  # noqa: ARG001 -- as the other steps
    """How many read positions the user had: one, or none."""
    return connection.execute(_ERASE_READ_POSITION, {"user_id": user_id}).rowcount


_LOCK_AUTHOR = text("SELECT FROM authors WHERE author_id = :user_id FOR UPDATE")

# In a single database no row means that the author has no posts for others: see authors.
_ERASE_AUTHOR = text("""
    DELETE FROM authors
    WHERE author_id = :user_id
      AND NOT EXISTS (SELECT FROM posts WHERE author_id = :user_id AND deleted_at IS NULL)
""")


def erase_author(connection: Connection, *, user_id: int, limit: int) -> int:  # noqa: ARG001 -- as above
    """How many times the user was known as an author: once, or never.

    Locked first: a post that the user is just now publishing keeps the row.
    """
    connection.execute(_LOCK_AUTHOR, {"user_id": user_id})
    return connection.execute(_ERASE_AUTHOR, {"user_id": user_id}).rowcount
