"""What else can be asked of the graph: states of pairs, lists, mutual connections, counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from graph_service.queries.neighbours import IN_SIGHT, NEIGHBOURS, NEIGHBOURS_IN_SIGHT
from graph_service.queries.users import NO_SHOWN_REVISION
from shared.database.arrays import array_literal


@dataclass(frozen=True, kw_only=True)
class PeerRow:
    """The pair of a user and a peer, and since when the user has blocked the peer.

    While the peer is suspended the user sees of it no more than the user's own block.
    """

    peer_id: int
    status: str | None
    requested_by: int | None
    created_at: datetime | None
    updated_at: datetime | None
    blocked_at: datetime | None
    is_suspended: bool


@dataclass(frozen=True, kw_only=True)
class ListedPeer:
    """One entry of a list, with its position in the list."""

    peer_id: int
    created_at: datetime
    listed_at: datetime
    row_id: int


@dataclass(frozen=True, kw_only=True)
class CountRow:
    """A user's number of connections, and whether the user of the call may know it."""

    user_id: int
    connection_count: int
    may_be_told: bool


# A user's own block is shown; a block by the peer is not, which is why blocks are joined one way.
_PEERS = text("""
    SELECT asked.peer_id, c.status, c.requested_by, c.created_at, c.updated_at,
           b.created_at AS blocked_at, s.user_id IS NOT NULL AS is_suspended,
           (SELECT shown_revision FROM users WHERE user_id = :user_id) AS user_revision
    FROM unnest(CAST(:peer_ids AS bigint[])) WITH ORDINALITY AS asked (peer_id, position)
    LEFT JOIN connections AS c
           ON c.user_a_id = least(asked.peer_id, :user_id)
          AND c.user_b_id = greatest(asked.peer_id, :user_id)
    LEFT JOIN blocks AS b ON b.blocker_id = :user_id AND b.blocked_id = asked.peer_id
    LEFT JOIN suspensions AS s ON s.user_id = asked.peer_id
    ORDER BY asked.position
""")


def peers_at_revision(
    connection: Connection, *, user_id: int, peer_ids: Sequence[int]
) -> tuple[list[PeerRow], int]:
    """Each asked peer as the user sees it, in the order asked, and what the user's revision is."""
    rows = [
        dict(row)
        for row in connection.execute(
            _PEERS, {"user_id": user_id, "peer_ids": array_literal(peer_ids)}
        ).mappings()
    ]
    revisions = [row.pop("user_revision") for row in rows]
    return [PeerRow(**row) for row in rows], revisions[0] or NO_SHOWN_REVISION


# A suspended user is in no list, and is left out before the rows are counted. Users see those that
# they block, suspended or not: the block is their own.
_NOT_SUSPENDED = "NOT EXISTS (SELECT FROM suspensions WHERE user_id = {peer} OFFSET 0)"

_CONNECTION_PAGE = text(f"""
    SELECT CASE WHEN c.user_a_id = :user_id THEN c.user_b_id ELSE c.user_a_id END AS peer_id,
           c.created_at, c.updated_at AS listed_at, c.id AS row_id
    FROM ((SELECT * FROM connections
           WHERE user_a_id = :user_id AND status = 'accepted'
             AND {IN_SIGHT.format(user=":user_id", peer="user_b_id")}
             AND (updated_at, id) < (:before_time, :before_id)
           ORDER BY updated_at DESC, id DESC LIMIT :limit)
          UNION ALL
          (SELECT * FROM connections
           WHERE user_b_id = :user_id AND status = 'accepted'
             AND {IN_SIGHT.format(user=":user_id", peer="user_a_id")}
             AND (updated_at, id) < (:before_time, :before_id)
           ORDER BY updated_at DESC, id DESC LIMIT :limit)) AS c
    ORDER BY c.updated_at DESC, c.id DESC LIMIT :limit
""")

_OUTGOING_PAGE = text(f"""
    SELECT CASE WHEN user_a_id = :user_id THEN user_b_id ELSE user_a_id END AS peer_id,
           created_at, created_at AS listed_at, id AS row_id
    FROM connections
    WHERE requested_by = :user_id AND status IN ('pending', 'withheld')
      AND {_NOT_SUSPENDED.format(peer="addressee_id")}
      AND (created_at, id) < (:before_time, :before_id)
    ORDER BY created_at DESC, id DESC LIMIT :limit
""")

_INCOMING_PAGE = text(f"""
    SELECT requested_by AS peer_id, created_at, created_at AS listed_at, id AS row_id
    FROM connections
    WHERE addressee_id = :user_id AND status = 'pending'
      AND {_NOT_SUSPENDED.format(peer="requested_by")}
      AND (created_at, id) < (:before_time, :before_id)
    ORDER BY created_at DESC, id DESC LIMIT :limit
""")

_BLOCKED_PAGE = text("""
    SELECT blocked_id AS peer_id, created_at, created_at AS listed_at, blocked_id AS row_id
    FROM blocks
    WHERE blocker_id = :user_id AND (created_at, blocked_id) < (:before_time, :before_id)
    ORDER BY created_at DESC, blocked_id DESC LIMIT :limit
""")

_PAGES = {
    "connected": _CONNECTION_PAGE,
    "outgoing": _OUTGOING_PAGE,
    "incoming": _INCOMING_PAGE,
    "blocked": _BLOCKED_PAGE,
}


def peer_page(
    connection: Connection,
    *,
    user_id: int,
    listing: str,
    before_time: datetime,
    before_id: int,
    limit: int,
) -> list[ListedPeer]:
    """Up to `limit` peers of one list before a position, newest first."""
    rows = connection.execute(
        _PAGES[listing],
        {
            "user_id": user_id,
            "before_time": before_time,
            "before_id": before_id,
            "limit": limit,
        },
    )
    return [ListedPeer(**row) for row in rows.mappings()]


_MUTUAL_USER_IDS = text(f"""
    SELECT mine.id
    FROM ({NEIGHBOURS_IN_SIGHT.format(user=":user_id")}) AS mine
    JOIN ({NEIGHBOURS.format(user=":peer_id")}) AS theirs USING (id)
    WHERE mine.id > :after_id
      AND NOT EXISTS (SELECT FROM suspensions WHERE user_id = :peer_id)
      AND NOT EXISTS (SELECT FROM blocks AS b
                      WHERE (b.blocker_id = :user_id AND b.blocked_id = :peer_id)
                         OR (b.blocker_id = :peer_id AND b.blocked_id = :user_id))
    ORDER BY mine.id LIMIT :limit
""")


def mutual_user_ids(
    connection: Connection, *, user_id: int, peer_id: int, after_id: int, limit: int
) -> list[int]:
    """Up to `limit` ids above `after_id` of users connected with both, ascending.

    None where one of the two blocks the other, or the peer is suspended.
    """
    rows = connection.execute(
        _MUTUAL_USER_IDS,
        {"user_id": user_id, "peer_id": peer_id, "after_id": after_id, "limit": limit},
    )
    return list(rows.scalars())


_CONNECTION_COUNTS = text("""
    SELECT asked.user_id,
           CASE WHEN s.user_id IS NULL
                THEN coalesce(u.connection_count - u.suspended_connection_count, 0)
                ELSE 0 END AS connection_count,
           :user_id IN (0, asked.user_id)
           OR s.user_id IS NULL AND EXISTS (SELECT FROM connections AS c
                      WHERE c.user_a_id = least(asked.user_id, :user_id)
                        AND c.user_b_id = greatest(asked.user_id, :user_id)
                        AND c.status = 'accepted') AS may_be_told
    FROM unnest(CAST(:user_ids AS bigint[])) WITH ORDINALITY AS asked (user_id, position)
    LEFT JOIN users AS u ON u.user_id = asked.user_id
    LEFT JOIN suspensions AS s ON s.user_id = asked.user_id
    ORDER BY asked.position
""")


def connection_counts(
    connection: Connection, *, user_id: int, user_ids: Sequence[int]
) -> list[CountRow]:
    """Each asked user's number of connections that are in sight, in the order asked.

    The user may know their own and those of their connections; the user 0 may know all.
    """
    rows = connection.execute(
        _CONNECTION_COUNTS, {"user_id": user_id, "user_ids": array_literal(user_ids)}
    )
    return [CountRow(**row) for row in rows.mappings()]
