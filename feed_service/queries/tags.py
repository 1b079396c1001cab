"""Tags and the people who have them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from shared.arrays import array_literal


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


_OWNED_TAGS = text("""
    SELECT id FROM tags
    WHERE owner_user_id = :owner_user_id AND id = ANY (CAST(:tag_ids AS bigint[]))
      AND deleted_at IS NULL
    ORDER BY id
""")

_HOLD_OWNED_TAGS = text(f"{_OWNED_TAGS.text} FOR SHARE")


def owned_tag_ids(
    connection: Connection, *, owner_user_id: int, tag_ids: Collection[int]
) -> set[int]:
    """Those of the ids that are tags of the owner."""
    rows = connection.execute(
        _OWNED_TAGS, {"owner_user_id": owner_user_id, "tag_ids": array_literal(tag_ids)}
    )
    return set(rows.scalars())


def hold_owned_tag_ids(
    connection: Connection, *, owner_user_id: int, tag_ids: Collection[int]
) -> set[int]:
    """Those of the ids that are tags of the owner; they stay so until the transaction ends."""
    rows = connection.execute(
        _HOLD_OWNED_TAGS, {"owner_user_id": owner_user_id, "tag_ids": array_literal(tag_ids)}
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
        WHERE owner_user_id = :owner_user_id AND tag_id = :tag_id AND target_user_id > :after_id
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
