"""Rows as the ledger keeps them: plain values, which can also be kept in a file until they are recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Self

from jobs.ledger.batches.appended import NO_JOB, shown_key, stored_key
from jobs.ledger.batches.values import Row
from jobs.ledger.database.schema import ASKED
from jobs.states import JobState
from providers.types import Request

#: The values of `COLUMNS`: text, bytes, numbers and None.
PlainRow = tuple[Any, ...]

COLUMNS = ("key", "position", "line", "error_code", "message", "state", "carried", *ASKED)
_REQUEST, _N = COLUMNS.index("request"), COLUMNS.index("n")


def plain(row: Row) -> PlainRow:
    """The row's values."""
    return (
        stored_key(row),
        row.position,
        row.line,
        row.error_code,
        row.message,
        row.state.value,
        row.carried,
        *values_asked(row),
    )


def values_asked(row: Row) -> PlainRow:
    """The values of `ASKED`."""
    request = row.request
    width, height = row.pixels or (None, None)
    return (
        request.to_json() if request else None,
        row.request_hash,
        row.path,
        row.provider,
        row.provider_model,
        row.price,
        row.mode,
        width,
        height,
        request.n if request else 1,
        row.max_n,
    )


@dataclass(frozen=True, slots=True)
class PlainRows:
    """Rows that follow each other, by column: most columns have the same value in all of them, which is kept once."""

    count: int
    columns: tuple[Sequence[Any], ...]  # as `COLUMNS`; each with a value for every row, or one for all

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Self:
        """At least one row."""
        return cls(len(rows), tuple(map(_once, zip(*map(plain, rows), strict=True))))

    def __iter__(self) -> Iterator[Row]:
        every = [column if len(column) == self.count else repeat(column[0], self.count) for column in self.columns]
        return map(row_of, zip(*every, strict=True))

    def images(self) -> Sequence[int]:
        """How many images each row asks for, or all: one number then. 0: it is no job."""
        requests, numbers = self.columns[_REQUEST], self.columns[_N]
        if None not in requests:
            return numbers
        if len(requests) == 1:
            return (0,)
        every = numbers if len(numbers) == self.count else repeat(numbers[0], self.count)
        return [0 if request is None else n for request, n in zip(requests, every, strict=True)]


def _once(column: tuple[Any, ...]) -> tuple[Any, ...]:
    return column[:1] if column.count(column[0]) == len(column) else column


def row_of(values: PlainRow) -> Row:
    """The inverse of `plain`."""
    key, position, line, error_code, message, state, carried, *asked = values
    request, request_hash, path, provider, provider_model, price, mode, width, height, _, max_n = asked
    state = JobState(state)
    return Row(
        position=position,
        line=line,
        key=shown_key(key) if state in NO_JOB else key,
        carried=carried,
        state=state,
        error_code=error_code,
        message=message,
        request=None if request is None else Request.from_canonical(request),
        request_hash=request_hash,
        path=path,
        provider=provider,
        provider_model=provider_model,
        price=price,
        mode=mode,
        pixels=None if width is None else (width, height),
        max_n=max_n,
    )
