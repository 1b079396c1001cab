"""Imports: blocks, and what they end."""

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime
from itertools import chain

from sqlalchemy import Connection, text

from graph_service.queries.imports import moments_literal, pair_literals, with_suspended
from graph_service.queries.statements import message
from graph_service.queries.users import SHOWN_STEP, amount_literals
from shared.database.arrays import array_literal

_BLOCK_ROOMS = text("""
    SELECT blocker.id,
           :max_blocks - (SELECT count(*) FROM (SELECT FROM blocks WHERE blocker_id = blocker.id
                                                LIMIT :max_blocks) AS counted)
    FROM unnest(CAST(:user_ids AS bigint[])) AS blocker (id)
""")


def block_rooms(
    connection: Connection, *, user_ids: Collection[int], max_blocks: int
) -> dict[int, int]:
    """How many more users each of the locked users may block."""
    rows = connection.execute(
        _BLOCK_ROOMS, {"user_ids": array_literal(user_ids), "max_blocks": max_blocks}
    )
    return {user_id: room for user_id, room in rows}  # noqa: C416 -- rows are not tuples to mypy


_INSERT_BLOCKS = """
    INSERT INTO blocks (blocker_id, blocked_id, created_at)
    SELECT blocker_id, blocked_id, coalesce(blocked_at, now())
    FROM unnest(CAST(:blocker_ids AS bigint[]), CAST(:blocked_ids AS bigint[]),
                CAST(:blocked_at AS timestamptz[])) AS imported (blocker_id, blocked_id, blocked_at)
    ORDER BY blocker_id, blocked_id
"""

# The other's request stays theirs, and is not shown: whether it came before the block or after it,
# in this import or another, is not known.
_END_PAIRS = """
    WITH imported AS (
        SELECT least(blocker_id, blocked_id) AS a, greatest(blocker_id, blocked_id) AS b, blocker_id
        FROM unnest(CAST(:blocker_ids AS bigint[]), CAST(:blocked_ids AS bigint[]))
             AS imported (blocker_id, blocked_id)
    )
    DELETE FROM connections AS c USING imported
    WHERE c.user_a_id = imported.a AND c.user_b_id = imported.b
      AND (c.status = 'accepted' OR c.requested_by = imported.blocker_id)
"""

_WITHHOLD_REQUESTS = """
    WITH imported AS (
        SELECT least(blocker_id, blocked_id) AS a, greatest(blocker_id, blocked_id) AS b, blocked_id
        FROM unnest(CAST(:blocker_ids AS bigint[]), CAST(:blocked_ids AS bigint[]))
             AS imported (blocker_id, blocked_id)
    )
    UPDATE connections AS c SET status = 'withheld' FROM imported
    WHERE c.user_a_id = imported.a AND c.user_b_id = imported.b
      AND c.status = 'pending' AND c.requested_by = imported.blocked_id
"""

_COUNT_ENDED = f"""
    UPDATE users AS u
    SET connection_count = u.connection_count + change.amount, revision = :revision,
        suspended_connection_count = u.suspended_connection_count + change.suspended_amount,
        shown_revision = u.shown_revision
            + CASE WHEN change.amount = change.suspended_amount THEN 0 ELSE {SHOWN_STEP} END
    FROM unnest(CAST(:user_ids AS bigint[]), CAST(:amounts AS bigint[]),
                CAST(:suspended_amounts AS bigint[]))
         AS change (user_id, amount, suspended_amount)
    WHERE u.user_id = change.user_id
"""

_RECORD_ENDINGS = """
    INSERT INTO endings (user_a_id, user_b_id, user_a_revision, user_b_revision)
    SELECT a, b, :revision, :revision
    FROM unnest(CAST(:user_a_ids AS bigint[]), CAST(:user_b_ids AS bigint[])) AS ended (a, b)
    ORDER BY a, b
    ON CONFLICT (user_a_id, user_b_id) DO UPDATE
    SET user_a_revision = excluded.user_a_revision,
        user_b_revision = excluded.user_b_revision,
        ended_at = excluded.ended_at
"""

_RECORD_BLOCKS = """
    INSERT INTO connection_events (kind, actor_id, peer_id, actor_revision, peer_revision)
    SELECT 'blocked', blocker_id, blocked_id, :revision, :revision
    FROM unnest(CAST(:blocker_ids AS bigint[]), CAST(:blocked_ids AS bigint[]))
         AS event (blocker_id, blocked_id)
"""


def import_blocks(
    connection: Connection,
    *,
    blocked_at: Mapping[tuple[int, int], datetime | None],
    ended: Collection[tuple[int, int]],
    suspended: Collection[int],
    revision: int,
) -> None:
    """Store blocks by blocker and blocked, end what is between the two, and record it.

    All users are locked and get the revision. `ended` are the pairs that are connected, `suspended`
    the users who are suspended.
    """
    amounts = Counter(dict.fromkeys(chain.from_iterable(blocked_at), 0))
    amounts.subtract(chain.from_iterable(ended))
    ended_with_suspended = {
        user_id: -number for user_id, number in with_suspended(ended, suspended).items()
    }
    connection.execute(
        message(
            _INSERT_BLOCKS,
            _END_PAIRS,
            _WITHHOLD_REQUESTS,
            _COUNT_ENDED,
            _RECORD_ENDINGS,
            _RECORD_BLOCKS,
        ),
        {
            **amount_literals(amounts, ended_with_suspended),
            **pair_literals(ended),
            "blocker_ids": array_literal(blocker_id for blocker_id, _ in blocked_at),
            "blocked_ids": array_literal(blocked_id for _, blocked_id in blocked_at),
            "blocked_at": moments_literal(blocked_at.values()),
            "revision": revision,
        },
    )
