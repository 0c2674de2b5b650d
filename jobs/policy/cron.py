"""When a schedule's times are: cron's five fields in a time zone, daylight saving included. Pure.

The fields are read by `cronsim`, which does as Debian's cron does; docs/decisions/cron.md says why, and where the rule
differs: whether a schedule has fixed hours is told by its hour field alone.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from jobs.formatting import moment

#: Cron's own short forms.
_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = 5
_NEVER = "a line that comes true: no day is like that"


def read_cron(text: str) -> str:
    """The five fields of a cron line, or of a short form such as @daily.

    Raises:
        ValueError: What is expected instead.
    """
    line = " ".join(text.split())
    fields = _NAMED.get(line.lower(), line)
    if fields.startswith("@"):
        raise ValueError(f"five fields, or one of {' '.join(_NAMED)}")
    if len(fields.split()) != _FIELDS:
        raise ValueError('five fields, minute hour day month weekday, such as "0 3 * * *"')
    try:
        next(CronSim(fields, datetime(2026, 1, 1, tzinfo=UTC)))
    except CronSimError as wrong:
        raise ValueError(f"a cron line: {_told(str(wrong), fields)}") from None
    except StopIteration:
        raise ValueError(_NEVER) from None
    return fields


_LONGEST_MONTH = 31
#: What each field may be, by its name.
_ALLOWED = {
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31",
    "month": "1 to 12, or JAN to DEC",
    "day-of-week": "0 to 7, or SUN to SAT",
}


def _told(wrong: str, fields: str) -> str:
    field, days = wrong.removeprefix("Bad "), [int(day) for day in re.findall(r"\d+", fields.split()[2])]
    if field == "day-of-month" and days and all(1 <= day <= _LONGEST_MONTH for day in days):
        return "its day never comes: its months have none of that number"
    return f"its {field} may be {_ALLOWED[field]}" if field in _ALLOWED else wrong


def read_zone(name: str) -> str:
    """The name of a time zone.

    Raises:
        ValueError: What is expected instead; near names are told.
    """
    if name in available_timezones():
        return name
    known = sorted(available_timezones())
    cities = [each for each in known if each.casefold().rpartition("/")[2] == name.casefold().rpartition("/")[2]]
    near = cities or difflib.get_close_matches(name, known, n=3, cutoff=0.7)
    asked = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(f"a time zone such as Europe/Berlin{asked}")


def times(cron: str, zone: str, after: float) -> Iterator[float]:
    """A schedule's times, in Unix seconds, from the first that is later than `after`. `cron`: as `read_cron` has it.

    Fixed hours: a time that does not exist comes once, at the next moment that does; one that exists twice comes once,
    the first time. With `*` or a step in the hour field real time counts.
    """
    last = after
    for found in CronSim(_for_the_library(cron), moment(after).astimezone(ZoneInfo(zone))):
        at = found.timestamp()
        if at > last:  # several times that do not exist come at one moment, and those of a repeated hour have been
            last = at
            yield at


def next_time(cron: str, zone: str, after: float) -> float:
    """The first time later than `after`, in Unix seconds."""
    return next(times(cron, zone, after))


def _for_the_library(cron: str) -> str:
    """It takes six fields as real time, and five as fixed hours unless the minute or the hour begins with a star."""
    minute, hour, *days = cron.split()
    if "*" in hour or "/" in hour:
        return " ".join(["0", minute, hour, *days])
    every = f"0-59{minute[1:]}" if minute.startswith("*") else minute
    return " ".join([every, hour, *days])
