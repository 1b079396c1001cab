"""Imports: open requests."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from graph_service.models import PENDING, WITHHELD
from graph_service.queries.imports import moments_literal
from graph_service.queries.statements import message
from shared.database.arrays import array_literal


class NewRequest(NamedTuple):
    """When a request was made, None for now, and whether it is hidden from who was asked."""

    created_at: datetime | None
    is_withheld: bool


_REQUEST_ROOMS = text("""
    SELECT requester.id,
           :most - (SELECT count(*) FROM (SELECT FROM connections
                                          WHERE requested_by = requester.id
                                            AND status IN ('pending', 'withheld')
                                          LIMIT :most) AS counted)
    FROM unnest(CAST(:user_ids AS bigint[])) AS requester (id)
""")


def request_rooms(
    connection: Connection, *, user_ids: Collection[int], max_open_requests: int
) -> dict[int, int]:
    """How many more open requests each of the locked users may have."""
    rows = connection.execute(
        _REQUEST_ROOMS, {"user_ids": array_literal(user_ids), "most": max_open_requests}
    )
    return {user_id: room for user_id, room in rows}  # noqa: C416 -- rows are not tuples to mypy


# A withheld request whose block is gone counts for nothing: see `pairs`.
_INSERT_REQUESTS = """
    INSERT INTO connections AS c
        (user_a_id, user_b_id, status, requested_by, created_at, updated_at)
    SELECT least(requester_id, addressee_id), greatest(requester_id, addressee_id), status,
           requester_id, coalesce(requested_at, now()), coalesce(requested_at, now())
    FROM unnest(CAST(:requester_ids AS bigint[]), CAST(:addressee_ids AS bigint[]),
                CAST(:requested_at AS timestamptz[]), CAST(:statuses AS text[]))
         AS imported (requester_id, addressee_id, requested_at, status)
    ORDER BY 1, 2
    ON CONFLICT (user_a_id, user_b_id) DO UPDATE
    SET status = excluded.status, requested_by = excluded.requested_by,
        created_at = excluded.created_at, updated_at = excluded.updated_at
    WHERE c.status = 'withheld'
"""

_RECORD_REQUESTS = """
    INSERT INTO connection_events (kind, actor_id, peer_id, actor_revision, peer_revision)
    SELECT 'requested', requester_id, addressee_id, actor.revision, peer.revision
    FROM unnest(CAST(:requester_ids AS bigint[]), CAST(:addressee_ids AS bigint[]),
                CAST(:statuses AS text[])) AS event (requester_id, addressee_id, status)
    JOIN users AS actor ON actor.user_id = requester_id
    JOIN users AS peer ON peer.user_id = addressee_id
    WHERE status = 'pending'
"""


def import_requests(
    connection: Connection, *, requests: Mapping[tuple[int, int], NewRequest]
) -> None:
    """Store requests by requester and addressee, who are locked, and record those that are shown.

    Those who read the events would tell of the others.
    """
    connection.execute(
        message(_INSERT_REQUESTS, _RECORD_REQUESTS),
        {
            "requester_ids": array_literal(requester_id for requester_id, _ in requests),
            "addressee_ids": array_literal(addressee_id for _, addressee_id in requests),
            "requested_at": moments_literal(request.created_at for request in requests.values()),
            "statuses": [WITHHELD if each.is_withheld else PENDING for each in requests.values()],
        },
    )
