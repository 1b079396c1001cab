"""Photos on their way into posts and out of the object store."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, text

from shared.database.arrays import array_literal

ObjectName = tuple[int, str]
"""An owner's id and the key of one of their objects."""


class NewPhoto(NamedTuple):
    """A photo that is stored under its final key, and its size in pixels as it is shown.

    The size is 0 if it is not known, and `alt_text` is empty if the photo has no description.
    """

    object_key: str
    width: int
    height: int
    alt_text: str = ""


class PhotoDraft(NamedTuple):
    """A photo that a post is to show: whose key it is, and how the request calls this key."""

    key: str
    alt_text: str
    field: str


_INSERT_UPLOADS = text("""
    INSERT INTO photo_uploads (owner_user_id, object_key, content_type)
    SELECT :owner_user_id, object_key, content_type
    FROM unnest(CAST(:object_keys AS text[]), CAST(:content_types AS text[]))
         AS upload (object_key, content_type)
""")


def insert_uploads(
    connection: Connection, *, owner_user_id: int, content_types: Mapping[str, str]
) -> None:
    """Store that the owner may upload these keys, each of its content type."""
    connection.execute(
        _INSERT_UPLOADS,
        {
            "owner_user_id": owner_user_id,
            "object_keys": list(content_types),
            "content_types": list(content_types.values()),
        },
    )


_UPLOADS = text("""
    SELECT object_key, content_type FROM photo_uploads
    WHERE owner_user_id = :owner_user_id AND object_key = ANY (CAST(:object_keys AS text[]))
""")


def uploads(
    connection: Connection, *, owner_user_id: int, object_keys: Sequence[str]
) -> dict[str, str]:
    """The content type of each of those keys that the owner may upload and no post has used."""
    rows = connection.execute(
        _UPLOADS, {"owner_user_id": owner_user_id, "object_keys": list(object_keys)}
    )
    return {object_key: content_type for object_key, content_type in rows}  # noqa: C416 -- rows are not tuples to mypy


_TAKE_UPLOADS = text("""
    DELETE FROM photo_uploads
    WHERE owner_user_id = :owner_user_id AND object_key = ANY (CAST(:object_keys AS text[]))
    RETURNING object_key, created_at
""")


def take_uploads(
    connection: Connection, *, owner_user_id: int, object_keys: Sequence[str]
) -> dict[str, datetime]:
    """When the unused ones of these keys were permitted; no other post can use them now."""
    rows = connection.execute(
        _TAKE_UPLOADS, {"owner_user_id": owner_user_id, "object_keys": list(object_keys)}
    )
    return {object_key: created_at for object_key, created_at in rows}  # noqa: C416 -- rows are not tuples to mypy


_NOTE_OBJECTS = text("""
    INSERT INTO object_removals (owner_user_id, object_key, due_at)
    SELECT :owner_user_id, object_key, now() + CAST(:due_after AS interval)
    FROM unnest(CAST(:object_keys AS text[])) AS object_key
""")


def note_objects(
    connection: Connection, *, owner_user_id: int, object_keys: Sequence[str], due_after: timedelta
) -> None:
    """Store that these objects, which are to be made, will be removed unless a post takes them."""
    connection.execute(
        _NOTE_OBJECTS,
        {
            "owner_user_id": owner_user_id,
            "object_keys": list(object_keys),
            "due_after": due_after,
        },
    )


# One that was claimed may be gone already.
_KEEP_OBJECTS = text("""
    DELETE FROM object_removals
    WHERE owner_user_id = :owner_user_id AND object_key = ANY (CAST(:object_keys AS text[]))
      AND attempts = 0
""")


def keep_objects(connection: Connection, *, owner_user_id: int, object_keys: Sequence[str]) -> int:
    """How many of the noted objects are not to be removed any more, and are certain to be there."""
    return connection.execute(
        _KEEP_OBJECTS, {"owner_user_id": owner_user_id, "object_keys": list(object_keys)}
    ).rowcount


# Now, and once more when no upload can bring the object back.
_REMOVE_UPLOADS = text("""
    INSERT INTO object_removals (owner_user_id, object_key, again_at)
    SELECT :owner_user_id, object_key, permitted_at + CAST(:valid_for AS interval)
    FROM unnest(CAST(:object_keys AS text[]), CAST(:permitted_at AS timestamptz[]))
         AS permitted (object_key, permitted_at)
""")


def remove_uploads(
    connection: Connection,
    *,
    owner_user_id: int,
    permitted_at: Mapping[str, datetime],
    valid_for: timedelta,
) -> None:
    """Store that what was uploaded under these keys is to be removed, however late it arrives."""
    if permitted_at:
        connection.execute(
            _REMOVE_UPLOADS,
            {
                "owner_user_id": owner_user_id,
                "valid_for": valid_for,
                "object_keys": list(permitted_at),
                "permitted_at": list(permitted_at.values()),
            },
        )


# Of two that expire the same, one waits and then finds them gone.
_EXPIRE_UPLOADS = text("""
    DELETE FROM photo_uploads AS upload
    USING (SELECT owner_user_id, object_key FROM photo_uploads
           WHERE created_at < now() - CAST(:age AS interval)
           ORDER BY created_at LIMIT :limit) AS old
    WHERE upload.owner_user_id = old.owner_user_id AND upload.object_key = old.object_key
    RETURNING upload.owner_user_id, upload.object_key
""")


def expire_uploads(connection: Connection, *, age: timedelta, limit: int) -> int:
    """How many uploads were older than `age`; they are to be removed now."""
    expired = connection.execute(_EXPIRE_UPLOADS, {"age": age, "limit": limit}).all()
    insert_removals(connection, objects=[(owner_user_id, key) for owner_user_id, key in expired])
    return len(expired)


_INSERT_REMOVALS = text("""
    INSERT INTO object_removals (owner_user_id, object_key)
    SELECT owner_user_id, object_key
    FROM unnest(CAST(:owner_user_ids AS bigint[]), CAST(:object_keys AS text[]))
         AS nobodys (owner_user_id, object_key)
""")


def insert_removals(connection: Connection, *, objects: Collection[ObjectName]) -> None:
    """Store that these objects have no owner any more and are to be removed from the store."""
    if objects:
        connection.execute(_INSERT_REMOVALS, _object_lists(objects))


# Claiming a removal postpones its next attempt, for longer each time, so that no transaction is
# open while the object store is asked, and a process that dies leaves nothing undone. Of two
# processes that claim the same removal, one waits, and then finds it postponed. In UTC, because
# Citus refuses expressions here that depend on a session's time zone.
_CLAIM_REMOVALS = text("""
    UPDATE object_removals AS removal
    SET attempts = removal.attempts + 1,
        due_at = (now() AT TIME ZONE 'UTC'
                  + least(interval '1 hour', interval '15 seconds' * 2 ^ removal.attempts))
                 AT TIME ZONE 'UTC'
    FROM (SELECT owner_user_id, object_key FROM object_removals
          WHERE due_at <= now() ORDER BY due_at LIMIT :limit) AS due
    WHERE removal.owner_user_id = due.owner_user_id AND removal.object_key = due.object_key
      AND removal.due_at <= now()
    RETURNING removal.owner_user_id, removal.object_key
""")


def claim_removals(connection: Connection, *, limit: int) -> list[ObjectName]:
    """Up to `limit` objects that are due to be removed; no other process removes them now."""
    return [
        (owner_user_id, object_key)
        for owner_user_id, object_key in connection.execute(_CLAIM_REMOVALS, {"limit": limit})
    ]


_FINISH_REMOVALS = text("""
    DELETE FROM object_removals AS removal
    USING unnest(CAST(:owner_user_ids AS bigint[]), CAST(:object_keys AS text[]))
          AS gone (owner_user_id, object_key)
    WHERE removal.owner_user_id = gone.owner_user_id AND removal.object_key = gone.object_key
      AND (removal.again_at IS NULL OR removal.again_at <= now())
""")

_POSTPONE_REMOVALS = text("""
    UPDATE object_removals AS removal SET due_at = removal.again_at, again_at = NULL, attempts = 0
    FROM unnest(CAST(:owner_user_ids AS bigint[]), CAST(:object_keys AS text[]))
         AS gone (owner_user_id, object_key)
    WHERE removal.owner_user_id = gone.owner_user_id AND removal.object_key = gone.object_key
      AND removal.again_at > now()
""")


def finish_removals(connection: Connection, *, objects: Collection[ObjectName]) -> None:
    """Store that the objects are gone; those that may come back stay noted."""
    names = _object_lists(objects)
    connection.execute(_FINISH_REMOVALS, names)
    connection.execute(_POSTPONE_REMOVALS, names)


def _object_lists(objects: Collection[ObjectName]) -> dict[str, object]:
    return {
        "owner_user_ids": array_literal(owner_user_id for owner_user_id, _ in objects),
        "object_keys": [object_key for _, object_key in objects],
    }
