"""Exports: every connected pair, in the order of pairs, and the peers of single users."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from graph_service.queries.lookups import PeerRow


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """A pair that is connected."""

    user_a_id: int
    user_b_id: int
    status: str
    requested_by: int
    created_at: datetime
    updated_at: datetime


_EXPORT_PAGE = text("""
    SELECT user_a_id, user_b_id, status, requested_by, created_at, updated_at
    FROM connections
    WHERE status = 'accepted' AND (user_a_id, user_b_id) > (:after_a, :after_b)
    ORDER BY user_a_id, user_b_id LIMIT :limit
""")


def export_page(connection: Connection, *, after: tuple[int, int], limit: int) -> list[PairRow]:
    """Up to `limit` connected pairs behind a pair, in the order of pairs."""
    rows = connection.execute(
        _EXPORT_PAGE, {"after_a": after[0], "after_b": after[1], "limit": limit}
    )
    return [PairRow(**row) for row in rows.mappings()]


def _side(peer: str, user: str, states: str) -> str:
    """The pairs of one side of :user_id in some states, up to :limit in the order of an index."""
    return f"""
        (SELECT {peer} AS peer_id, status, requested_by, created_at, updated_at,
                CAST(NULL AS timestamptz) AS blocked_at, false AS is_suspended
         FROM connections
         WHERE {user} = :user_id AND {peer} > :after_id AND {states}
           AND (status <> 'withheld' OR requested_by = :user_id)
           AND NOT EXISTS (SELECT FROM suspensions AS s WHERE s.user_id = {peer} OFFSET 0)
         ORDER BY {peer} LIMIT :limit)"""


_OPEN = "status IN ('pending', 'withheld')"

# A part for each index that has the pairs of a user by the other's id: see `models`. A block by the
# user goes before a request that is withheld from them.
_PEERS_OF_USER = text(f"""
    SELECT * FROM (
        {_side("user_b_id", "user_a_id", "true")}
        UNION ALL
        {_side("user_a_id", "user_b_id", "status = 'accepted'")}
        UNION ALL
        {_side("user_a_id", "user_b_id", _OPEN)}
        UNION ALL
        (SELECT blocked_id, NULL, NULL, NULL, NULL, created_at, false
         FROM blocks
         WHERE blocker_id = :user_id AND blocked_id > :after_id
         ORDER BY blocked_id LIMIT :limit)
    ) AS peer
    ORDER BY peer_id LIMIT :limit
""")


def peers_of_user(
    connection: Connection, *, user_id: int, after_id: int, limit: int
) -> list[PeerRow]:
    """Up to `limit` peers behind an id with whom the user has a connection, request or own block.

    By id, each as the user sees them.
    """
    rows = connection.execute(
        _PEERS_OF_USER, {"user_id": user_id, "after_id": after_id, "limit": limit}
    )
    return [PeerRow(**row) for row in rows.mappings()]
