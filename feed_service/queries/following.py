"""How far the changes of the graph have been followed, and the tags that end by them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from feed_service.viewers import Viewer
from shared.database.arrays import array_literal


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The end of a connection as one side sees it: a user, their peer, the user's revision then."""

    owner_user_id: int
    target_user_id: int
    owner_revision: int


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A user who has given tags, with their connections as of a revision.

    Tags that were given up to this revision are compared with the connections.
    """

    revision: int
    viewer: Viewer


_CURSOR = text("SELECT cursor FROM followed WHERE stream = :stream")


def cursor(connection: Connection, *, stream: str) -> str | None:
    """The cursor up to which the stream has been followed; None when it never was."""
    found: str | None = connection.execute(_CURSOR, {"stream": stream}).scalar()
    return found


_MOVE_CURSOR = text("""
    INSERT INTO followed (stream, cursor) VALUES (:stream, :cursor)
    ON CONFLICT (stream) DO UPDATE SET cursor = excluded.cursor, updated_at = now()
""")


def move_cursor(connection: Connection, *, stream: str, cursor: str) -> None:
    """Store that the stream has been followed up to this cursor."""
    connection.execute(_MOVE_CURSOR, {"stream": stream, "cursor": cursor})


_FORGET_CURSOR = text("DELETE FROM followed WHERE stream = :stream")


def forget_cursor(connection: Connection, *, stream: str) -> None:
    """Delete the cursor, so that the stream counts as never followed."""
    connection.execute(_FORGET_CURSOR, {"stream": stream})


# A tag of a later connection has a higher revision: events that come late, or twice, do it no harm.
_END_TAGS = text("""
    UPDATE user_tags AS given SET owner_revision = 0
    FROM unnest(CAST(:owner_ids AS bigint[]), CAST(:target_ids AS bigint[]),
                 CAST(:revisions AS bigint[]))
          AS ended (owner_user_id, target_user_id, owner_revision)
    WHERE given.owner_user_id = ended.owner_user_id
      AND given.target_user_id = ended.target_user_id
      AND given.owner_revision BETWEEN 1 AND ended.owner_revision
""")


def end_tags(connection: Connection, *, endings: Collection[Ending]) -> int:
    """How many tags ended with these connections."""
    return connection.execute(
        _END_TAGS,
        {
            "owner_ids": array_literal(ending.owner_user_id for ending in endings),
            "target_ids": array_literal(ending.target_user_id for ending in endings),
            "revisions": array_literal(ending.owner_revision for ending in endings),
        },
    ).rowcount


# Every table that holds rows of a user or, for tags, about one. Each index is walked from one id to
# the next, so a batch reads the rows of about `limit` users in each.
_USERS = {
    "posts": "author_id",
    "comments": "author_id",
    "tags": "owner_user_id",
    "user_tags": "target_user_id",
    "photo_uploads": "owner_user_id",
    "read_positions": "user_id",
    "frozen_digests": "user_id",
    "digest_subscriptions": "user_id",
}
_USER_IDS = text(
    "SELECT id FROM ("
    + " UNION ".join(
        f"(SELECT DISTINCT {column} AS id FROM {table} WHERE {column} > :after_id"
        " ORDER BY id LIMIT :limit)"
        for table, column in _USERS.items()
    )
    + ") AS known ORDER BY id LIMIT :limit"
)


def user_ids(connection: Connection, *, after_id: int, limit: int) -> list[int]:
    """Up to `limit` users with stored data after an id, by id."""
    rows = connection.execute(_USER_IDS, {"after_id": after_id, "limit": limit})
    return list(rows.scalars())


_NEWEST_TAGS = text("""
    SELECT owner_user_id, max(owner_revision) AS newest FROM user_tags
    WHERE owner_user_id = ANY (CAST(:owner_ids AS bigint[]))
    GROUP BY owner_user_id
""")


def newest_tags(connection: Connection, *, owner_ids: Collection[int]) -> dict[int, int]:
    """The highest revision at which each owner has given a tag; 0 if all of them have ended."""
    rows = connection.execute(_NEWEST_TAGS, {"owner_ids": array_literal(owner_ids)})
    return {row.owner_user_id: row.newest for row in rows}


# The rule of visibility.tag_holds for many owners at once, and that there is a connection at all.
_END_PAST_TAGS = text("""
    WITH owner AS (
        SELECT id, CAST(connected_ids AS bigint[]) AS connected_ids,
               CAST(reconnected_ids AS bigint[]) AS reconnected_ids,
               CAST(own_revisions AS bigint[]) AS own_revisions
        FROM unnest(CAST(:owner_ids AS bigint[]), CAST(:connected_ids AS text[]),
                    CAST(:reconnected_ids AS text[]), CAST(:own_revisions AS text[]))
             AS given (id, connected_ids, reconnected_ids, own_revisions)
    ),
    connected AS (
        SELECT owner.id AS owner_id, peer.id AS peer_id
        FROM owner CROSS JOIN unnest(owner.connected_ids) AS peer (id)
    ),
    reconnected AS (
        SELECT owner.id AS owner_id, peer.id AS peer_id, peer.revision
        FROM owner CROSS JOIN unnest(owner.reconnected_ids, owner.own_revisions)
             AS peer (id, revision)
    )
    UPDATE user_tags AS given SET owner_revision = 0
    FROM unnest(CAST(:owner_ids AS bigint[]), CAST(:revisions AS bigint[])) AS asked (id, revision)
    WHERE given.owner_user_id = asked.id AND given.owner_revision BETWEEN 1 AND asked.revision
      AND NOT EXISTS (
          SELECT FROM connected LEFT JOIN reconnected USING (owner_id, peer_id)
          WHERE owner_id = given.owner_user_id AND peer_id = given.target_user_id
            AND given.owner_revision > coalesce(reconnected.revision, 0))
""")


def end_past_tags(connection: Connection, *, owners: Sequence[Owner]) -> int:
    """How many tags of these owners ended with a connection that was over at their revisions."""
    viewers = [owner.viewer for owner in owners]
    return connection.execute(
        _END_PAST_TAGS,
        {
            "owner_ids": array_literal(viewer.user_id for viewer in viewers),
            "revisions": array_literal(owner.revision for owner in owners),
            "connected_ids": [viewer.connected_ids for viewer in viewers],
            "reconnected_ids": [viewer.reconnected_ids for viewer in viewers],
            "own_revisions": [viewer.own_revisions for viewer in viewers],
        },
    ).rowcount
