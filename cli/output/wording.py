"""Lines in columns, and words that several screens share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jobs.formatting import money


def at_most(micros: int) -> str:
    """Money that is set aside, as "at most $1.20". Where tokens are billed, the estimate is less."""
    return f"at most {money(micros)}"


def shorten(text: str, limit: int) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def aligned(rows: Iterable[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Lines with their cells in columns; `right`: the columns of numbers."""
    rows = [tuple(row) for row in rows]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))] if rows else []
    return ["  ".join(_cells(row, widths, right)).rstrip() for row in rows]


def _cells(row: Sequence[str], widths: Sequence[int], right: frozenset[int]) -> Iterable[str]:
    for at, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.rjust(width) if at in right else cell.ljust(width)
