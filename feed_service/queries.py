"""Every SQL statement of feed_service, one function each; its first line says what comes back.

Functions that change something run in the caller's transaction. The author's or owner's id is part
of every join.
"""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from feed_service.visibility import VISIBLE
from shared.database import array_literal


@dataclass(frozen=True, kw_only=True)
class PostRow:
    """A post with its tags; the tags are empty unless the viewer is the author."""

    author_id: int
    id: int
    body: str
    audience: str
    version: int
    created_at: datetime
    edited_at: datetime | None
    tag_ids: list[int]
    excluded_tag_ids: list[int]


@dataclass(frozen=True, kw_only=True)
class TagRow:
    """A tag."""

    id: int
    name: str
    version: int
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class MemberRow:
    """A person who has a tag."""

    target_user_id: int
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What a creation with this request id was asked and answered the first time."""

    fingerprint: bytes
    response: bytes


def _audience_tags(*, excluded: bool) -> str:
    return f"""ARRAY(
        SELECT audience.tag_id FROM post_audience_tags AS audience
        JOIN tags AS tag ON tag.owner_user_id = audience.author_id AND tag.id = audience.tag_id
        WHERE audience.author_id = p.author_id AND audience.post_id = p.id
          AND audience.excluded = {excluded} AND tag.deleted_at IS NULL
          AND p.author_id = :viewer_id
        ORDER BY audience.tag_id)"""


_POST_COLUMNS = f"""
    p.author_id, p.id, p.body, p.audience, p.version, p.created_at, p.edited_at,
    {_audience_tags(excluded=False)} AS tag_ids,
    {_audience_tags(excluded=True)} AS excluded_tag_ids
"""

# For every author the newest visible posts, and of these the newest. Each author's part is read in
# the order of idx_post_author and stops at the page's size, so the cost grows with the connections
# and not with their posts.
_FEED_PAGE = text(f"""
    WITH authors AS (
        SELECT author_id
        FROM unnest(CAST(:author_ids AS bigint[])) AS author_id
        WHERE NOT :by_tags OR author_id = :viewer_id OR EXISTS (
            SELECT FROM user_tags AS chosen
            WHERE chosen.owner_user_id = :viewer_id
              AND chosen.target_user_id = author_id
              AND chosen.tag_id = ANY (CAST(:tag_ids AS bigint[])))
    ),
    page AS (
        SELECT p.author_id, p.id
        FROM authors CROSS JOIN LATERAL (
            SELECT p.author_id, p.id, p.created_at
            FROM posts AS p
            WHERE p.author_id = authors.author_id
              AND (p.created_at, p.id) < (:before_time, :before_id)
              AND {VISIBLE}
            ORDER BY p.created_at DESC, p.id DESC LIMIT :limit) AS p
        ORDER BY p.created_at DESC, p.id DESC LIMIT :limit
    )
    SELECT {_POST_COLUMNS}
    FROM page JOIN posts AS p ON p.author_id = page.author_id AND p.id = page.id
    ORDER BY p.created_at DESC, p.id DESC
""")


def feed_page(
    connection: Connection,
    *,
    viewer_id: int,
    connected_ids: str,
    author_ids: str,
    tag_ids: Sequence[int],
    before_time: datetime,
    before_id: int,
    limit: int,
) -> list[PostRow]:
    """Up to `limit` posts by the authors that the viewer may see, before a place, newest first."""
    rows = connection.execute(
        _FEED_PAGE,
        {
            "viewer_id": viewer_id,
            "connected_ids": connected_ids,
            "author_ids": author_ids,
            "by_tags": bool(tag_ids),
            "tag_ids": array_literal(tag_ids),
            "before_time": before_time,
            "before_id": before_id,
            "limit": limit,
        },
    )
    return [PostRow(**row) for row in rows.mappings()]


_VISIBLE_POST = text(f"""
    SELECT {_POST_COLUMNS} FROM posts AS p
    WHERE p.author_id = :author_id AND p.id = :post_id AND {VISIBLE}
""")


def visible_post(
    connection: Connection, *, viewer_id: int, connected_ids: str, author_id: int, post_id: int
) -> PostRow | None:
    """The post, if there is one that the viewer may see."""
    row = (
        connection.execute(
            _VISIBLE_POST,
            {
                "viewer_id": viewer_id,
                "connected_ids": connected_ids,
                "author_id": author_id,
                "post_id": post_id,
            },
        )
        .mappings()
        .one_or_none()
    )
    return None if row is None else PostRow(**row)


_INSERT_POST = text("""
    INSERT INTO posts (author_id, body, audience) VALUES (:author_id, :body, :audience)
    RETURNING id, version, created_at
""")

_INSERT_AUDIENCE_TAGS = text("""
    INSERT INTO post_audience_tags (author_id, post_id, tag_id, excluded, created_at)
    SELECT :author_id, :post_id, tag_id, excluded, :created_at
    FROM unnest(CAST(:tag_ids AS bigint[]), CAST(:excluded AS boolean[])) AS t (tag_id, excluded)
""")


def insert_post(
    connection: Connection,
    *,
    author_id: int,
    body: str,
    audience: str,
    tag_ids: Sequence[int],
    excluded_tag_ids: Sequence[int],
) -> PostRow:
    """The new post, as its author sees it."""
    created = (
        connection.execute(
            _INSERT_POST, {"author_id": author_id, "body": body, "audience": audience}
        )
        .mappings()
        .one()
    )
    if tag_ids or excluded_tag_ids:
        connection.execute(
            _INSERT_AUDIENCE_TAGS,
            {
                "author_id": author_id,
                "post_id": created["id"],
                "created_at": created["created_at"],
                "tag_ids": array_literal([*tag_ids, *excluded_tag_ids]),
                "excluded": [False] * len(tag_ids) + [True] * len(excluded_tag_ids),
            },
        )
    return PostRow(
        author_id=author_id,
        body=body,
        audience=audience,
        edited_at=None,
        tag_ids=sorted(tag_ids),
        excluded_tag_ids=sorted(excluded_tag_ids),
        **created,
    )


_DELETE_POST = text("""
    WITH found AS (
        SELECT author_id, id, deleted_at FROM posts
        WHERE author_id = :author_id AND id = :post_id FOR UPDATE
    ),
    deleted AS (
        UPDATE posts AS p SET deleted_at = now(), version = p.version + 1
        FROM found
        WHERE p.author_id = found.author_id AND p.id = found.id AND found.deleted_at IS NULL
        RETURNING p.id
    )
    SELECT (SELECT count(*) FROM found), (SELECT count(*) FROM deleted)
""")


def delete_post(connection: Connection, *, author_id: int, post_id: int) -> tuple[bool, bool]:
    """Whether the author has such a post, deleted or not, and whether it was deleted now."""
    found, deleted = connection.execute(
        _DELETE_POST, {"author_id": author_id, "post_id": post_id}
    ).one()
    return bool(found), bool(deleted)


# The rows are held until the transaction ends, so that no tag can be deleted between being checked
# and being put into an audience.
_OWNED_TAGS = text("""
    SELECT id FROM tags
    WHERE owner_user_id = :owner_user_id AND id = ANY (CAST(:tag_ids AS bigint[]))
      AND deleted_at IS NULL
    ORDER BY id FOR SHARE
""")


def owned_tag_ids(
    connection: Connection, *, owner_user_id: int, tag_ids: Collection[int]
) -> set[int]:
    """Those of the ids that are tags of the owner; they stay so until the transaction ends."""
    rows = connection.execute(
        _OWNED_TAGS, {"owner_user_id": owner_user_id, "tag_ids": array_literal(tag_ids)}
    )
    return set(rows.scalars())


# Creations of one owner's tags come one after the other, or two of them could pass the limit.
_LOCK_OWNER = text("SELECT pg_advisory_xact_lock(hashtextextended('tags', :owner_user_id))")

_COUNT_TAGS = text("""
    SELECT count(*) FROM tags WHERE owner_user_id = :owner_user_id AND deleted_at IS NULL
""")


def lock_and_count_tags(connection: Connection, *, owner_user_id: int) -> int:
    """How many tags the owner has; no other can be created until the transaction ends."""
    connection.execute(_LOCK_OWNER, {"owner_user_id": owner_user_id})
    count: int = connection.execute(_COUNT_TAGS, {"owner_user_id": owner_user_id}).scalar_one()
    return count


_INSERT_TAG = text("""
    INSERT INTO tags (owner_user_id, name) VALUES (:owner_user_id, :name)
    ON CONFLICT DO NOTHING
    RETURNING id, name, version, created_at
""")


def insert_tag(connection: Connection, *, owner_user_id: int, name: str) -> TagRow | None:
    """The new tag, or None when the owner has one of this name."""
    row = connection.execute(_INSERT_TAG, {"owner_user_id": owner_user_id, "name": name})
    found = row.mappings().one_or_none()
    return None if found is None else TagRow(**found)


_TAG_COLUMNS = "id, name, version, created_at"

_TAG = text(f"""
    SELECT {_TAG_COLUMNS} FROM tags
    WHERE owner_user_id = :owner_user_id AND id = :tag_id AND deleted_at IS NULL
""")

_TAG_FOR_UPDATE = text(f"{_TAG.text} FOR UPDATE")


def tag(connection: Connection, *, owner_user_id: int, tag_id: int) -> TagRow | None:
    """The tag, if the owner has it."""
    row = connection.execute(_TAG, {"owner_user_id": owner_user_id, "tag_id": tag_id})
    found = row.mappings().one_or_none()
    return None if found is None else TagRow(**found)


def locked_tag(connection: Connection, *, owner_user_id: int, tag_id: int) -> TagRow | None:
    """The tag, if the owner has it; nobody else can change it until the transaction ends."""
    row = connection.execute(_TAG_FOR_UPDATE, {"owner_user_id": owner_user_id, "tag_id": tag_id})
    found = row.mappings().one_or_none()
    return None if found is None else TagRow(**found)


_TAG_PAGE = text(f"""
    SELECT {_TAG_COLUMNS} FROM tags
    WHERE owner_user_id = :owner_user_id AND id > :after_id AND deleted_at IS NULL
    ORDER BY id LIMIT :limit
""")


def tag_page(
    connection: Connection, *, owner_user_id: int, after_id: int, limit: int
) -> list[TagRow]:
    """Up to `limit` tags of the owner behind an id, by id."""
    rows = connection.execute(
        _TAG_PAGE, {"owner_user_id": owner_user_id, "after_id": after_id, "limit": limit}
    )
    return [TagRow(**row) for row in rows.mappings()]


_RENAME_TAG = text(f"""
    UPDATE tags SET name = :name, version = version + 1
    WHERE owner_user_id = :owner_user_id AND id = :tag_id
    RETURNING {_TAG_COLUMNS}
""")


def rename_tag(connection: Connection, *, owner_user_id: int, tag_id: int, name: str) -> TagRow:
    """The tag with its new name; an IntegrityError when another tag has it."""
    row = connection.execute(
        _RENAME_TAG, {"owner_user_id": owner_user_id, "tag_id": tag_id, "name": name}
    )
    return TagRow(**row.mappings().one())


_END_INCLUSIONS = text("""
    DELETE FROM post_audience_tags
    WHERE author_id = :owner_user_id AND tag_id = :tag_id AND NOT excluded
""")

_DROP_TAG = text("""
    DELETE FROM tags WHERE owner_user_id = :owner_user_id AND id = :tag_id
      AND NOT EXISTS (SELECT FROM post_audience_tags
                      WHERE author_id = :owner_user_id AND tag_id = :tag_id)
""")

_HIDE_TAG = text("""
    UPDATE tags SET deleted_at = now() WHERE owner_user_id = :owner_user_id AND id = :tag_id
""")


def delete_tag(connection: Connection, *, owner_user_id: int, tag_id: int) -> None:
    """Nothing; the locked tag lets nobody see a post any more.

    A tag that keeps people from posts is hidden instead of dropped and goes on doing that.
    """
    parameters = {"owner_user_id": owner_user_id, "tag_id": tag_id}
    connection.execute(_END_INCLUSIONS, parameters)
    if connection.execute(_DROP_TAG, parameters).rowcount == 0:
        connection.execute(_HIDE_TAG, parameters)


_ADD_MEMBERS = text("""
    INSERT INTO user_tags (owner_user_id, tag_id, target_user_id, owner_revision)
    SELECT :owner_user_id, :tag_id, target_user_id, :owner_revision
    FROM unnest(CAST(:target_user_ids AS bigint[])) AS target_user_id
    ORDER BY target_user_id
    ON CONFLICT (owner_user_id, tag_id, target_user_id)
    DO UPDATE SET owner_revision = greatest(user_tags.owner_revision, excluded.owner_revision)
    RETURNING (xmax = 0) AS is_new
""")


def add_members(
    connection: Connection,
    *,
    owner_user_id: int,
    tag_id: int,
    target_user_ids: Sequence[int],
    owner_revision: int,
) -> int:
    """How many of the people did not have the tag; now all have it, as of the given revision."""
    rows = connection.execute(
        _ADD_MEMBERS,
        {
            "owner_user_id": owner_user_id,
            "tag_id": tag_id,
            "target_user_ids": array_literal(target_user_ids),
            "owner_revision": owner_revision,
        },
    )
    return sum(rows.scalars())


_REMOVE_MEMBERS = text("""
    DELETE FROM user_tags
    WHERE owner_user_id = :owner_user_id AND tag_id = :tag_id
      AND target_user_id = ANY (CAST(:target_user_ids AS bigint[]))
""")


def remove_members(
    connection: Connection, *, owner_user_id: int, tag_id: int, target_user_ids: Sequence[int]
) -> int:
    """How many of the people had the tag; now none has it."""
    return connection.execute(
        _REMOVE_MEMBERS,
        {
            "owner_user_id": owner_user_id,
            "tag_id": tag_id,
            "target_user_ids": array_literal(target_user_ids),
        },
    ).rowcount


# One row more than there are members tells a tag without members from no tag.
_MEMBER_PAGE = text("""
    SELECT member.target_user_id, member.created_at
    FROM tags AS tag
    LEFT JOIN LATERAL (
        SELECT target_user_id, created_at FROM user_tags
        WHERE owner_user_id = tag.owner_user_id AND tag_id = tag.id AND target_user_id > :after_id
        ORDER BY target_user_id LIMIT :limit) AS member ON true
    WHERE tag.owner_user_id = :owner_user_id AND tag.id = :tag_id AND tag.deleted_at IS NULL
    ORDER BY member.target_user_id
""")


def member_page(
    connection: Connection, *, owner_user_id: int, tag_id: int, after_id: int, limit: int
) -> list[MemberRow] | None:
    """Up to `limit` people with the tag behind an id, by id; None when there is no such tag."""
    rows = (
        connection.execute(
            _MEMBER_PAGE,
            {
                "owner_user_id": owner_user_id,
                "tag_id": tag_id,
                "after_id": after_id,
                "limit": limit,
            },
        )
        .mappings()
        .all()
    )
    if not rows:
        return None
    return [MemberRow(**row) for row in rows if row["target_user_id"] is not None]


_TAGS_OF_USER = text("""
    SELECT tag.id, tag.name, tag.version, tag.created_at
    FROM user_tags AS given
    JOIN tags AS tag ON tag.owner_user_id = given.owner_user_id AND tag.id = given.tag_id
    WHERE given.owner_user_id = :owner_user_id AND given.target_user_id = :target_user_id
      AND tag.deleted_at IS NULL
    ORDER BY tag.id
""")


def tags_of_user(
    connection: Connection, *, owner_user_id: int, target_user_id: int
) -> list[TagRow]:
    """The tags that the owner has given to one person, by id."""
    rows = connection.execute(
        _TAGS_OF_USER, {"owner_user_id": owner_user_id, "target_user_id": target_user_id}
    )
    return [TagRow(**row) for row in rows.mappings()]


# The empty insert makes a second transaction with the same id wait for the first, and see its row.
_CLAIM_REQUEST = text("""
    INSERT INTO idempotency_keys (user_id, request_id, fingerprint, response)
    VALUES (:user_id, :request_id, :fingerprint, '')
    ON CONFLICT (user_id, request_id) DO UPDATE
       SET fingerprint = excluded.fingerprint, response = '', created_at = now()
     WHERE idempotency_keys.created_at < now() - interval '24 hours'
    RETURNING user_id
""")

_REPLAY = text("""
    SELECT fingerprint, response FROM idempotency_keys
    WHERE user_id = :user_id AND request_id = :request_id
""")


def claim_request(
    connection: Connection, *, user_id: int, request_id: uuid.UUID, fingerprint: bytes
) -> Replay | None:
    """What the request answered before, or None when it is new and now ours to answer."""
    key = {"user_id": user_id, "request_id": request_id}
    claimed = connection.execute(_CLAIM_REQUEST, {**key, "fingerprint": fingerprint})
    if claimed.one_or_none() is not None:
        return None
    row = connection.execute(_REPLAY, key).mappings().one()
    return Replay(fingerprint=bytes(row["fingerprint"]), response=bytes(row["response"]))


_ANSWER_REQUEST = text("""
    UPDATE idempotency_keys SET response = :response
    WHERE user_id = :user_id AND request_id = :request_id
""")


def answer_request(
    connection: Connection, *, user_id: int, request_id: uuid.UUID, response: bytes
) -> None:
    """Nothing; repeating the request will answer this."""
    connection.execute(
        _ANSWER_REQUEST, {"user_id": user_id, "request_id": request_id, "response": response}
    )
