"""Money, times and counts as people read them, and lines in columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from jobs.results.progress import count as count  # noqa: PLC0414  said here as everywhere
from jobs.results.writers import moment
from providers.types import MICROS

MINUTE, HOUR, DAY = 60, 3600, 86_400  # seconds


def money(micros: int) -> str:
    """$1,234.50; four digits where cents do not say it."""
    digits = 2 if micros % 10_000 == 0 else 4
    return f"${micros / MICROS:,.{digits}f}"


def at_most(micros: int) -> str:
    """Money that is set aside: what is asked for, and what waits. An estimate is less where tokens are counted."""
    return f"at most {money(micros)}"


def dollars(column: Sequence[int | None]) -> list[str]:
    """482.00: a column of USD with one precision, four digits where cents do not say it."""
    fine = any(micros is not None and micros % 10_000 for micros in column)
    return ["not known" if micros is None else f"{micros / MICROS:,.{4 if fine else 2}f}" for micros in column]


def unit_price(micros: int | None) -> str:
    """0.0400."""
    return "not known" if micros is None else f"{micros / MICROS:.4f}"


def span(seconds: float) -> str:
    """How long: 6 d 21 h, 21 h 12 min, 40 min, 12 s."""
    whole = max(0, round(seconds))
    if whole < 2 * MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def day_and_time(at: float) -> str:
    """2026-05-14 02:14:07Z."""
    return moment(at).strftime("%Y-%m-%d %H:%M:%SZ")


def time_of_day(at: float) -> str:
    """02:14:07Z."""
    return moment(at).strftime("%H:%M:%SZ")


def day_and_minute(at: float) -> str:
    """2026-05-14 23:14Z."""
    return moment(at).strftime("%Y-%m-%d %H:%MZ")


def weekday(at: float) -> str:
    """Thu 11:40Z: a time within the next days."""
    return moment(at).strftime("%a %H:%MZ")


def size(number: int) -> str:
    """31.4 GB."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:  # noqa: PLR2004  SI units
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def shorten(text: str, limit: int) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def listed(counts: Mapping[str, int]) -> str:
    """31 moderation, 5 reference_unreachable: the largest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{number:,} {name}" for name, number in ordered if number)


def aligned(rows: Iterable[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Lines with their cells in columns; `right`: the columns of numbers."""
    rows = [tuple(row) for row in rows]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))] if rows else []
    return ["  ".join(_cells(row, widths, right)).rstrip() for row in rows]


def _cells(row: Sequence[str], widths: Sequence[int], right: frozenset[int]) -> Iterable[str]:
    for at, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.rjust(width) if at in right else cell.ljust(width)
