"""Who takes part in weekly digests, and which of these are claimed by a mailer."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, text

from shared.database.arrays import array_literal


@dataclass(frozen=True, kw_only=True)
class SubscriptionRow:
    """A user's subscription: by which weeks, and the end of the week that is told next."""

    user_id: int
    time_zone: str
    week_start_day: int
    due_at: datetime


@dataclass(frozen=True, kw_only=True)
class Postponement:
    """That a subscription which was due at one moment is due at another one."""

    user_id: int
    from_due_at: datetime
    to_due_at: datetime


SUBSCRIPTION_COLUMNS: Final = "user_id, time_zone, week_start_day, due_at"
"""The columns of a SubscriptionRow."""

_SUBSCRIPTION = text(
    f"SELECT {SUBSCRIPTION_COLUMNS} FROM digest_subscriptions WHERE user_id = :user_id"
)


def subscription(connection: Connection, *, user_id: int) -> SubscriptionRow | None:
    """The user's subscription, if there is one."""
    row = connection.execute(_SUBSCRIPTION, {"user_id": user_id}).mappings().one_or_none()
    return None if row is None else SubscriptionRow(**row)


_LOCKED_SUBSCRIPTION = text(f"""
    SELECT {SUBSCRIPTION_COLUMNS} FROM digest_subscriptions WHERE user_id = :user_id FOR UPDATE
""")


def locked_subscription(connection: Connection, *, user_id: int) -> SubscriptionRow | None:
    """The user's subscription; no other transaction can change or claim it until this one ends."""
    row = connection.execute(_LOCKED_SUBSCRIPTION, {"user_id": user_id}).mappings().one_or_none()
    return None if row is None else SubscriptionRow(**row)


# A lease stays: its mailer is sending the digest that was due.
_STORE = text("""
    INSERT INTO digest_subscriptions AS known
        (user_id, time_zone, week_start_day, due_at, claimable_at)
    VALUES (:user_id, :time_zone, :week_start_day, :due_at, :due_at)
    ON CONFLICT (user_id) DO UPDATE
    SET time_zone = excluded.time_zone, week_start_day = excluded.week_start_day,
        due_at = excluded.due_at,
        claimable_at = CASE WHEN known.claimable_at > known.due_at THEN known.claimable_at
                            ELSE excluded.due_at END
""")


def store_subscription(connection: Connection, row: SubscriptionRow) -> None:
    """Store a subscription in the place of a former one of the user."""
    connection.execute(
        _STORE,
        {
            "user_id": row.user_id,
            "time_zone": row.time_zone,
            "week_start_day": row.week_start_day,
            "due_at": row.due_at,
        },
    )


_DELETE = text("DELETE FROM digest_subscriptions WHERE user_id = :user_id")


def delete_subscription(connection: Connection, *, user_id: int) -> None:
    """Delete the user's subscription, with a claim of it, if there is one."""
    connection.execute(_DELETE, {"user_id": user_id})


DUE: Final = f"""
    SELECT {SUBSCRIPTION_COLUMNS} FROM digest_subscriptions
    WHERE claimable_at <= now() ORDER BY claimable_at LIMIT :limit"""
"""The query for the subscriptions that can be claimed, the longest due ones first."""

_LOCKED_DUE = text(f"{DUE} FOR UPDATE SKIP LOCKED")


def due_digests(connection: Connection, *, limit: int) -> list[SubscriptionRow]:
    """Up to `limit` subscriptions that can be claimed; no other claim gets them meanwhile."""
    rows = connection.execute(_LOCKED_DUE, {"limit": limit}).mappings()
    return [SubscriptionRow(**row) for row in rows]


# What another claim was faster to get, or was changed since it was read, is passed over. In UTC,
# because Citus refuses expressions here that depend on a session's time zone.
_LEASE = text("""
    UPDATE digest_subscriptions AS subscription
    SET due_at = due.to_due_at, lease_token = :lease_token,
        claimable_at = (now() AT TIME ZONE 'UTC' + CAST(:lease AS interval)) AT TIME ZONE 'UTC'
    FROM unnest(CAST(:user_ids AS bigint[]), CAST(:from_due_at AS timestamptz[]),
                CAST(:to_due_at AS timestamptz[]))
         AS due (user_id, from_due_at, to_due_at)
    WHERE subscription.user_id = due.user_id AND subscription.due_at = due.from_due_at
      AND subscription.claimable_at <= now()
    RETURNING subscription.user_id, subscription.claimable_at
""")


def lease(
    connection: Connection,
    *,
    due: Sequence[Postponement],
    lease_token: str,
    lasts: timedelta,
) -> dict[int, datetime]:
    """The users whose digests are leased under the token now, and until when."""
    rows = connection.execute(_LEASE, {**_arrays(due), "lease_token": lease_token, "lease": lasts})
    return {user_id: until for user_id, until in rows}  # noqa: C416 -- rows are not tuples to mypy


@dataclass(frozen=True, kw_only=True)
class LeasedRow(SubscriptionRow):
    """A subscription under a lease; it stays known as that when the digest is acknowledged."""

    is_acknowledged: bool


# Only of a lease are the two moments different.
_LEASED = text(f"""
    SELECT {SUBSCRIPTION_COLUMNS}, claimable_at = due_at AS is_acknowledged
    FROM digest_subscriptions
    WHERE user_id = ANY (CAST(:user_ids AS bigint[])) AND lease_token = :lease_token
""")


def leased(
    connection: Connection, *, lease_token: str, user_ids: Collection[int]
) -> list[LeasedRow]:
    """Those of the users' subscriptions whose last lease is that of the token."""
    rows = connection.execute(
        _LEASED, {"user_ids": array_literal(user_ids), "lease_token": lease_token}
    )
    return [LeasedRow(**row) for row in rows.mappings()]


_ACKNOWLEDGE = text("""
    UPDATE digest_subscriptions AS subscription
    SET due_at = done.to_due_at, claimable_at = done.to_due_at
    FROM unnest(CAST(:user_ids AS bigint[]), CAST(:from_due_at AS timestamptz[]),
                CAST(:to_due_at AS timestamptz[]))
         AS done (user_id, from_due_at, to_due_at)
    WHERE subscription.user_id = done.user_id AND subscription.due_at = done.from_due_at
      AND subscription.lease_token = :lease_token
""")


def acknowledge(connection: Connection, *, done: Sequence[Postponement], lease_token: str) -> int:
    """How many of the digests, leased under the token, are done now and due at another time."""
    return connection.execute(_ACKNOWLEDGE, {**_arrays(done), "lease_token": lease_token}).rowcount


def _arrays(postponements: Sequence[Postponement]) -> dict[str, object]:
    return {
        "user_ids": array_literal(each.user_id for each in postponements),
        "from_due_at": [each.from_due_at for each in postponements],
        "to_due_at": [each.to_due_at for each in postponements],
    }
