"""Weeks: seven local days of a time zone, as the instants at which they begin.

A day begins at the first moment at which its date is shown and lasts until that of the next day.
So it may have 23 or 25 hours, a midnight that the clocks skip is the moment at which they skip it,
and when they are set back over midnight, as in St. John's until 2011, what comes twice belongs to
the day that had begun. A day that was skipped as a whole, as in Apia when it crossed the date line,
begins and ends with the next one: it is in its week and has no moment.

Time zones are decided here alone, by the IANA data that Python has: of the system or, where there
is none, of the package tzdata.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

MONDAY: Final = 1
SUNDAY: Final = 7

_DAY: Final = timedelta(days=1)
_LENGTH: Final = 7


@dataclass(frozen=True, kw_only=True)
class Week:
    """Seven days: the date of the first, and eight instants, of which the last is its end."""

    first_date: date
    instants: Sequence[datetime]

    @classmethod
    def around(cls, moment: datetime, zone: ZoneInfo, *, start_day: int) -> "Week":
        """Return the week in which a moment is; `start_day` is 1 for Monday to 7 for Sunday."""
        today = _date(moment, zone)
        first_date = today - _DAY * ((today.isoweekday() - start_day) % _LENGTH)
        days = (first_date + _DAY * number for number in range(_LENGTH + 1))
        return cls(first_date=first_date, instants=[_beginning(day, zone) for day in days])

    @property
    def start(self) -> datetime:
        """The first moment of the week."""
        return self.instants[0]

    @property
    def end(self) -> datetime:
        """The first moment after the week."""
        return self.instants[-1]


@cache
def time_zones() -> frozenset[str]:
    """Return the names of all time zones, but for the one that is another on every machine."""
    return frozenset(available_timezones() - {"localtime"})


def _date(moment: datetime, zone: ZoneInfo) -> date:
    shown = moment.astimezone(zone).date()
    return shown + _DAY if _beginning(shown + _DAY, zone) <= moment else shown


def _beginning(day: date, zone: ZoneInfo) -> datetime:
    # Python takes the first of a midnight that comes twice, and reads one that is skipped as if the
    # clocks had not been set yet: that is the moment of the skip, for since 1970 every gap that
    # holds a midnight begins with it.
    return datetime.combine(day, time(), zone).astimezone(UTC)
