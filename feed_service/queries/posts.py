"""Posts: pages of them, single ones, and what their authors do with them."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, text

from feed_service.importance import heuristic
from feed_service.models import ALL, TAGS
from feed_service.queries.photos import NewPhoto, note_objects
from feed_service.viewers import Viewer
from feed_service.visibility import VISIBLE, VISIBLE_OF_AUTHOR
from shared.database.arrays import array_literal
from shared.database.database import run
from shared.database.reader import Reader, Statement
from shared.database.totals import ADD_TO_TOTALS, total_parameters

PostName = tuple[int, int]
"""An author's id and the id of one of their posts."""


@dataclass(frozen=True, kw_only=True)
class Audience:
    """Who may see a post, by the author's own tags."""

    kind: str
    tag_ids: Sequence[int] = ()
    excluded_tag_ids: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class CommentPolicy:
    """Who may comment on a post, of those who see it and are not its author."""

    kind: str = ALL
    tag_ids: Sequence[int] = ()


class PostRow(NamedTuple):
    """A post with what belongs to it; the tags are empty unless the viewer is the author.

    The driver's tuples become these at a tenth of what dataclasses cost.
    """

    author_id: int
    id: int
    body: str
    audience: str
    """What its author chose, also while a service hides the post."""
    version: int
    created_at: datetime
    edited_at: datetime | None
    attributes: str | None
    """A JSON object of texts; None for none."""
    tag_ids: list[int]
    excluded_tag_ids: list[int]
    photos: Sequence[Sequence[str]]
    """The key, the width, the height and the description of each; 0 for a size that is not known,
    and empty for no description."""
    comment_count: int
    is_moderated: bool
    comment_policy: str
    comment_tag_ids: list[int]
    comments_locked: bool


class LockedPost(NamedTuple):
    """The version of a post, and whether a hold keeps it from being changed."""

    version: int
    is_held: bool


_NO_TAGS = "CAST('{}' AS bigint[])"


# Deleted tags are among those that exclude: they go on doing so, and an author who writes back what
# they have read must not lift that.
def _audience_tags(author: str, *, excluded: bool) -> str:
    which = "audience.excluded" if excluded else "audience.excluded IS NOT TRUE"
    undeleted = f"""
        JOIN tags AS tag ON tag.owner_user_id = {author} AND tag.id = audience.tag_id
                        AND tag.deleted_at IS NULL"""
    return f"""ARRAY(
        SELECT audience.tag_id FROM post_audience_tags AS audience {"" if excluded else undeleted}
        WHERE audience.author_id = {author} AND audience.post_id = p.id
          AND {which}
          AND p.author_id = :viewer_id
        ORDER BY audience.tag_id)"""


# Without deleted tags, which admit no one: an author may write back what they have read.
def _comment_tags(author: str) -> str:
    return f"""CASE WHEN p.author_id = :viewer_id AND p.comment_policy = '{TAGS}' THEN ARRAY(
        SELECT tag.id FROM tags AS tag
        WHERE tag.owner_user_id = {author} AND tag.id = ANY (p.comment_tag_ids)
          AND tag.deleted_at IS NULL
        ORDER BY tag.id) ELSE {_NO_TAGS} END"""


def _columns(author: str, *, tag_ids: str, excluded_tag_ids: str, comment_tag_ids: str) -> str:
    return f"""
    p.author_id, p.id, p.body, coalesce(p.chosen_audience, p.audience) AS audience, p.version,
    p.created_at, p.edited_at,
    CAST(p.attributes AS text) AS attributes,
    {tag_ids} AS tag_ids,
    {excluded_tag_ids} AS excluded_tag_ids,
    ARRAY(SELECT ARRAY[photo.object_key, CAST(coalesce(photo.width, 0) AS text),
                       CAST(coalesce(photo.height, 0) AS text), photo.alt_text]
          FROM post_photos AS photo
          WHERE photo.author_id = {author} AND photo.post_id = p.id
          ORDER BY photo.place) AS photos,
    coalesce((SELECT stats.comment_count FROM post_stats AS stats
              WHERE stats.author_id = {author} AND stats.post_id = p.id), 0) AS comment_count,
    p.moderated_at IS NOT NULL AS is_moderated,
    p.comment_policy, {comment_tag_ids} AS comment_tag_ids, p.comments_locked
"""


def _columns_with_tags(author: str) -> str:
    return _columns(
        author,
        tag_ids=_audience_tags(author, excluded=False),
        excluded_tag_ids=_audience_tags(author, excluded=True),
        comment_tag_ids=_comment_tags(author),
    )


POST_COLUMNS = _columns_with_tags("p.author_id")
"""The fields of PostRow in their order, of a row `p` of posts."""

POST_COLUMNS_OF_AUTHOR = _columns_with_tags(":author_id")
"""The same for statements about posts of :author_id alone, which a distributed database then looks
for on one shard."""

POST_COLUMNS_OF_OTHERS = _columns(
    "p.author_id", tag_ids=_NO_TAGS, excluded_tag_ids=_NO_TAGS, comment_tag_ids=_NO_TAGS
)
"""The same of posts by others than the viewer, who are not told the tags."""

_AUTHOR_PAGE = Statement(
    "author_page",
    f"""
    SELECT {POST_COLUMNS_OF_AUTHOR} FROM posts AS p
    WHERE p.author_id = :author_id AND (p.created_at, p.id) < (:before_time, :before_id)
      AND {VISIBLE_OF_AUTHOR}
    ORDER BY p.created_at DESC, p.id DESC LIMIT :limit
""",
)


def author_page(
    reader: Reader,
    *,
    viewer: Viewer,
    author_id: int,
    before: tuple[datetime, int],
    limit: int,
) -> list[PostRow]:
    """Up to `limit` posts of an author that the viewer may see, from a position on, newest first.

    They are older than the position.
    """
    rows = reader.rows(
        _AUTHOR_PAGE,
        {
            **viewer.parameters,
            "author_id": author_id,
            "before_time": before[0],
            "before_id": before[1],
            "limit": limit,
        },
    )
    return [PostRow._make(row) for row in rows]


# The authors are named twice: a distributed database looks at those shards alone that have them.
_VISIBLE_POSTS = Statement(
    "visible_posts",
    f"""
    SELECT {POST_COLUMNS}
    FROM unnest(CAST(:author_ids AS bigint[]), CAST(:post_ids AS bigint[]))
         AS asked (author_id, post_id)
    JOIN posts AS p ON p.author_id = asked.author_id AND p.id = asked.post_id AND {VISIBLE}
    WHERE p.author_id = ANY (CAST(:author_ids AS bigint[]))
""",
)

_OF_AUTHOR: Final = f"""
    SELECT {POST_COLUMNS_OF_AUTHOR} FROM posts AS p
    WHERE p.author_id = :author_id AND p.id = ANY (CAST(:post_ids AS bigint[]))
      AND {VISIBLE_OF_AUTHOR}
"""
_VISIBLE_POSTS_OF_AUTHOR = Statement("visible_posts_of_author", _OF_AUTHOR)
_POST_OF_AUTHOR = text(_OF_AUTHOR)


def visible_posts(
    reader: Reader, *, viewer: Viewer, names: Collection[PostName]
) -> dict[PostName, PostRow]:
    """Those of the named posts that the viewer may see."""
    parameters = {**viewer.parameters, **name_literals(names)}
    author_ids = {author_id for author_id, _ in names}
    if len(author_ids) == 1:
        [parameters["author_id"]] = author_ids
        rows = reader.rows(_VISIBLE_POSTS_OF_AUTHOR, parameters)
    else:
        rows = reader.rows(_VISIBLE_POSTS, parameters)
    return {(row.author_id, row.id): row for row in map(PostRow._make, rows)}


def own_post(connection: Connection, *, name: PostName) -> PostRow | None:
    """A post as its author sees it in a transaction, None if there is none."""
    author = Viewer(user_id=name[0])
    row = connection.execute(
        _POST_OF_AUTHOR, {**author.parameters, "author_id": name[0], **name_literals([name])}
    ).one_or_none()
    return None if row is None else PostRow._make(row)


_VISIBLE_POST = text(f"""
    SELECT p.created_at FROM posts AS p
    WHERE p.author_id = :author_id AND p.id = :post_id AND {VISIBLE_OF_AUTHOR}
""")


def visible_post_time(connection: Connection, *, viewer: Viewer, name: PostName) -> datetime | None:
    """When the post was made, if the viewer may see it."""
    found: datetime | None = connection.execute(
        _VISIBLE_POST,
        {**viewer.parameters, "author_id": name[0], "post_id": name[1]},
    ).scalar()
    return found


_IS_THERE = text("""
    SELECT EXISTS (SELECT FROM posts
                   WHERE author_id = :author_id AND id = :post_id AND deleted_at IS NULL)
""")


def is_there(connection: Connection, *, name: PostName) -> bool:
    """Whether there is a post that has not been deleted."""
    found: bool = connection.execute(
        _IS_THERE, {"author_id": name[0], "post_id": name[1]}
    ).scalar_one()
    return found


# A lock that has waited for a change of the post goes on with the new post and the tags of before,
# so a statement of its own asks what the viewer may see, once the post is locked.
KEEP_POST: Final = Statement(
    "keep_post",
    """
    SELECT FROM posts AS p WHERE p.author_id = :author_id AND p.id = :post_id FOR SHARE
""",
)
"""Locks a post, if there is one, so that it cannot change until the transaction ends."""


def keep_post(connection: Connection, *, name: PostName) -> None:
    """Lock the post, if there is one, so that it cannot change until the transaction ends."""
    run(connection, KEEP_POST, parameters={"author_id": name[0], "post_id": name[1]})


def lock_visible_post(connection: Connection, *, viewer: Viewer, name: PostName) -> bool:
    """Whether the viewer may see the post, which cannot change until the transaction ends."""
    keep_post(connection, name=name)
    return visible_post_time(connection, viewer=viewer, name=name) is not None


INSERTED_POST: Final = f"""
    INSERT INTO posts (author_id, body, audience, importance, attributes, comment_policy,
                       comment_tag_ids)
    VALUES (:author_id, :body, :audience,
            {heuristic(body="CAST(:body AS text)", photo_count=":photo_count")},
            CAST(:attributes AS jsonb), :comment_policy, CAST(:comment_tag_ids AS bigint[]))"""
"""Stores a post; what it is made of are the parameters of `post_parameters`."""

_PHOTOS: Final = """
    unnest(CAST(:photo_keys AS text[]), CAST(:widths AS integer[]), CAST(:heights AS integer[]),
           CAST(:alt_texts AS text[]))
    WITH ORDINALITY AS photo (object_key, width, height, alt_text, place)"""

_WITH_TAGS_AND_PHOTOS: Final = f"""
    audience_tags AS (
        INSERT INTO post_audience_tags (author_id, post_id, tag_id, excluded, created_at)
        SELECT post.author_id, post.id, named.tag_id, named.excluded, post.created_at
        FROM post CROSS JOIN unnest(CAST(:tag_ids AS bigint[]), CAST(:excluded AS boolean[]))
             AS named (tag_id, excluded)
    ),
    photos AS (
        INSERT INTO post_photos (author_id, post_id, place, object_key, width, height, alt_text)
        SELECT post.author_id, post.id, photo.place, photo.object_key, photo.width, photo.height,
               photo.alt_text
        FROM post CROSS JOIN {_PHOTOS}
    ),"""


# The totals are the only rows of it for which another transaction may have to be waited, so that it
# does not matter in which order its parts are done.
def _inserting(name: str, *, parts: str) -> Statement:
    return Statement(
        name,
        f"""
    WITH post AS ({INSERTED_POST} RETURNING author_id, id, version, created_at), {parts}
    totals AS ({ADD_TO_TOTALS})
    SELECT id, version, created_at FROM post
""",
    )


# To start and end parts that store nothing is a fifth of the statement.
_INSERT_PLAIN_POST: Final = _inserting("insert_plain_post", parts="")
_INSERT_POST: Final = _inserting("insert_post", parts=_WITH_TAGS_AND_PHOTOS)


def insert_post(
    connection: Connection,
    *,
    author_id: int,
    body: str,
    audience: Audience,
    photos: Sequence[NewPhoto],
    attributes: Mapping[str, str],
    comment_policy: CommentPolicy,
    totals: Mapping[str, int],
) -> PostRow:
    """Store a post, whose tags are locked, and return it as its author sees it; with the totals."""
    audience_tags = audience.tag_ids or audience.excluded_tag_ids
    [(post_id, version, created_at)] = run(
        connection,
        _INSERT_POST if photos or audience_tags else _INSERT_PLAIN_POST,
        parameters={
            **post_parameters(
                author_id,
                body,
                audience,
                photos,
                attributes=attributes,
                comment_policy=comment_policy,
            ),
            **_tag_parameters(audience),
            **total_parameters(totals),
        },
    )
    return new_post(
        {"id": post_id, "version": version, "created_at": created_at},
        author_id=author_id,
        body=body,
        audience=audience,
        photos=photos,
        attributes=attributes,
        comment_policy=comment_policy,
    )


def post_parameters(
    author_id: int,
    body: str,
    audience: Audience,
    photos: Sequence[NewPhoto],
    *,
    attributes: Mapping[str, str],
    comment_policy: CommentPolicy,
) -> dict[str, object]:
    """A new post as the parameters of INSERTED_POST, and its photos as those of _PHOTOS."""
    return {
        "author_id": author_id,
        "body": body,
        "audience": audience.kind,
        "attributes": attributes_json(attributes),
        "photo_count": len(photos),
        **_photo_parameters(photos),
        **_policy_parameters(comment_policy),
    }


def _policy_parameters(policy: CommentPolicy) -> dict[str, object]:
    return {
        "comment_policy": policy.kind,
        "comment_tag_ids": array_literal(policy.tag_ids),
    }


def _photo_parameters(photos: Sequence[NewPhoto]) -> dict[str, object]:
    return {
        "photo_keys": [photo.object_key for photo in photos],
        "widths": array_literal(photo.width for photo in photos),
        "heights": array_literal(photo.height for photo in photos),
        "alt_texts": [photo.alt_text for photo in photos],
    }


def attributes_json(attributes: Mapping[str, str]) -> str | None:
    """The attributes of a post as its column has them."""
    return json.dumps(dict(attributes), ensure_ascii=False) if attributes else None


def new_post(
    stored: Mapping[str, Any],
    *,
    author_id: int,
    body: str,
    audience: Audience,
    photos: Sequence[NewPhoto],
    attributes: Mapping[str, str],
    comment_policy: CommentPolicy,
) -> PostRow:
    """A post of what the database has said of it, as its author sees it."""
    return PostRow(
        author_id=author_id,
        body=body,
        audience=audience.kind,
        edited_at=None,
        attributes=attributes_json(attributes),
        tag_ids=sorted(audience.tag_ids),
        excluded_tag_ids=sorted(audience.excluded_tag_ids),
        photos=[
            (photo.object_key, str(photo.width), str(photo.height), photo.alt_text)
            for photo in photos
        ],
        comment_count=0,
        is_moderated=False,
        comment_policy=comment_policy.kind,
        comment_tag_ids=sorted(comment_policy.tag_ids),
        comments_locked=False,
        **stored,
    )


_INSERT_AUDIENCE_TAGS = text("""
    INSERT INTO post_audience_tags (author_id, post_id, tag_id, excluded, created_at)
    SELECT p.author_id, p.id, named.tag_id, named.excluded, p.created_at
    FROM unnest(CAST(:author_ids AS bigint[]), CAST(:post_ids AS bigint[]),
                CAST(:tag_ids AS bigint[]), CAST(:excluded AS boolean[]))
         AS named (author_id, post_id, tag_id, excluded)
    JOIN posts AS p ON p.author_id = named.author_id AND p.id = named.post_id
""")


def insert_audience_tags(connection: Connection, *, audiences: Mapping[PostName, Audience]) -> None:
    """Store the tags of these posts' audiences."""
    named = [(*name, *tag) for name, audience in audiences.items() for tag in _tags(audience)]
    if named:
        author_ids, post_ids, tag_ids, excluded = zip(*named, strict=True)
        connection.execute(
            _INSERT_AUDIENCE_TAGS,
            {
                "author_ids": array_literal(author_ids),
                "post_ids": array_literal(post_ids),
                "tag_ids": array_literal(tag_ids),
                "excluded": list(excluded),
            },
        )


_INSERT_OWN_AUDIENCE_TAGS = text("""
    INSERT INTO post_audience_tags (author_id, post_id, tag_id, excluded, created_at)
    SELECT p.author_id, p.id, named.tag_id, named.excluded, p.created_at
    FROM posts AS p
    CROSS JOIN unnest(CAST(:tag_ids AS bigint[]), CAST(:excluded AS boolean[]))
         AS named (tag_id, excluded)
    WHERE p.author_id = :author_id AND p.id = :post_id
""")


def insert_own_audience_tags(connection: Connection, *, name: PostName, audience: Audience) -> None:
    """Store the tags of this post's audience."""
    if _tags(audience):
        connection.execute(
            _INSERT_OWN_AUDIENCE_TAGS,
            {"author_id": name[0], "post_id": name[1], **_tag_parameters(audience)},
        )


def _tag_parameters(audience: Audience) -> dict[str, object]:
    """The tags of an audience as the parameters :tag_ids and :excluded."""
    tags = _tags(audience)
    return {
        "tag_ids": array_literal(tag_id for tag_id, _ in tags),
        "excluded": [excluded for _, excluded in tags],
    }


def _tags(audience: Audience) -> list[tuple[int, bool]]:
    """The tags of an audience, and whether they exclude."""
    return [
        *((tag_id, False) for tag_id in audience.tag_ids),
        *((tag_id, True) for tag_id in audience.excluded_tag_ids),
    ]


_LOCK_POST = text("""
    SELECT version, coalesce(held_until > now(), false) FROM posts
    WHERE author_id = :author_id AND id = :post_id AND deleted_at IS NULL
    FOR NO KEY UPDATE
""")


def lock_post(connection: Connection, *, author_id: int, post_id: int) -> LockedPost | None:
    """The author's post, locked until the transaction ends."""
    found = connection.execute(
        _LOCK_POST, {"author_id": author_id, "post_id": post_id}
    ).one_or_none()
    return None if found is None else LockedPost._make(found)


_SAME_POLICY = dict.fromkeys(("comment_policy", "comment_tag_ids"))

# While a service hides the post, no choice of its author shows it. Readers see when it was edited,
# so what only the author sees, the audience and the comment policy, does not count as an edit.
# Citus takes no now() inside a CASE that changes rows.
_UPDATE_POST = text(f"""
    UPDATE posts AS p
    SET body = coalesce(:body, p.body),
        audience = CASE WHEN p.moderated_at IS NULL THEN coalesce(:audience, p.audience)
                   ELSE p.audience END,
        chosen_audience = CASE WHEN p.moderated_at IS NOT NULL
                          THEN coalesce(:audience, p.chosen_audience) END,
        attributes = CASE WHEN :has_attributes THEN CAST(:attributes AS jsonb)
                     ELSE p.attributes END,
        comment_policy = coalesce(:comment_policy, p.comment_policy),
        comment_tag_ids = coalesce(CAST(:comment_tag_ids AS bigint[]), p.comment_tag_ids),
        comments_locked = coalesce(:comments_locked, p.comments_locked),
        importance = CASE WHEN p.importance_given OR NOT :is_scored THEN p.importance
                     ELSE {
    heuristic(
        body="coalesce(CAST(:body AS text), p.body)",
        photo_count='''(SELECT count(*) FROM post_photos AS photo
                            WHERE photo.author_id = :author_id AND photo.post_id = p.id)''',
    )
} END,
        version = p.version + 1,
        edited_at = CASE WHEN :has_photos
                           OR :body <> p.body
                           OR :has_attributes
                              AND CAST(:attributes AS jsonb) IS DISTINCT FROM p.attributes
                           OR :comments_locked <> p.comments_locked
                    THEN edit.moment ELSE p.edited_at END
    FROM (SELECT now() AS moment) AS edit
    WHERE p.author_id = :author_id AND p.id = :post_id
""")

_CLEAR_AUDIENCE_TAGS = text("""
    DELETE FROM post_audience_tags WHERE author_id = :author_id AND post_id = :post_id
""")


_CLEAR_PHOTOS = text("""
    DELETE FROM post_photos WHERE author_id = :author_id AND post_id = :post_id
""")

_INSERT_PHOTOS = text(f"""
    INSERT INTO post_photos (author_id, post_id, place, object_key, width, height, alt_text)
    SELECT :author_id, :post_id, place, object_key, nullif(width, 0), nullif(height, 0), alt_text
    FROM {_PHOTOS}
""")


def insert_photos(connection: Connection, *, name: PostName, photos: Sequence[NewPhoto]) -> None:
    """Store the photos of this post, which has none, in this order."""
    if photos:
        connection.execute(
            _INSERT_PHOTOS,
            {"author_id": name[0], "post_id": name[1], **_photo_parameters(photos)},
        )


def update_post(
    connection: Connection,
    *,
    name: PostName,
    body: str | None,
    audience: Audience | None,
    photos: Sequence[NewPhoto] | None,
    attributes: Mapping[str, str] | None,
    comment_policy: CommentPolicy | None,
    comments_locked: bool | None,
) -> None:
    """Store what is given of the locked post; it keeps what is None."""
    key = {"author_id": name[0], "post_id": name[1]}
    if photos is not None:
        connection.execute(_CLEAR_PHOTOS, key)
        insert_photos(connection, name=name, photos=photos)
    connection.execute(
        _UPDATE_POST,
        {
            **key,
            "body": body,
            "audience": audience and audience.kind,
            "has_attributes": attributes is not None,
            "attributes": attributes_json(attributes or {}),
            "has_photos": photos is not None,
            "is_scored": body is not None or photos is not None,
            **(_SAME_POLICY if comment_policy is None else _policy_parameters(comment_policy)),
            "comments_locked": comments_locked,
        },
    )
    if audience is not None:
        connection.execute(_CLEAR_AUDIENCE_TAGS, key)
        insert_own_audience_tags(connection, name=name, audience=audience)


# Its tags and photos stay until it is purged, so that it can be restored as it was. The streams of
# a tag pass over it, as over everything that their posts do not confirm. What an UPDATE returns may
# not ask for the time: a distributed database refuses that.
_DELETE_POST = text("""
    WITH found AS (
        SELECT id, deleted_at, version FROM posts
        WHERE author_id = :author_id AND id = :post_id FOR UPDATE
    ),
    deleted AS (
        UPDATE posts AS p
        SET deleted_at = now(), purge_at = now() + CAST(:purge_after AS interval),
            version = p.version + 1
        FROM found
        WHERE p.author_id = :author_id AND p.id = found.id AND found.deleted_at IS NULL
        RETURNING p.id, p.kept_until
    )
    SELECT (SELECT count(*) FROM found), (SELECT version FROM found WHERE deleted_at IS NULL),
           (SELECT greatest(CAST(:purge_after AS interval), kept_until - now()) FROM deleted),
           ARRAY(SELECT photo.object_key FROM post_photos AS photo
                 JOIN deleted ON photo.post_id = deleted.id WHERE photo.author_id = :author_id)
""")


def delete_post(
    connection: Connection, *, author_id: int, post_id: int, purge_after: timedelta
) -> tuple[bool, int | None]:
    """Whether the author has such a post; the version that was deleted, None if it was before.

    Its photos are noted to be removed when it can be restored no longer, and no hold keeps it.
    """
    found, version, due_after, object_keys = connection.execute(
        _DELETE_POST,
        {"author_id": author_id, "post_id": post_id, "purge_after": purge_after},
    ).one()
    if object_keys:
        note_objects(
            connection, owner_user_id=author_id, object_keys=object_keys, due_after=due_after
        )
    return bool(found), version


class DeletedPostRow(NamedTuple):
    """A post that its author has deleted, as it was, and until when it can be restored."""

    post: PostRow
    deleted_at: datetime
    purge_at: datetime


_DELETED_PAGE = text(f"""
    SELECT {POST_COLUMNS_OF_AUTHOR}, p.deleted_at, p.purge_at FROM posts AS p
    WHERE p.author_id = :author_id AND (p.deleted_at, p.id) < (:before_time, :before_id)
      AND p.purge_at > now()
    ORDER BY p.deleted_at DESC, p.id DESC LIMIT :limit
""")


def deleted_page(
    connection: Connection, *, author_id: int, before: tuple[datetime, int], limit: int
) -> list[DeletedPostRow]:
    """Up to `limit` posts that the author can restore, before a position, last deleted first."""
    rows = connection.execute(
        _DELETED_PAGE,
        {
            "author_id": author_id,
            "viewer_id": author_id,
            "before_time": before[0],
            "before_id": before[1],
            "limit": limit,
        },
    )
    return [
        DeletedPostRow(PostRow._make(post), deleted_at, purge_at)
        for *post, deleted_at, purge_at in rows
    ]


_UNDELETE_POST = text("""
    UPDATE posts AS p SET deleted_at = NULL, purge_at = NULL, version = p.version + 1
    WHERE p.author_id = :author_id AND p.id = :post_id AND p.purge_at > now()
""")


def undelete_post(connection: Connection, *, name: PostName) -> bool:
    """Whether the post was deleted and is there again; its photos are still noted to be removed."""
    parameters = {"author_id": name[0], "post_id": name[1]}
    return connection.execute(_UNDELETE_POST, parameters).rowcount == 1


_SET_IMPORTANCE = text("""
    UPDATE posts AS p SET importance = scored.importance, importance_given = true
    FROM unnest(CAST(:author_ids AS bigint[]), CAST(:post_ids AS bigint[]),
                CAST(:importances AS double precision[]))
         AS scored (author_id, post_id, importance)
    WHERE p.author_id = scored.author_id AND p.id = scored.post_id AND p.deleted_at IS NULL
""")


def set_importance(connection: Connection, *, importances: Mapping[PostName, float]) -> int:
    """How many of the posts exist; they have the new importance now."""
    return connection.execute(
        _SET_IMPORTANCE,
        {**name_literals(importances), "importances": list(importances.values())},
    ).rowcount


def name_literals(names: Collection[PostName]) -> dict[str, str]:
    """The names of posts as the parameters :author_ids and :post_ids."""
    return {
        "author_ids": array_literal(author_id for author_id, _ in names),
        "post_ids": array_literal(post_id for _, post_id in names),
    }
