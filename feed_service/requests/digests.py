"""Weeks and time zones in requests."""

from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from feed_service.weeks import MONDAY, SUNDAY, time_zones
from kith.feed.v1 import feed_pb2 as pb
from shared.api.fields import Fields

FIRST_MOMENT: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Before it, nothing is taken to have happened."""

_UTC = ZoneInfo("UTC")


def read_week_of(fields: Fields, request: pb.GetDigestRequest) -> datetime | None:
    """Read the moment that names a week; None for the present one."""
    if not request.HasField("week_of"):
        return None
    moment = fields.moment("week_of", request.week_of)
    if moment is not None and moment < FIRST_MOMENT:
        fields.reject("week_of", "must not be before 1970")
    return moment


def read_week_start_day(
    fields: Fields, request: pb.GetDigestRequest | pb.SetDigestSubscriptionRequest
) -> int:
    """Read the day on which weeks start, from 1 for Monday; 0 for the default."""
    if request.week_start_day and not MONDAY <= request.week_start_day <= SUNDAY:
        fields.reject("week_start_day", "must be from 1 (Monday) to 7 (Sunday), or be left out")
    return request.week_start_day


def read_time_zone(fields: Fields, field: str, name: str) -> ZoneInfo:
    """Read an IANA time zone, UTC by default."""
    if name and name not in time_zones():
        fields.reject(field, "must be an IANA time zone, such as Europe/Lisbon")
        return _UTC
    return ZoneInfo(name) if name else _UTC
