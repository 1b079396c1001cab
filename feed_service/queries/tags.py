"""Tags and the people who have them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from feed_service.viewers import Viewer
from feed_service.visibility import HAS_TAG_OF_VIEWER
from shared.database.arrays import array_literal
from shared.database.database import violates


@dataclass(frozen=True, kw_only=True)
class TagRow:
    """A tag; deleted ones are there as long as a post excludes people by them.

    `is_muted` is so now, and until `mute_until`, or without an end if that is None.
    """

    id: int
    name: str
    version: int
    created_at: datetime
    deleted_at: datetime | None
    is_muted: bool
    mute_until: datetime | None

    @property
    def mute(self) -> "Mute | None":
        """The mute of the tag, None when it is not muted."""
        return Mute(until=self.mute_until) if self.is_muted else None


@dataclass(frozen=True, kw_only=True)
class Mute:
    """That a tag is muted, until a moment or without an end."""

    until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class MemberRow:
    """A person who has a tag, or had it and is still kept out by it."""

    target_user_id: int
    created_at: datetime
    is_former: bool


def is_there(owner: str) -> str:
    """Return whether a row `tag` of tags is not deleted; or, :with_deleted, still excludes people.

    A deleted tag that no post excludes by is gone, whether or not it has been dropped yet. The
    owner of the tag is said once more, so that a distributed database knows that the posts are on
    the same shard; it locks no row otherwise.
    """
    return f"""(tag.deleted_at IS NULL OR :with_deleted AND EXISTS (
        SELECT FROM post_audience_tags AS audience
        WHERE audience.author_id = {owner} AND audience.tag_id = tag.id
          AND audience.excluded))"""


_IS_THERE: Final = is_there(":owner_user_id")

_OWNED_TAGS = text(f"""
    SELECT tag.id, tag.deleted_at IS NOT NULL FROM tags AS tag
    WHERE tag.owner_user_id = :owner_user_id AND tag.id = ANY (CAST(:tag_ids AS bigint[]))
      AND {_IS_THERE}
""")


def owned_tags(
    connection: Connection, *, owner_user_id: int, tag_ids: Collection[int]
) -> dict[int, bool]:
    """Those of the ids that are tags of the owner, and whether each is deleted."""
    rows = connection.execute(
        _OWNED_TAGS,
        {
            "owner_user_id": owner_user_id,
            "tag_ids": array_literal(tag_ids),
            "with_deleted": True,
        },
    )
    return {tag_id: is_deleted for tag_id, is_deleted in rows}  # noqa: C416 -- rows are not tuples to mypy


_LOCK_OWNED_TAGS = text("""
    SELECT id FROM tags
    WHERE owner_user_id = :owner_user_id AND id = ANY (CAST(:tag_ids AS bigint[]))
      AND deleted_at IS NULL
    ORDER BY id
    FOR SHARE
""")


def lock_owned_tag_ids(
    connection: Connection, *, owner_user_id: int, tag_ids: Collection[int]
) -> set[int]:
    """Those of the ids that are tags of the owner; they stay so until the transaction ends."""
    rows = connection.execute(
        _LOCK_OWNED_TAGS, {"owner_user_id": owner_user_id, "tag_ids": array_literal(tag_ids)}
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


# A deleted tag is not muted, nor is one after the end of its mute.
_MUTES: Final = "tag.deleted_at IS NULL AND coalesce(tag.muted_until > now(), false)"
_TAG_COLUMNS: Final = f"""tag.id, tag.name, tag.version, tag.created_at, tag.deleted_at,
           {_MUTES} AS is_muted,
           CASE WHEN {_MUTES} THEN nullif(tag.muted_until, 'infinity') END AS mute_until"""

_INSERT_TAG = text("""
    INSERT INTO tags (owner_user_id, name, muted_until)
    VALUES (:owner_user_id, :name, CAST(:muted_until AS timestamptz))
    RETURNING id
""")


def insert_tag(connection: Connection, *, owner_user_id: int, name: str, mute: Mute | None) -> int:
    """The id of the new tag; fails with `is_name_taken` when the owner has one of this name."""
    tag_id: int = connection.execute(
        _INSERT_TAG,
        {"owner_user_id": owner_user_id, "name": name, "muted_until": muted_until(mute)},
    ).scalar_one()
    return tag_id


def muted_until(mute: Mute | None) -> datetime | str | None:
    """A mute as the column of its end has it."""
    return None if mute is None else mute.until or "infinity"


def is_name_taken(error: IntegrityError) -> bool:
    """Whether a tag was not stored because its owner has another one of this name."""
    return violates(error, "uq_tag_name")


_TAG = text(f"""
    SELECT {_TAG_COLUMNS} FROM tags AS tag
    WHERE tag.owner_user_id = :owner_user_id AND tag.id = :tag_id AND tag.deleted_at IS NULL
""")


def tag(connection: Connection, *, owner_user_id: int, tag_id: int) -> TagRow | None:
    """The tag, if the owner has it."""
    row = connection.execute(_TAG, {"owner_user_id": owner_user_id, "tag_id": tag_id})
    found = row.mappings().one_or_none()
    return None if found is None else TagRow(**found)


_LOCKED_TAG = text(f"""
    SELECT {_TAG_COLUMNS} FROM tags AS tag
    WHERE tag.owner_user_id = :owner_user_id AND tag.id = :tag_id AND {_IS_THERE}
    FOR UPDATE OF tag
""")


def locked_tag(
    connection: Connection, *, owner_user_id: int, tag_id: int, with_deleted: bool = False
) -> TagRow | None:
    """The tag, if the owner has it; locked until the transaction ends."""
    row = connection.execute(
        _LOCKED_TAG,
        {"owner_user_id": owner_user_id, "tag_id": tag_id, "with_deleted": with_deleted},
    )
    found = row.mappings().one_or_none()
    return None if found is None else TagRow(**found)


_TAG_PAGE = text(f"""
    SELECT {_TAG_COLUMNS} FROM tags AS tag
    WHERE tag.owner_user_id = :owner_user_id AND tag.id > :after_id AND {_IS_THERE}
    ORDER BY tag.id LIMIT :limit
""")


def tag_page(
    connection: Connection, *, owner_user_id: int, with_deleted: bool, after_id: int, limit: int
) -> list[TagRow]:
    """Up to `limit` tags of the owner behind an id, by id."""
    rows = connection.execute(
        _TAG_PAGE,
        {
            "owner_user_id": owner_user_id,
            "with_deleted": with_deleted,
            "after_id": after_id,
            "limit": limit,
        },
    )
    return [TagRow(**row) for row in rows.mappings()]


_UPDATE_TAG = text("""
    UPDATE tags SET name = :name, muted_until = CAST(:muted_until AS timestamptz),
                    version = version + 1
    WHERE owner_user_id = :owner_user_id AND id = :tag_id
""")


def update_tag(
    connection: Connection, *, owner_user_id: int, tag_id: int, name: str, mute: Mute | None
) -> None:
    """Store a locked tag's name and mute; fails with `is_name_taken` when another tag has it."""
    connection.execute(
        _UPDATE_TAG,
        {
            "owner_user_id": owner_user_id,
            "tag_id": tag_id,
            "name": name,
            "muted_until": muted_until(mute),
        },
    )


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
    """Delete a locked tag, so that it does not show posts to anybody any more.

    A tag that excludes people from posts is hidden instead, and goes on excluding them.
    """
    parameters = {"owner_user_id": owner_user_id, "tag_id": tag_id}
    connection.execute(_END_INCLUSIONS, parameters)
    if connection.execute(_DROP_TAG, parameters).rowcount == 0:
        connection.execute(_HIDE_TAG, parameters)


_MEMBERS_AMONG = text(f"""
    SELECT given.target_user_id FROM user_tags AS given
    WHERE given.owner_user_id = :viewer_id AND given.tag_id = :tag_id
      AND given.target_user_id = ANY (CAST(:target_user_ids AS bigint[]))
      AND {HAS_TAG_OF_VIEWER}
""")


def members_among(
    connection: Connection, *, owner: Viewer, tag_id: int, target_user_ids: Collection[int]
) -> set[int]:
    """Those of the people who have the tag."""
    rows = connection.execute(
        _MEMBERS_AMONG,
        {
            **owner.parameters,
            "tag_id": tag_id,
            "target_user_ids": array_literal(target_user_ids),
        },
    )
    return set(rows.scalars())


_ADD_MEMBERS = text("""
    INSERT INTO user_tags (owner_user_id, tag_id, target_user_id, owner_revision)
    SELECT :owner_user_id, :tag_id, target_user_id, :owner_revision
    FROM unnest(CAST(:target_user_ids AS bigint[])) AS target_user_id
    ORDER BY target_user_id
    ON CONFLICT (owner_user_id, tag_id, target_user_id)
    DO UPDATE SET owner_revision = greatest(user_tags.owner_revision, excluded.owner_revision),
                  created_at = excluded.created_at
""")


def add_members(
    connection: Connection,
    *,
    owner_user_id: int,
    tag_id: int,
    target_user_ids: Collection[int],
    owner_revision: int,
) -> None:
    """Store that people who did not have the tag have it, as of the given revision."""
    connection.execute(
        _ADD_MEMBERS,
        {
            "owner_user_id": owner_user_id,
            "tag_id": tag_id,
            "target_user_ids": array_literal(target_user_ids),
            "owner_revision": owner_revision,
        },
    )


_REMOVE_MEMBERS = text("""
    DELETE FROM user_tags
    WHERE owner_user_id = :owner_user_id AND tag_id = :tag_id
      AND target_user_id = ANY (CAST(:target_user_ids AS bigint[]))
""")


def remove_members(
    connection: Connection, *, owner_user_id: int, tag_id: int, target_user_ids: Sequence[int]
) -> int:
    """How many of the people had the tag or were still kept out by it; neither is so any more."""
    return connection.execute(
        _REMOVE_MEMBERS,
        {
            "owner_user_id": owner_user_id,
            "tag_id": tag_id,
            "target_user_ids": array_literal(target_user_ids),
        },
    ).rowcount


# One row more than there are members tells a tag without members from no tag.
_MEMBER_PAGE = text(f"""
    SELECT member.target_user_id, member.created_at,
           tag.deleted_at IS NOT NULL OR NOT member.has_tag AS is_former
    FROM tags AS tag
    LEFT JOIN LATERAL (
        SELECT given.target_user_id, given.created_at, {HAS_TAG_OF_VIEWER} AS has_tag
        FROM user_tags AS given
        WHERE given.owner_user_id = :viewer_id AND given.tag_id = :tag_id
          AND given.target_user_id > :after_id AND (:with_former OR {HAS_TAG_OF_VIEWER})
        ORDER BY given.target_user_id LIMIT :limit) AS member ON true
    WHERE tag.owner_user_id = :viewer_id AND tag.id = :tag_id AND {is_there(":viewer_id")}
    ORDER BY member.target_user_id
""")


def member_page(
    connection: Connection,
    *,
    owner: Viewer,
    tag_id: int,
    with_former: bool,
    after_id: int,
    limit: int,
) -> list[MemberRow] | None:
    """Up to `limit` people with the tag behind an id, by id; None when there is no such tag."""
    rows = (
        connection.execute(
            _MEMBER_PAGE,
            {
                **owner.parameters,
                "tag_id": tag_id,
                "with_former": with_former,
                "with_deleted": with_former,
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


_TAGS_OF_USER = text(f"""
    SELECT {_TAG_COLUMNS}
    FROM user_tags AS given
    JOIN tags AS tag ON tag.owner_user_id = given.owner_user_id AND tag.id = given.tag_id
    WHERE given.owner_user_id = :viewer_id AND given.target_user_id = :target_user_id
      AND tag.deleted_at IS NULL AND {HAS_TAG_OF_VIEWER}
    ORDER BY tag.id
""")


def tags_of_user(connection: Connection, *, owner: Viewer, target_user_id: int) -> list[TagRow]:
    """The tags of the owner that one person has, by id."""
    rows = connection.execute(_TAGS_OF_USER, {**owner.parameters, "target_user_id": target_user_id})
    return [TagRow(**row) for row in rows.mappings()]
