"""Weeks begin where clocks say so, also when clocks are changed."""

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed_service.weeks import Week, time_zones
from tests.support import digest_oracle as oracle

_MICROSECOND = timedelta(microseconds=1)

moments = st.datetimes(datetime(1973, 1, 1), datetime(2037, 12, 1), timezones=st.just(UTC))  # noqa: DTZ001 -- hypothesis adds the time zone
zones = st.sampled_from(sorted(time_zones())).map(ZoneInfo)
start_days = st.integers(1, 7)

# What clocks have done, and a day on which they did it.
_CLOCK_CHANGES = [
    ("UTC", date(2026, 11, 25)),
    ("Europe/Lisbon", date(2026, 3, 29)),
    ("Europe/Lisbon", date(2026, 10, 25)),
    ("America/New_York", date(2026, 3, 8)),
    ("America/New_York", date(2026, 11, 1)),
    ("America/Sao_Paulo", date(2018, 11, 4)),
    ("America/Sao_Paulo", date(2019, 2, 17)),
    ("America/Havana", date(2026, 3, 8)),
    ("America/Havana", date(2026, 11, 1)),
    ("Asia/Beirut", date(2022, 3, 27)),
    ("Asia/Beirut", date(2022, 10, 30)),
    ("Africa/Cairo", date(2026, 4, 24)),
    ("Africa/Cairo", date(2026, 10, 30)),
    ("Australia/Lord_Howe", date(2026, 4, 5)),
    ("Australia/Lord_Howe", date(2026, 10, 4)),
    ("Asia/Kathmandu", date(1986, 1, 1)),
    ("America/St_Johns", date(2007, 3, 11)),
    ("America/St_Johns", date(2007, 11, 4)),
    ("Antarctica/Casey", date(2010, 3, 5)),
    ("Antarctica/Troll", date(2026, 3, 29)),
    ("Africa/Casablanca", date(2026, 2, 15)),
    ("Pacific/Apia", date(2011, 12, 30)),
    ("Pacific/Kwajalein", date(1993, 8, 21)),
    ("Pacific/Kiritimati", date(1994, 12, 31)),
]


def _week(moment: datetime, zone: str, start_day: int = 7) -> Week:
    return Week.around(moment, ZoneInfo(zone), start_day=start_day)


def _hours(week: Week) -> list[float]:
    return [(end - start) / timedelta(hours=1) for start, end in pairwise(week.instants)]


@given(moment=moments, zone=zones, start_day=start_days)
def test_a_moment_is_in_its_week_and_the_week_begins_on_its_day(
    moment: datetime, zone: ZoneInfo, start_day: int
) -> None:
    week = Week.around(moment, zone, start_day=start_day)

    assert week.start <= moment < week.end
    assert week.first_date.isoweekday() == start_day
    assert list(week.instants) == sorted(week.instants)


@given(moment=moments, zone=zones, start_day=start_days)
def test_every_moment_of_a_week_is_in_the_same_week_and_the_next_begins_where_it_ends(
    moment: datetime, zone: ZoneInfo, start_day: int
) -> None:
    week = Week.around(moment, zone, start_day=start_day)

    assert Week.around(week.start, zone, start_day=start_day) == week
    assert Week.around(week.end - _MICROSECOND, zone, start_day=start_day) == week
    assert Week.around(week.end, zone, start_day=start_day).start == week.end


@given(moment=moments, zone=zones, start_day=start_days)
def test_a_day_begins_when_clocks_first_show_its_date_or_a_later_one(
    moment: datetime, zone: ZoneInfo, start_day: int
) -> None:
    week = Week.around(moment, zone, start_day=start_day)

    for number, instant in enumerate(week.instants):
        day = week.first_date + timedelta(days=number)
        assert instant.astimezone(zone).date() >= day
        assert all(
            (instant - before).astimezone(zone).date() < day
            for before in (_MICROSECOND, *(timedelta(minutes=15 * n) for n in range(1, 13)))
        )


@pytest.mark.parametrize(("zone", "day"), _CLOCK_CHANGES)
def test_around_a_change_of_the_clocks_every_day_begins_where_walking_the_minutes_finds_it(
    zone: str, day: date
) -> None:
    change = oracle.first_moment(day, ZoneInfo(zone))

    for half_hours in range(-60, 108):
        moment = change + half_hours * timedelta(minutes=30)
        for start_day in range(1, 8):
            days = oracle.week(moment, ZoneInfo(zone), start_day)
            week = _week(moment, zone, start_day)
            assert week.first_date == days[0]
            assert list(week.instants) == [
                oracle.first_moment(each, ZoneInfo(zone))
                for each in [*days, days[-1] + timedelta(days=1)]
            ]


def test_a_week_has_an_hour_less_in_spring_and_one_more_in_autumn() -> None:
    spring = _week(datetime(2026, 3, 29, 12, tzinfo=UTC), "Europe/Lisbon")
    autumn = _week(datetime(2026, 10, 25, 12, tzinfo=UTC), "Europe/Lisbon")

    assert _hours(spring) == [23, 24, 24, 24, 24, 24, 24]
    assert _hours(autumn) == [25, 24, 24, 24, 24, 24, 24]


def test_a_day_whose_midnight_is_skipped_begins_an_hour_later_on_the_clock() -> None:
    week = _week(datetime(2018, 11, 5, tzinfo=UTC), "America/Sao_Paulo")

    assert week.start == datetime(2018, 11, 4, 3, tzinfo=UTC)
    assert week.start.astimezone(ZoneInfo("America/Sao_Paulo")).hour == 1


def test_a_day_with_two_midnights_begins_with_the_first() -> None:
    week = _week(datetime(2026, 11, 2, tzinfo=UTC), "America/Havana")

    assert week.start == datetime(2026, 11, 1, 4, tzinfo=UTC)
    assert _hours(week)[0] == 25


def test_what_comes_again_after_midnight_stays_with_the_day_that_had_begun() -> None:
    # A minute after the midnight of Sunday, clocks went back to Saturday, 23:01.
    again_saturday = datetime(2007, 11, 4, 3, tzinfo=UTC)
    shown = again_saturday.astimezone(ZoneInfo("America/St_Johns"))
    assert (shown.date(), shown.fold) == (date(2007, 11, 3), 1)

    week = _week(again_saturday, "America/St_Johns")

    assert week.first_date == date(2007, 11, 4)
    assert week.start < again_saturday


def test_a_skipped_day_is_in_its_week_and_has_no_moment() -> None:
    week = _week(datetime(2011, 12, 29, 12, tzinfo=UTC), "Pacific/Apia", start_day=1)

    assert week.first_date == date(2011, 12, 26)
    assert _hours(week) == [24, 24, 24, 24, 0, 24, 24]


def test_a_week_that_would_begin_on_a_skipped_day_begins_with_the_day_after() -> None:
    week = _week(datetime(2012, 1, 2, tzinfo=UTC), "Pacific/Apia", start_day=5)

    assert week.first_date == date(2011, 12, 30)
    assert week.start == datetime(2011, 12, 30, 10, tzinfo=UTC)
    assert _hours(week)[:2] == [0, 24]


def test_time_zones_are_known_also_where_the_system_has_none() -> None:
    script = "from feed_service.weeks import time_zones, ZoneInfo; ZoneInfo(min(time_zones()))"

    subprocess.run(
        [sys.executable, "-c", script], check=True, env={"PYTHONTZPATH": "", "PYTHONPATH": "."}
    )
