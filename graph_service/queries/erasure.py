"""Erasing a user."""

from sqlalchemy import Connection, TextClause, text

from graph_service.queries.fences import FENCED, READ_FENCED_BY
from graph_service.queries.statements import message
from graph_service.queries.users import NEXT_REVISION, next_revision

_OPPONENT_IDS = text("""
    SELECT blocked_id FROM blocks WHERE blocker_id = :user_id
    UNION
    SELECT blocker_id FROM blocks WHERE blocked_id = :user_id
""")


def opponent_ids(connection: Connection, *, user_id: int) -> set[int]:
    """The ids of those who block the user or are blocked by them, as of this statement."""
    return set(connection.execute(_OPPONENT_IDS, {"user_id": user_id}).scalars())


# With a revision above all that the erased person had, and above that of an earlier erasure.
_RECORD_ERASURE = text(f"""
    WITH erased AS (
        INSERT INTO erasures AS e (user_id, revision)
        SELECT user_id, {NEXT_REVISION} FROM users AS u WHERE user_id = :user_id
        ON CONFLICT (user_id) DO UPDATE
        SET revision = greatest(excluded.revision, {next_revision("e.revision")}),
            erased_at = excluded.erased_at
        RETURNING user_id, revision
    )
    INSERT INTO connection_events (kind, actor_id, actor_revision)
    SELECT 'user_deleted', user_id, revision FROM erased
""")


def _forget_events(column: str) -> TextClause:
    return text(f"""
        WITH forgotten AS (
            DELETE FROM connection_events WHERE {column} = :user_id RETURNING seq, occurred_at
        )
        INSERT INTO erased_events (seq, occurred_at) SELECT seq, occurred_at FROM forgotten
    """)


_ERASE = [
    text("DELETE FROM connections WHERE user_a_id = :user_id"),
    # The indexes by the higher id hold the rows of some states each.
    text("DELETE FROM connections WHERE user_b_id = :user_id AND status = 'accepted'"),
    text(
        "DELETE FROM connections WHERE user_b_id = :user_id AND status IN ('pending', 'withheld')"
    ),
    text("DELETE FROM endings WHERE user_a_id = :user_id"),
    text("DELETE FROM endings WHERE user_b_id = :user_id"),
    text("DELETE FROM blocks WHERE blocker_id = :user_id"),
    text("DELETE FROM blocks WHERE blocked_id = :user_id"),
    text("DELETE FROM declines WHERE requester_id = :user_id"),
    text("DELETE FROM declines WHERE decliner_id = :user_id"),
    _forget_events("actor_id"),
    _forget_events("peer_id"),
    _RECORD_ERASURE,
    # The suspension stays: what others have of the erased person, and erase later, must not come
    # into sight until then.
    text("UPDATE suspensions SET reason = '' WHERE user_id = :user_id AND reason <> ''"),
]
_DELETE_USER = "DELETE FROM users WHERE user_id = :user_id"


def erase_user(connection: Connection, *, user_id: int) -> str | None:
    """Store that the locked user was erased; no other row names them, but for a suspension.

    Returns who has to be told of it; see `queries.fences`.
    """
    for statement in _ERASE:
        connection.execute(statement, {"user_id": user_id})
    fenced_by: str | None = connection.execute(
        message(FENCED, _DELETE_USER, READ_FENCED_BY), {"user_id": user_id}
    ).scalar_one()
    return fenced_by
