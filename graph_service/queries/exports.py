"""Exports: every connected pair, in the order of pairs."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text


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
