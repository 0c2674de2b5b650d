"""Lines in columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def aligned(rows: Iterable[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Lines with their cells in columns; `right`: the columns of numbers."""
    rows = [tuple(row) for row in rows]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))] if rows else []
    return ["  ".join(_cells(row, widths, right)).rstrip() for row in rows]


def narrowed(
    rows: Sequence[Sequence[str]], width: int | None, *, less: Iterable[int], right: frozenset[int] = frozenset()
) -> list[str]:
    """Lines with their cells in columns, as `aligned`. `less`: columns that are left out, in order, until they fit."""
    kept, left_out = list(range(len(rows[0]))), iter(less)
    while True:
        numbers = frozenset(at for at, column in enumerate(kept) if column in right)
        lines = aligned([[row[column] for column in kept] for row in rows], right=numbers)
        if width is None or max(map(len, lines)) <= width or (column := next(left_out, None)) is None:
            return lines
        kept.remove(column)


def _cells(row: Sequence[str], widths: Sequence[int], right: frozenset[int]) -> Iterable[str]:
    for at, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.rjust(width) if at in right else cell.ljust(width)
