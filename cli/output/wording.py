"""Lines in columns, and words that several screens share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from jobs.formatting import money
from jobs.states import JobState

if TYPE_CHECKING:
    from jobs.ledger.reports.values import Progress


def at_most(micros: int) -> str:
    """Money that is set aside, as "at most $1.20". Where tokens are billed, the estimate is less."""
    return f"at most {money(micros)}"


def row_words(progress: Progress) -> Iterator[tuple[JobState, int, str]]:
    """Rows by state, in the order of the states, in words that tell what they wait for."""
    for state in JobState:
        if number := progress.jobs.get(state, 0):
            yield state, number, _WAITING.get(state, state.value)


#: What `lf_status` calls ready and working, as people are told of it. What is done for rows under way: `under_way`.
_WAITING = {JobState.READY: "waiting for their turn", JobState.WORKING: "under way"}


def under_way(progress: Progress) -> str:
    """What is being done for rows under way: images that the provider makes, and images that are copied."""
    parts = [f"{progress.images_in_flight:,} being made"] * bool(progress.images_in_flight)
    parts += [f"{progress.images_generated:,} being copied"] * bool(progress.images_generated)
    return ", ".join(parts)


def one_line(text: str) -> str:
    """All of the text, in one line: for what may end with the command, or the words, that help."""
    return " ".join(text.split())


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
