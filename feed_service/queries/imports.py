"""Posts that come from elsewhere."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection, TextClause, text

from feed_service.importance import heuristic
from feed_service.models import ALL, MODERATED, TAGS
from feed_service.queries.photos import NewPhoto, PhotoDraft
from feed_service.queries.posts import Audience, CommentPolicy, PostName, attributes_json
from feed_service.visibility_streams import tag_bit
from shared.database.arrays import array_literal
from shared.database.database import send_with_commit
from shared.database.statement import Statement

IMPORTED: Final = "hidden where it was imported from"
"""The reason that is recorded of what a service has hidden elsewhere."""

_SHOWN: Final = frozenset({ALL, TAGS})

TagName = tuple[int, int]
"""An owner's id and the id of one of their tags."""
ExternalName = tuple[int, str]
"""An author's id and an importer's name for one of their posts."""


class ImportedPost(NamedTuple):
    """A post from elsewhere; `importance` None leaves the scoring to Kith.

    `audience` and `comment_policy` have tags by their ids; `tag_external_ids`,
    `excluded_tag_external_ids` and `comment_tag_external_ids` are further ones, by the names of an
    importer.
    """

    author_id: int
    external_id: str
    body: str
    created_at: datetime
    edited_at: datetime | None
    audience: Audience
    tag_external_ids: Sequence[str]
    excluded_tag_external_ids: Sequence[str]
    importance: float | None
    attributes: Mapping[str, str]
    photos: Sequence[PhotoDraft]
    is_moderated: bool
    comment_policy: CommentPolicy
    comment_tag_external_ids: Sequence[str]
    comments_locked: bool

    @property
    def key(self) -> ExternalName:
        """What it goes by."""
        return self.author_id, self.external_id


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
INSERT_POSTS: Final = f"""
    INSERT INTO posts
        (author_id, external_id, body, audience, chosen_audience, moderated_at, moderation_reason,
         created_at, edited_at, importance, importance_given, attributes, comment_policy,
         comment_tag_ids, comments_locked)
    SELECT author_id, external_id, body,
           CASE WHEN is_moderated THEN '{MODERATED}' ELSE audience END,
           CASE WHEN is_moderated THEN audience END,
           CASE WHEN is_moderated THEN now() END,
           CASE WHEN is_moderated THEN '{IMPORTED}' END,
           created_at, edited_at,
           coalesce(importance, {heuristic(body="body", photo_count="photo_count")}),
           importance IS NOT NULL,
           CAST(attributes AS jsonb), comment_policy, CAST(comment_tag_ids AS bigint[]),
           comments_locked
    FROM unnest(CAST(:author_ids AS bigint[]), CAST(:external_ids AS text[]),
                CAST(:bodies AS text[]), CAST(:audiences AS text[]),
                CAST(:created_at AS timestamptz[]), CAST(:edited_at AS timestamptz[]),
                CAST(:importances AS double precision[]), CAST(:photo_counts AS integer[]),
                CAST(:attributes AS text[]), CAST(:are_moderated AS boolean[]),
                CAST(:comment_policies AS text[]), CAST(:comment_tag_ids AS text[]),
                CAST(:comments_locked AS boolean[]))
         AS imported (author_id, external_id, body, audience, created_at, edited_at, importance,
                      photo_count, attributes, is_moderated, comment_policy, comment_tag_ids,
                      comments_locked)
    ORDER BY author_id, external_id
    ON CONFLICT (author_id, external_id) WHERE external_id IS NOT NULL DO NOTHING
    RETURNING author_id, external_id, id
"""
"""Stores those posts that had not been imported before, for `inserted_posts`."""

# The triggers raise_author_bounds_of_new and note_named_tag then leave that to this transaction.
_INSERT_POSTS = text(f"""
    SET LOCAL kith.raises_bounds = 'on'; SET LOCAL kith.notes_named_tags = 'on'; {INSERT_POSTS}
""")

# Rounded up as the trigger does. The rows are locked in the order of the authors, as all imports
# do, and also where a bound is high enough, so that erase_author does not delete it meanwhile.
_RAISE_BOUNDS: Final = Statement(
    "raise_bounds",
    f"""
    INSERT INTO authors AS known (author_id, open_until, tagged_until, named_tags)
    SELECT author_id,
           coalesce(max(until) FILTER (WHERE audience = '{ALL}'), '-infinity'),
           coalesce(max(until) FILTER (WHERE audience = '{TAGS}'), '-infinity'),
           coalesce(bit_or(named_tags), 0)
    FROM (SELECT author_id, audience,
                 date_trunc('hour', CAST(created_at AS timestamptz)) + interval '1 hour' AS until,
                 (SELECT bit_or({tag_bit("tag_id")})
                  FROM unnest(CAST(tag_ids AS bigint[])) AS tag_id) AS named_tags
          FROM unnest(CAST(:author_ids AS bigint[]), CAST(:audiences AS text[]),
                      CAST(:created_at AS text[]), CAST(:tag_ids AS text[]))
               AS imported (author_id, audience, created_at, tag_ids)) AS new
    GROUP BY author_id
    ORDER BY author_id
    ON CONFLICT (author_id) DO UPDATE
    SET open_until = greatest(known.open_until, excluded.open_until),
        tagged_until = greatest(known.tagged_until, excluded.tagged_until),
        named_tags = known.named_tags | excluded.named_tags
    WHERE known.open_until < excluded.open_until OR known.tagged_until < excluded.tagged_until
       OR known.named_tags & excluded.named_tags <> excluded.named_tags
""",
)


def insert_posts(
    connection: Connection, *, posts: Sequence[ImportedPost]
) -> dict[ExternalName, PostName]:
    """The names of those posts that had not been imported before.

    Their tags and photos are still to come. What `authors` tells of their authors is updated by the
    COMMIT.
    """
    names = inserted_posts(connection, _INSERT_POSTS, posts=posts)
    telling = [
        post
        for post in posts
        if post.key in names and (_audience(post) in _SHOWN or post.audience.tag_ids)
    ]
    if telling:
        send_with_commit(
            connection,
            _RAISE_BOUNDS,
            {
                "author_ids": array_literal(post.author_id for post in telling),
                "audiences": [_audience(post) for post in telling],
                "created_at": [post.created_at.isoformat() for post in telling],
                "tag_ids": [array_literal(post.audience.tag_ids) for post in telling],
            },
        )
    return names


def _audience(post: ImportedPost) -> str:
    return MODERATED if post.is_moderated else post.audience.kind


def inserted_posts(
    connection: Connection, statement: TextClause, *, posts: Sequence[ImportedPost]
) -> dict[ExternalName, PostName]:
    """The names of those posts that a statement, made of INSERT_POSTS, has stored."""
    rows = connection.execute(
        statement,
        {
            "author_ids": array_literal(post.author_id for post in posts),
            "external_ids": [post.external_id for post in posts],
            "bodies": [post.body for post in posts],
            "audiences": [post.audience.kind for post in posts],
            "created_at": [post.created_at.isoformat() for post in posts],
            "edited_at": [post.edited_at and post.edited_at.isoformat() for post in posts],
            "importances": [post.importance for post in posts],
            "photo_counts": array_literal(len(post.photos) for post in posts),
            "attributes": [attributes_json(post.attributes) for post in posts],
            "are_moderated": [post.is_moderated for post in posts],
            "comment_policies": [post.comment_policy.kind for post in posts],
            "comment_tag_ids": [array_literal(post.comment_policy.tag_ids) for post in posts],
            "comments_locked": [post.comments_locked for post in posts],
        },
    )
    return {(author_id, external_id): (author_id, id_) for author_id, external_id, id_ in rows}


_IMPORTED_POSTS = text("""
    SELECT p.author_id, p.external_id, p.id
    FROM unnest(CAST(:author_ids AS bigint[]), CAST(:external_ids AS text[]))
         AS named (author_id, external_id)
    JOIN posts AS p ON p.author_id = named.author_id AND p.external_id = named.external_id
                   AND p.external_id IS NOT NULL
""")


def imported_posts(
    connection: Connection, *, names: Collection[ExternalName]
) -> dict[ExternalName, PostName]:
    """The names of those of the posts that were imported, and not purged since."""
    if not names:
        return {}
    rows = connection.execute(
        _IMPORTED_POSTS,
        {
            "author_ids": array_literal(author_id for author_id, _ in names),
            "external_ids": [external_id for _, external_id in names],
        },
    )
    return {(author_id, external_id): (author_id, id_) for author_id, external_id, id_ in rows}


_INSERT_PHOTOS = text("""
    INSERT INTO post_photos (author_id, post_id, place, object_key, width, height, alt_text)
    SELECT author_id, post_id, place, object_key, width, height, alt_text
    FROM unnest(CAST(:author_ids AS bigint[]), CAST(:post_ids AS bigint[]),
                CAST(:places AS smallint[]), CAST(:object_keys AS text[]),
                CAST(:widths AS integer[]), CAST(:heights AS integer[]),
                CAST(:alt_texts AS text[]))
         AS imported (author_id, post_id, place, object_key, width, height, alt_text)
""")


def insert_photos(connection: Connection, *, photos: Mapping[PostName, Sequence[NewPhoto]]) -> None:
    """Store the photos of these posts, in their order."""
    rows = [
        (*name, place, photo)
        for name, shown in photos.items()
        for place, photo in enumerate(shown, 1)
    ]
    if rows:
        author_ids, post_ids, places, stored = zip(*rows, strict=True)
        connection.execute(
            _INSERT_PHOTOS,
            {
                "author_ids": array_literal(author_ids),
                "post_ids": array_literal(post_ids),
                "places": array_literal(places),
                "object_keys": [photo.object_key for photo in stored],
                "widths": array_literal(photo.width for photo in stored),
                "heights": array_literal(photo.height for photo in stored),
                "alt_texts": [photo.alt_text for photo in stored],
            },
        )
