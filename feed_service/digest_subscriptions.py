"""Subscriptions to weekly digests, and the claims of mailers that send these.

Kith sends nothing. A mailer claims digests that are due, reads each by GetDigest, sends it, and
acknowledges it. A claim is a lease: what is not acknowledged in time can be claimed again, so a
digest is sent at least once, and twice only if a mailer sent it and could not say so in time.

A subscription is due at the end of a week, which is computed here, since weeks are those of the
time zones that Python knows, not of those of the database. A claim moves it to the end of the last
week that is over, so that a user gets one digest, not several, after an outage of the mailer; an
acknowledgement moves it to the end of the week after.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from feed_service import queries
from feed_service.queries.digest_subscriptions import Postponement, SubscriptionRow
from feed_service.resources import Resources
from feed_service.settings import DigestRules
from feed_service.weeks import Week, time_zones
from shared.api.idempotency import Call, M, once

_MOMENT: Final = timedelta(microseconds=1)
# Another claim or acknowledgement may be faster, which then has made headway.
_ATTEMPTS: Final = 5


@dataclass(frozen=True, kw_only=True)
class ClaimedDigest:
    """The digest of a user for a week that is over."""

    user_id: int
    time_zone: str
    week_start_day: int
    week: Week


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Digests that are one mailer's to send until the lease ends."""

    lease_token: str
    expire_at: datetime | None
    digests: Sequence[ClaimedDigest]


@dataclass(frozen=True, kw_only=True)
class Acknowledged:
    """How many digests are done, and the users whose digests were not the mailer's any more."""

    count: int
    lost_user_ids: Sequence[int]


class DigestSubscriptions:
    """Stores who takes part, and hands out what is due."""

    def __init__(self, resources: Resources, rules: DigestRules) -> None:
        self._database = resources.database
        self._reads = resources.reads
        self._layout = resources.layout
        self._metrics = resources.metrics
        self._rules = rules

    def subscription(self, user_id: int) -> SubscriptionRow | None:
        """Return the user's subscription, if there is one."""
        return self._reads.read(
            lambda connection: queries.digest_subscriptions.subscription(
                connection, user_id=user_id
            )
        )

    def subscribe(
        self, call: Call[SubscriptionRow, M], *, time_zone: ZoneInfo, week_start_day: int
    ) -> M:
        """Subscribe the user, or change by which weeks; day 0 is the day that is set.

        A digest that is due already stays due, by the new weeks. Otherwise the next one is that of
        the week that is running.
        """
        start_day = week_start_day or self._rules.week_start_day

        def work(connection: Connection) -> SubscriptionRow:
            former = queries.digest_subscriptions.locked_subscription(
                connection, user_id=call.user_id
            )
            now = datetime.now(UTC)
            week = Week.around(now, time_zone, start_day=start_day)
            row = SubscriptionRow(
                user_id=call.user_id,
                time_zone=time_zone.key,
                week_start_day=start_day,
                due_at=week.start if former and former.due_at <= now else week.end,
            )
            if former and _weeks_of(former) == _weeks_of(row):
                return former
            queries.digest_subscriptions.store_subscription(connection, row)
            return row

        response, _ = once(self._database, call, work)
        return response

    def unsubscribe(self, call: Call[None, M]) -> M:
        """End the user's subscription, if there is one."""
        response, _ = once(
            self._database,
            call,
            lambda connection: queries.digest_subscriptions.delete_subscription(
                connection, user_id=call.user_id
            ),
        )
        return response

    def claim(self, *, limit: int, lasts: timedelta) -> Claim:
        """Lease up to `limit` digests that are due and not leased, the longest due first."""
        claim = self._database.write(
            lambda connection: self._claim(connection, limit=limit, lasts=lasts)
        )
        self._metrics.digests_claimed.inc(len(claim.digests))
        return claim

    def _claim(self, connection: Connection, *, limit: int, lasts: timedelta) -> Claim:
        token, leased, due = str(uuid.uuid4()), dict[int, datetime](), dict[int, ClaimedDigest]()
        for _ in range(_ATTEMPTS):
            rows = self._layout.due_digests(connection, limit=limit)
            due = {row.user_id: _last_week(row) for row in rows}
            if not rows:
                break
            leased = queries.digest_subscriptions.lease(
                connection,
                due=[
                    Postponement(
                        user_id=row.user_id,
                        from_due_at=row.due_at,
                        to_due_at=due[row.user_id].week.end,
                    )
                    for row in rows
                ],
                lease_token=token,
                lasts=lasts,
            )
            if leased:
                break
        return Claim(
            lease_token=token if leased else "",
            expire_at=min(leased.values(), default=None),
            digests=[digest for user_id, digest in due.items() if user_id in leased],
        )

    def acknowledge(self, *, lease_token: str, user_ids: Sequence[int]) -> Acknowledged:
        """Store that digests have been sent, or need not be; repeating it changes nothing.

        A lease that has ended is still good until another claim gets the digest.
        """
        found, count = self._database.write(
            lambda connection: _acknowledge(connection, lease_token, user_ids)
        )
        self._metrics.digests_acknowledged.inc(count)
        return Acknowledged(
            count=len(found), lost_user_ids=[each for each in user_ids if each not in found]
        )


def _acknowledge(
    connection: Connection, lease_token: str, user_ids: Sequence[int]
) -> tuple[set[int], int]:
    """Return the users whose digests are done, and how many of these were not before."""
    found, count = set[int](), 0
    for _ in range(_ATTEMPTS):
        rows = queries.digest_subscriptions.leased(
            connection, lease_token=lease_token, user_ids=user_ids
        )
        found = {row.user_id for row in rows}
        done = [
            Postponement(
                user_id=row.user_id,
                from_due_at=row.due_at,
                to_due_at=_week(row, row.due_at).end,
            )
            for row in rows
            if not row.is_acknowledged
        ]
        acknowledged = (
            queries.digest_subscriptions.acknowledge(connection, done=done, lease_token=lease_token)
            if done
            else 0
        )
        count += acknowledged
        if acknowledged == len(done):
            break
    return found, count


def _last_week(row: SubscriptionRow) -> ClaimedDigest:
    """Return the last week that is over, which is the one that is due or a later one."""
    # The clock of the database, by which the row is due, may be ahead of this one.
    running = _week(row, max(datetime.now(UTC), row.due_at))
    return ClaimedDigest(
        user_id=row.user_id,
        time_zone=_zone(row).key,
        week_start_day=row.week_start_day,
        week=_week(row, running.start - _MOMENT),
    )


def _week(row: SubscriptionRow, moment: datetime) -> Week:
    return Week.around(moment, _zone(row), start_day=row.week_start_day)


def _zone(row: SubscriptionRow) -> ZoneInfo:
    # A name that later time zone data does not have must not keep a mailer from all others.
    return ZoneInfo(row.time_zone if row.time_zone in time_zones() else "UTC")


def _weeks_of(row: SubscriptionRow) -> tuple[str, int]:
    return row.time_zone, row.week_start_day
