"""Tags and their members that come from elsewhere."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Final

from sqlalchemy import Connection, TextClause, text

from feed_service.queries.tags import Mute, muted_until
from shared.database.arrays import array_literal

ExternalTag = tuple[int, str]
"""An owner's id and an importer's name for one of their tags."""


@dataclass(frozen=True, kw_only=True)
class ImportedTag:
    """A tag from elsewhere; deleted ones come with the posts that exclude by them."""

    owner_id: int
    external_id: str
    name: str
    created_at: datetime
    deleted_at: datetime | None
    mute: Mute | None

    @property
    def key(self) -> ExternalTag:
        """What it goes by."""
        return self.owner_id, self.external_id


@dataclass(frozen=True, kw_only=True)
class ImportedMember:
    """A person to whom an imported tag was given."""

    owner_id: int
    tag_external_id: str
    target_user_id: int
    created_at: datetime
    is_former: bool

    @property
    def tag(self) -> ExternalTag:
        """What their tag goes by."""
        return self.owner_id, self.tag_external_id


@dataclass(frozen=True, kw_only=True)
class FoundTag:
    """An imported tag as it is here."""

    id: int
    is_deleted: bool


@dataclass(frozen=True, kw_only=True)
class NewMember:
    """A person who gets a tag, with the owner's revision; that is 0 for former members."""

    owner_id: int
    tag_id: int
    target_user_id: int
    owner_revision: int
    created_at: datetime


# In the order of the ids, as everybody does who locks several.
_LOCK_OWNERS = text("""
    SELECT pg_advisory_xact_lock(hashtextextended('tags', owner_id))
    FROM unnest(CAST(:owner_ids AS bigint[])) AS owner_id
""")

_COUNT_TAGS = text("""
    SELECT owner_user_id, count(*) FROM tags
    WHERE owner_user_id = ANY (CAST(:owner_ids AS bigint[])) AND deleted_at IS NULL
    GROUP BY owner_user_id
""")


def lock_and_count_tags_of_many(
    connection: Connection, *, owner_ids: Collection[int]
) -> dict[int, int]:
    """How many tags each owner of tags has; locked until the transaction ends."""
    parameters = {"owner_ids": array_literal(sorted(owner_ids))}
    connection.execute(_LOCK_OWNERS, parameters)
    rows = connection.execute(_COUNT_TAGS, parameters)
    return {owner_id: count for owner_id, count in rows}  # noqa: C416 -- rows are not tuples to mypy


NAMED_EXTERNALLY: Final = """
    unnest(CAST(:owner_ids AS bigint[]), CAST(:external_ids AS text[]))
        AS named (owner_id, external_id)"""
"""The imported tags that a statement is asked for, as rows."""

_FOUND = "tag.owner_user_id, tag.external_id, tag.id, tag.deleted_at IS NOT NULL"

# A deleted tag without posts has another day to wait for them.
_IMPORTED_TAGS = text(f"""
    UPDATE tags AS tag SET imported_at = now() FROM {NAMED_EXTERNALLY}
    WHERE tag.owner_user_id = named.owner_id AND tag.external_id = named.external_id
    RETURNING {_FOUND}
""")

_LOCK_IMPORTED_TAGS = text(f"""
    SELECT {_FOUND}
    FROM {NAMED_EXTERNALLY}
    JOIN tags AS tag
      ON tag.owner_user_id = named.owner_id AND tag.external_id = named.external_id
    ORDER BY tag.owner_user_id, tag.id
    FOR SHARE OF tag
""")


def imported_tags(
    connection: Connection, *, keys: Collection[ExternalTag]
) -> dict[ExternalTag, FoundTag]:
    """Those of the tags that were imported before; they count as imported now."""
    return tags_found_by(connection, _IMPORTED_TAGS, keys=keys)


def lock_imported_tags(
    connection: Connection, *, keys: Collection[ExternalTag]
) -> dict[ExternalTag, FoundTag]:
    """Those of the tags that were imported; they stay as they are until the transaction ends."""
    return tags_found_by(connection, _LOCK_IMPORTED_TAGS, keys=keys)


def tags_found_by(
    connection: Connection, statement: TextClause, *, keys: Collection[ExternalTag]
) -> dict[ExternalTag, FoundTag]:
    """Those of the tags that a statement has found in its own way."""
    if not keys:
        return {}
    rows = connection.execute(
        statement,
        {
            "owner_ids": array_literal(owner_id for owner_id, _ in keys),
            "external_ids": [external_id for _, external_id in keys],
        },
    )
    return {
        (owner_id, external_id): FoundTag(id=tag_id, is_deleted=is_deleted)
        for owner_id, external_id, tag_id, is_deleted in rows
    }


_NAMES: Final = """
    unnest(CAST(:owner_ids AS bigint[]), CAST(:names AS text[])) WITH ORDINALITY
        AS named (owner_id, name, position)"""
# Which collation there is depends on the server, so that the index alone says how names compare.
_COLLATION = text("""
    SELECT quote_ident(known.collname) FROM pg_index AS named
    JOIN pg_collation AS known ON known.oid = ANY (named.indcollation)
    WHERE named.indexrelid = CAST('uq_tag_name' AS regclass)
""")


@cache
def _same_names(collation: str) -> tuple[TextClause, TextClause]:
    """The statements that find names of earlier ones and of stored tags, as uq_tag_name has it."""
    same = f"lower({{}} COLLATE {collation})"
    repeated = text(f"""
    SELECT position
    FROM (SELECT position, row_number() OVER (
              PARTITION BY owner_id, {same.format("name")} ORDER BY position) AS number
          FROM {_NAMES}) AS numbered
    WHERE number > 1
""")
    taken = text(f"""
    SELECT named.position FROM {_NAMES}
    JOIN tags AS tag ON tag.owner_user_id = named.owner_id AND tag.deleted_at IS NULL
                    AND {same.format("tag.name")} = {same.format("named.name")}
""")
    return repeated, taken


def taken_names(connection: Connection, *, tags: Sequence[ImportedTag]) -> set[int]:
    """The indexes of tags whose name an earlier one of them has, or another tag of the owner."""
    parameters = {
        "owner_ids": array_literal(tag.owner_id for tag in tags),
        "names": [tag.name for tag in tags],
    }
    collation = connection.execute(_COLLATION).scalar_one()
    found = (connection.execute(each, parameters) for each in _same_names(collation))
    return {position - 1 for rows in found for position in rows.scalars()}


_INSERT_TAGS = text("""
    INSERT INTO tags
        (owner_user_id, external_id, name, created_at, deleted_at, muted_until, imported_at)
    SELECT owner_id, external_id, name, created_at, deleted_at, muted_until, now()
    FROM unnest(CAST(:owner_ids AS bigint[]), CAST(:external_ids AS text[]),
                CAST(:names AS text[]), CAST(:created_at AS timestamptz[]),
                CAST(:deleted_at AS timestamptz[]), CAST(:muted_until AS timestamptz[]))
         WITH ORDINALITY AS imported
             (owner_id, external_id, name, created_at, deleted_at, muted_until, position)
    ORDER BY owner_id, position
""")


def insert_tags(connection: Connection, *, tags: Sequence[ImportedTag]) -> None:
    """Store new tags; fails with `tags.is_name_taken` when an owner has one of the same name."""
    if tags:
        connection.execute(
            _INSERT_TAGS,
            {
                "owner_ids": array_literal(tag.owner_id for tag in tags),
                "external_ids": [tag.external_id for tag in tags],
                "names": [tag.name for tag in tags],
                "created_at": _moments(tag.created_at for tag in tags),
                "deleted_at": _moments(tag.deleted_at for tag in tags),
                "muted_until": [str(muted_until(tag.mute)) if tag.mute else None for tag in tags],
            },
        )


# What an owner has done since is not undone by sending a message again.
_INSERT_MEMBERS = text("""
    INSERT INTO user_tags (owner_user_id, tag_id, target_user_id, owner_revision, created_at)
    SELECT owner_id, tag_id, target_user_id, owner_revision, created_at
    FROM unnest(CAST(:owner_ids AS bigint[]), CAST(:tag_ids AS bigint[]),
                CAST(:target_user_ids AS bigint[]), CAST(:owner_revisions AS bigint[]),
                CAST(:created_at AS timestamptz[]))
         AS imported (owner_id, tag_id, target_user_id, owner_revision, created_at)
    ORDER BY owner_id, tag_id, target_user_id
    ON CONFLICT (owner_user_id, tag_id, target_user_id) DO NOTHING
    RETURNING tag_id, target_user_id
""")


def insert_members(connection: Connection, *, members: Sequence[NewMember]) -> set[tuple[int, int]]:
    """The tags and people of those members that were stored, for they had no row yet."""
    if not members:
        return set()
    rows = connection.execute(
        _INSERT_MEMBERS,
        {
            "owner_ids": array_literal(member.owner_id for member in members),
            "tag_ids": array_literal(member.tag_id for member in members),
            "target_user_ids": array_literal(member.target_user_id for member in members),
            "owner_revisions": array_literal(member.owner_revision for member in members),
            "created_at": _moments(member.created_at for member in members),
        },
    )
    return {(tag_id, target_user_id) for tag_id, target_user_id in rows}


def _moments(moments: Iterable[datetime | None]) -> list[str | None]:
    return [None if moment is None else moment.isoformat() for moment in moments]
