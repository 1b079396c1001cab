"""Suspensions: the suspended users, and the users for whom that changes what they see."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, text

from graph_service.models import EventKind
from graph_service.queries.fences import (
    FENCED,
    KEEPERS_TOLD,
    READ_FENCED_BY,
    KeeperName,
    keeper_names,
)
from graph_service.queries.statements import message
from graph_service.queries.users import NEXT_REVISION, SHOWN_STEP, amount_literals, next_revision
from shared.access.suspended import Suspended
from shared.database.arrays import array_literal
from shared.database.reader import Reader, Statement


@dataclass(frozen=True, kw_only=True)
class SuspensionRow:
    """A suspended user."""

    user_id: int
    reason: str
    suspended_at: datetime


_IS_SUSPENDED = text("SELECT EXISTS (SELECT FROM suspensions WHERE user_id = :user_id)")


def is_suspended(connection: Connection, *, user_id: int) -> bool:
    """Whether the user is suspended."""
    return bool(connection.execute(_IS_SUSPENDED, {"user_id": user_id}).scalar_one())


_SUSPENDED_AMONG = text("""
    SELECT user_id FROM suspensions WHERE user_id = ANY (CAST(:user_ids AS bigint[]))
""")


def suspended_among(connection: Connection, *, user_ids: Collection[int]) -> set[int]:
    """Those of the users who are suspended."""
    rows = connection.execute(_SUSPENDED_AMONG, {"user_ids": array_literal(user_ids)})
    return set(rows.scalars())


_INSERT_SUSPENSION = text("""
    INSERT INTO suspensions (user_id, reason) VALUES (:user_id, :reason)
    ON CONFLICT (user_id) DO NOTHING
""")

_REPLACE_REASON = text("""
    UPDATE suspensions SET reason = :reason WHERE user_id = :user_id RETURNING suspended_at
""")


def insert_suspension(
    connection: Connection, *, user_id: int, reason: str
) -> tuple[datetime, bool]:
    """Since when the locked user is suspended, and whether it is only now; with this reason."""
    parameters = {"user_id": user_id, "reason": reason}
    is_new = connection.execute(_INSERT_SUSPENSION, parameters).rowcount == 1
    since: datetime = connection.execute(_REPLACE_REASON, parameters).scalar_one()
    return since, is_new


_DELETE_SUSPENSION = text("DELETE FROM suspensions WHERE user_id = :user_id")


def delete_suspension(connection: Connection, *, user_id: int) -> bool:
    """Whether the locked user was suspended until now."""
    return connection.execute(_DELETE_SUSPENSION, {"user_id": user_id}).rowcount == 1


_CHANGE_SIGHT = f"""
    UPDATE users AS u
    SET suspended_connection_count = u.suspended_connection_count + change.amount,
        revision = {NEXT_REVISION},
        shown_revision = u.shown_revision
            + CASE WHEN change.amount = 0 THEN 0 ELSE {SHOWN_STEP} END
    FROM unnest(CAST(:user_ids AS bigint[]), CAST(:amounts AS bigint[]))
         AS change (user_id, amount)
    WHERE u.user_id = change.user_id
"""

_INSERT_EVENT = """
    INSERT INTO connection_events (kind, actor_id, actor_revision)
    SELECT :kind, user_id, revision FROM users WHERE user_id = :user_id
"""

# Its row is locked until the transaction ends, so suspensions come one after the other. Nothing
# that is locked later is locked before it elsewhere, but for totals.
_RECORD_CHANGE = f"""
    INSERT INTO suspension_changes AS known (revision)
    VALUES (CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint))
    ON CONFLICT (is_single) DO UPDATE SET revision = {next_revision("known.revision")}
"""


def change_sight(
    connection: Connection, *, user_id: int, kind: EventKind, amounts: Mapping[int, int]
) -> str | None:
    """Store that a locked user is suspended or restored, for those who are connected with them.

    `amounts` are by how much each locked user's number of suspended connections changes; the user
    is among them, with 0. All their revisions grow. Returns who has to be told of it; see
    `queries.fences`.
    """
    fenced_by: str | None = connection.execute(
        message(FENCED, _CHANGE_SIGHT, _INSERT_EVENT, _RECORD_CHANGE, READ_FENCED_BY),
        {**amount_literals(amounts, {}), "user_id": user_id, "kind": kind},
    ).scalar_one()
    return fenced_by


_SUSPENSION_PAGE = text("""
    SELECT user_id, reason, suspended_at FROM suspensions
    WHERE (suspended_at, user_id) < (:before_time, :before_id)
    ORDER BY suspended_at DESC, user_id DESC LIMIT :limit
""")


def suspension_page(
    connection: Connection, *, before: tuple[datetime, int], limit: int
) -> list[SuspensionRow]:
    """Up to `limit` suspended users before a position, last suspended first."""
    rows = connection.execute(
        _SUSPENSION_PAGE, {"before_time": before[0], "before_id": before[1], "limit": limit}
    )
    return [SuspensionRow(**row) for row in rows.mappings()]


# Both as of one snapshot, or a revision would be told with the ids of another.
_SUSPENDED_IDS = Statement(
    "all_suspended_ids",
    f"""
    SELECT known.revision,
           CASE WHEN known.revision = nullif(CAST(:known_revision AS bigint), 0) THEN NULL
           ELSE ARRAY(SELECT user_id FROM suspensions ORDER BY user_id) END,
           {KEEPERS_TOLD}
    FROM (SELECT coalesce(max(revision), 0) AS revision FROM suspension_changes) AS known
""",
)


STAMP: Final = "SELECT CAST(coalesce(max(revision), 0) AS text) FROM suspension_changes"
"""The stamp of who is suspended at this moment."""


def suspended_ids(reader: Reader, *, known_revision: int) -> tuple[Suspended, Sequence[KeeperName]]:
    """The ids of all suspended users, unless the revision is still the known one.

    And the keepers that are told of every suspension after this statement.
    """
    [(revision, ids, told)] = reader.rows(_SUSPENDED_IDS, {"known_revision": known_revision})
    return Suspended(revision=revision, ids=ids, stamp=str(revision)), keeper_names(told)
