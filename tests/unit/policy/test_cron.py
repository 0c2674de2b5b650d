"""When a schedule's times are: over ten years of daylight saving as the library has them, and as the rule says."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from jobs.policy.cron import next_time, read_cron, read_zone, times

#: Half hours, midnights that do not exist, the southern half, none at all, and one that has often changed its mind.
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "Asia/Beirut",
    "Asia/Kolkata",
    "Pacific/Chatham",
    "UTC",
)
FIRST, LAST = datetime(2026, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)

moments = st.integers(int(FIRST.timestamp()), int(LAST.timestamp()))
zones = st.sampled_from(ZONES)
minutes = st.sampled_from(["0", "15", "30", "7,37", "0-10/5"])
hours = st.sampled_from(["0", "1", "2", "3", "1,2", "0-3", "23"])
days = st.sampled_from(["* * *", "1 * *", "* * 0", "* 3 *", "13 * 5", "* 10 0", "* * 1-5"])


def found(cron, zone, after, count):
    return list(itertools.islice(times(read_cron(cron), zone, after), count))


def told(cron, zone, day):
    """A day's times as people in that zone say them."""
    after = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).timestamp() - 1
    local = (datetime.fromtimestamp(at, ZoneInfo(zone)) for at in times(read_cron(cron), zone, after))
    return [f"{at:%H:%M%z}" for at in itertools.takewhile(lambda at: f"{at:%Y-%m-%d}" == day, local)]


@given(minutes, hours, days, zones, moments)
def test_fixed_hours_are_the_librarys_own_answers(minute, hour, day, zone, after):
    cron = f"{minute} {hour} {day}"
    library = CronSim(cron, datetime.fromtimestamp(after, ZoneInfo(zone)))
    theirs = dict.fromkeys(at.timestamp() for at in itertools.islice(library, 12))

    ours = found(cron, zone, after, 8)

    assert ours == [at for at in theirs if at > after][:8]


@given(st.sampled_from(["*", "*/2", "1-5/2", "*/5"]), minutes, zones, moments)
def test_with_a_star_or_a_step_in_the_hour_real_time_counts(hour, minute, zone, after):
    """Every minute whose name there fits is one of its times, whether that name comes once or twice."""
    fields = CronSim(f"{minute} {hour} * * *", FIRST)
    until = after + 2 * 86_400
    every = range(after - after % 60 + 60, until, 60)
    there = ((at, datetime.fromtimestamp(at, ZoneInfo(zone))) for at in every)
    expected = [at for at, local in there if local.hour in fields.hours and local.minute in fields.minutes]

    cron = read_cron(f"{minute} {hour} * * *")
    assert list(itertools.takewhile(lambda at: at < until, times(cron, zone, after))) == expected


@given(minutes, hours, zones, st.dates(FIRST.date(), LAST.date()))
def test_a_day_with_fixed_hours_has_each_of_its_times_once_whatever_the_clocks_do(minute, hour, zone, day):
    """The moments at which the day's clock first shows a time, or would have."""
    fields = CronSim(f"{minute} {hour} * * *", FIRST)
    expected = set()
    for at_hour, at_minute in itertools.product(sorted(fields.hours), sorted(fields.minutes)):
        wanted = datetime(day.year, day.month, day.day, at_hour, at_minute, tzinfo=ZoneInfo(zone))
        while wanted.astimezone(UTC).astimezone(wanted.tzinfo) != wanted:
            wanted += timedelta(minutes=1)
        expected.add(wanted.timestamp())

    begin = min(expected) - 1
    cron = read_cron(f"{minute} {hour} * * *")
    assert list(itertools.takewhile(lambda at: at <= max(expected), times(cron, zone, begin))) == sorted(expected)


@given(minutes, hours, days, zones, moments)
def test_the_next_time_of_any_moment_is_later_and_the_same_from_anywhere_before(minute, hour, day, zone, after):
    cron = read_cron(f"{minute} {hour} {day}")
    at = next_time(cron, zone, after)

    assert at > after
    assert next_time(cron, zone, at - 1) == at
    assert next_time(cron, zone, (after + at) / 2) == at


@pytest.mark.parametrize(
    ("cron", "day", "expected"),
    [
        ("30 2 * * *", "2026-03-28", ["02:30+0100"]),
        ("30 2 * * *", "2026-03-29", ["03:00+0200"]),  # 2:30 does not exist
        ("*/20 2 * * *", "2026-03-29", ["03:00+0200"]),
        ("30 2 * * *", "2026-10-25", ["02:30+0200"]),  # it exists twice
        ("*/20 2 * * *", "2026-10-25", ["02:00+0200", "02:20+0200", "02:40+0200"]),
        ("30 1-3/1 * * *", "2026-10-25", ["01:30+0200", "02:30+0200", "02:30+0100", "03:30+0100"]),
        ("0 */2 * * *", "2026-03-29", ["00:00+0100", *(f"{hour:02}:00+0200" for hour in range(4, 24, 2))]),
    ],
)
def test_the_nights_when_the_clocks_change(cron, day, expected):
    assert told(cron, "Europe/Berlin", day) == expected


def test_either_day_counts_as_in_cron():
    friday_or_thirteenth = found("0 0 13 * 5", "UTC", datetime(2026, 11, 1, tzinfo=UTC).timestamp(), 4)
    assert [datetime.fromtimestamp(at, UTC).day for at in friday_or_thirteenth] == [6, 13, 20, 27]


@pytest.mark.parametrize(
    ("short", "fields"),
    [("@daily", "0 0 * * *"), ("@HOURLY", "0 * * * *"), (" 5  4 * * sun ", "5 4 * * sun")],
)
def test_short_forms_and_spare_blanks(short, fields):
    assert read_cron(short) == fields


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", "five fields"),
        ("0 3 * *", "five fields"),
        ("0 0 3 * * *", "five fields"),
        ("@reboot", "@daily"),
        ("61 3 * * *", "its minute may be 0 to 59"),
        ("0 3 * * funday", "its day-of-week may be 0 to 7, or SUN to SAT"),
        ("0 0 31 2 *", "its day never comes"),
        ("0 0 32 1 *", "its day-of-month may be 1 to 31"),
    ],
)
def test_a_wrong_line_is_told_with_what_is_right(line, expected):
    with pytest.raises(ValueError, match=expected):
        read_cron(line)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Berlin", "Europe/Berlin"), ("europe/berlin", "Europe/Berlin"), ("Mars/Olympus", "a time zone")],
)
def test_a_wrong_zone_is_told_with_the_near_ones(name, expected):
    with pytest.raises(ValueError, match=expected):
        read_zone(name)
