"""How money, times, durations, sizes, counts and errors are written: for people, files and documents. Pure.

Money is an integer of micro-dollars everywhere; a moment is in seconds since 1970. No figure is rounded: money has two
digits, four where cents do not say it, six where those do not either, so that what is shown adds up.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import overload
from zoneinfo import ZoneInfo

from providers.types import MICROS

MINUTE, HOUR, DAY = 60, 3600, 86_400  # seconds

#: The last second of the calendar, 9999-12-31.
_LAST = 253_402_300_799.0


# -- money ---------------------------------------------------------------------------------------------------------


def money(micros: int) -> str:
    """Dollars for people: $1,234.50, $0.0123."""
    return f"{'-' if micros < 0 else ''}${_in_digits(abs(micros), _digits(micros))}"


def money_column(amounts: Sequence[int | None]) -> list[str]:
    """Amounts with one precision, without the sign: 482.0000 above 0.0305. None is "not known"."""
    digits = max((_digits(micros) for micros in amounts if micros is not None), default=2)
    return ["not known" if micros is None else _in_digits(micros, digits) for micros in amounts]


def unit_price(micros: int | None) -> str:
    """What one image costs, without the sign: 0.0400. None is "not known"."""
    return "not known" if micros is None else _in_digits(micros, max(4, _digits(micros)))


def estimated_price(micros: int) -> str:
    """What one image is likely to cost, without the sign, in four digits: 0.0026."""
    return f"{micros / MICROS:.4f}"


def dollars(micros: int) -> str:
    """Dollars for files and commands: 0.04, without sign and separators, and with no digit that says nothing."""
    whole, rest = divmod(abs(micros), MICROS)
    digits = f"{rest:06d}"
    return f"{'-' if micros < 0 else ''}{whole}.{digits[:2]}{digits[2:].rstrip('0')}"


def up_to_cents(micros: int) -> int:
    """The whole cents that this amount fits into, in micro-dollars."""
    cent = MICROS // 100
    return -(-micros // cent) * cent


@overload
def usd(micros: int) -> float: ...
@overload
def usd(micros: int | None) -> float | None: ...
def usd(micros: int | None) -> float | None:
    """Dollars for documents, as a number. None: not known, or no limit."""
    return None if micros is None else micros / MICROS


def _digits(micros: int) -> int:
    """As many as say it: 2, 4 or 6."""
    return next((digits for digits in (2, 4) if not micros % 10 ** (6 - digits)), 6)


def _in_digits(micros: int, digits: int) -> str:
    whole, rest = divmod(abs(micros), MICROS)
    return f"{'-' if micros < 0 else ''}{whole:,}.{f'{rest:06d}'[:digits]}"


# -- times ---------------------------------------------------------------------------------------------------------


def moment(at: float) -> datetime:
    """A time on record, in UTC; one that a wrong clock put outside the calendar is its first or last second."""
    return datetime.fromtimestamp(min(max(at, 0.0), _LAST), UTC)


def utc(at: float) -> str:
    """A time for files and documents: 2026-05-14T02:14:07Z."""
    return moment(at).strftime("%Y-%m-%dT%H:%M:%SZ")


def as_stands(value: date | time) -> str:
    """A date or a time of a sheet's or a table's cell: 2026-05-14, 2026-05-14 02:14:07, 16:09:00."""
    if isinstance(value, datetime) and value.tzinfo is None and value.time() == time():
        value = value.date()
    return value.isoformat(sep=" ") if isinstance(value, datetime) else value.isoformat()


def day_and_time(at: float) -> str:
    """2026-05-14 02:14:07Z."""
    return moment(at).strftime("%Y-%m-%d %H:%M:%SZ")


def day_and_minute(at: float) -> str:
    """2026-05-14 23:14Z."""
    return moment(at).strftime("%Y-%m-%d %H:%MZ")


def stamp(at: float, *, seconds: bool = False) -> str:
    """A time in a name: 20260514T0214Z, 20260514T021407Z."""
    return moment(at).strftime("%Y%m%dT%H%M%SZ" if seconds else "%Y%m%dT%H%MZ")


def minute_in(at: float, zone: str) -> str:
    """A time as it is called in a time zone: Thu 2026-05-14 13:40 CEST."""
    return moment(at).astimezone(ZoneInfo(zone)).strftime("%a %Y-%m-%d %H:%M %Z")


def weekday_and_minute(at: float) -> str:
    """Thu 2026-05-14 11:40Z."""
    return moment(at).strftime("%a %Y-%m-%d %H:%MZ")


def time_of_day(at: float) -> str:
    """02:14:07Z."""
    return moment(at).strftime("%H:%M:%SZ")


def here(at: float) -> str:
    """The same moment on the clock of the person who waits for it: " (Thu 13:40 here)", or "" where that shows UTC."""
    local = moment(at).astimezone()
    return "" if not local.utcoffset() else local.strftime(" (%a %H:%M here)")


def duration(seconds: float) -> str:
    """12 s, 40 min, 21 h 12 min, 6 d 21 h."""
    whole = max(0, round(seconds))
    if whole < 2 * MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


# -- sizes and counts ----------------------------------------------------------------------------------------------


def size(number: int) -> str:
    """Bytes in steps of a thousand, as disks are sold: 31.4 GB, 850 kB."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:  # noqa: PLR2004  a step
            return f"{value:.0f} {unit}" if unit in {"B", "kB"} else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def count(number: int, thing: str) -> str:
    """1 image, 2 images, 11,951 images."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def option(name: str, value: str) -> str:
    """An option as it can be pasted: `--map 'prompt=Image Src'`, quoted where the shell needs it."""
    return shlex.join(option_words(name, value))


def option_words(name: str, value: str) -> list[str]:
    """The words of an option. A value that looks like an option itself is joined to the name."""
    return [f"{name}={value}"] if value.startswith("-") else [name, value]


def listed(counts: Mapping[str, int]) -> str:
    """31 moderation, 5 reference_unreachable: the largest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{number:,} {name}" for name, number in ordered if number)


# -- what comes from outside ---------------------------------------------------------------------------------------

#: Characters that a terminal obeys instead of showing them: control characters but for tab and line feed, separators
#: of lines, and those that reorder the text around them.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """The text as it can be shown: an escape sequence in a prompt, a key or a provider's answer is seen, not obeyed."""
    return _OBEYED.sub(lambda found: ascii(found[0])[1:-1], text)


# -- errors --------------------------------------------------------------------------------------------------------


def in_words(error: BaseException) -> str:
    """What went wrong as a person reads it, in one line: the error's own text.

    Where that says little, the kind of error stands before it: "key: 'width'"; where there is none, alone: "server
    disconnected".
    """
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", re.sub(r"(?<=.)(Error|Exception)$", "", type(error).__name__)).lower()
    system = error.strerror if isinstance(error, OSError) else None
    text = " ".join((system or str(error)).split())
    if isinstance(error, OSError) and system and error.filename is not None:
        text += f": {error.filename}"
    says_little = len(text.split()) < 2  # noqa: PLR2004  a key, a number
    return f"{name}: {text}" if text and says_little else text or name


def one_line(text: str) -> str:
    """A message of several lines on one; what stood on lines of its own, as a command does, stays apart."""
    return "  ".join(line.strip() for line in text.splitlines() if line.strip())


def shorten(text: str, limit: int) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
