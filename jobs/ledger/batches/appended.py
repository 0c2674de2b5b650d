"""Rows that are appended to a batch: which place each takes among those on record, and with which columns.

A product may have several lines in a shop's export: one with a prompt, which is a job, and further ones (variants, more
pictures), which `--skip-empty` leaves out and the results give back. They have no key of their own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import groupby, islice
from operator import attrgetter
from typing import Any

import orjson
from sqlalchemy import Connection, delete, func, literal_column, select

from jobs.errors import UNREADABLE_ROW
from jobs.ledger.batches.values import Row
from jobs.ledger.database.schema import images, jobs
from jobs.states import JobState

#: Rows that stand for no job: bad ones under --skip-bad, and those left out on the user's word.
NO_JOB = (JobState.SKIPPED, JobState.INVALID)
#: Rows looked up with one statement.
_CHUNK = 1000


def placed(tx: Connection, batch_id: int, appended: Iterable[Row]) -> Iterator[Row]:
    """The rows with positions after those on record, but for those that take the place of one.

    A row takes the place of one that was bad under its key, and a job that of one that was left out. What was left out
    beside a job of its key stays: it is a further line of that product. Further lines that come take the places of
    those on record that they are, by what tells these apart.
    """
    last = tx.execute(select(func.max(jobs.c.position)).where(jobs.c.batch_id == batch_id)).scalar()
    after = 0 if last is None else last + 1
    left_out, begun = _left_out(tx, batch_id), set[str]()
    skipped = (row for rows in left_out.values() for row in rows if row.state == JobState.SKIPPED.value)
    numbers = numbers_of(orjson.loads(row.carried) for row in skipped)
    for chunk in _products(appended):
        several = {row.key for row in chunk if row.state is JobState.SKIPPED or row.key in left_out}
        made = _jobs_of(tx, batch_id, several)
        for key, group in groupby(chunk, attrgetter("key")):
            lines = list(group)
            if key not in several:
                yield from (replace(row, position=after + row.position) for row in lines)
                continue
            product = _Product(
                left_out.get(key, []), made.get(key), is_made=key in made or key in begun, numbers=numbers
            )
            for row, before in product.places(lines):
                if before is None:
                    yield replace(row, position=after + row.position)
                else:
                    tx.execute(delete(jobs).where(jobs.c.id == before.id))
                    yield replace(row, position=before.position, carried=columns_of_both(before, row))
            if any(row.state not in NO_JOB for row in lines):
                begun.add(key)


def columns_of_both(before: Any, row: Row) -> bytes:
    """What the row carries, and of the row on record the columns that the appended file does not have."""
    had, has = orjson.loads(before.carried), orjson.loads(row.carried)
    if before.error_code == UNREADABLE_ROW or had.keys() <= has.keys():
        return row.carried
    return orjson.dumps(had | has)


def has_images() -> Any:
    """Whether a job has any image, as a condition."""
    return select(literal_column("1")).where(images.c.job_id == jobs.c.id).exists()


def stored_key(row: Row) -> str:
    """A row that is no job may repeat a job's key, so it is stored under its position."""
    return f"\x1f{row.position}\x1f{row.key}" if row.state in NO_JOB else row.key


def shown_key(key: str) -> str:
    """The inverse of `stored_key`."""
    return key.split("\x1f", 2)[2] if key.startswith("\x1f") else key


# -- the lines of one product --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Product:
    """What the batch has under one key; a row whose place is taken is removed."""

    before: list[Any]  # the rows that were left out or bad, in their order
    job: Any  # the row of its job, if there was one before; None: there was none
    is_made: bool  # it has a job
    numbers: AbstractSet[str]  # columns

    def places(self, lines: Sequence[Row]) -> Iterator[tuple[Row, Any]]:
        """The lines that come, each with the row on record whose place it takes; None: none. Some are left."""
        coming = [row for row in lines if row.state is JobState.SKIPPED]
        has_own = len(coming) < len(lines)
        further = [each for each in self.before if each.state == JobState.SKIPPED.value]
        known = further if has_own or self.job is None else [self.job, *further]
        same = self._which(coming, known, are_all=has_own and len(coming) == len(further))
        for row in lines:
            if row.state is not JobState.SKIPPED:
                # Not one that comes as a line of its own, too.
                yield row, self._replaced(row, [each for each in self.before if each not in same.values()])
                continue
            before = same.get(row.position)
            if before is None:
                yield row, None
            elif before is not self.job and before.carried != columns_of_both(before, row):
                yield row, self._take(before)

    def _which(self, coming: Sequence[Row], known: Sequence[Any], *, are_all: bool) -> dict[int, Any]:
        """The row on record that each line is, by the line's position: the same one, or one with some values changed.

        `are_all`: as many come as are known. A line with a single value of its own is told by its place then.
        """
        same: dict[int, Any] = {}
        left, lines, held = list(known), self._lines(), self._held()
        for row in coming:
            before = next((each for each in left if each.carried == columns_of_both(each, row)), None)
            if before is not None:
                same[row.position] = before
                left.remove(before)
        for row in [each for each in coming if each.position not in same]:
            values = [orjson.loads(each.carried) for each in left]
            at = which_line(values, orjson.loads(row.carried), self.numbers, held)
            if at is not None:
                same[row.position] = left.pop(at)
        rest = [each for each in coming if each.position not in same]
        if are_all:
            for row, before in zip(rest, left, strict=True):
                line = orjson.loads(row.carried)
                own = sum(held[name, str(value)] < len(lines) for name, value in line.items() if value)
                if own <= 1 and _differences(orjson.loads(before.carried), line) <= 1:
                    same[row.position] = before
        return same

    def _lines(self) -> list[Line]:
        return [orjson.loads(each.carried) for each in [self.job, *self.before] if each is not None]

    def _held(self) -> Counter[tuple[str, str]]:
        return Counter((name, str(value)) for each in self._lines() for name, value in each.items())

    def _replaced(self, row: Row, free: Sequence[Any]) -> Any:
        """The row whose place a job or a bad row takes."""
        gone = next((each for each in free if each.state == JobState.INVALID.value), None)
        if gone is None and free and row.state is not JobState.INVALID and not self.is_made:
            known = [orjson.loads(each.carried) for each in free]
            gone = free[which_line(known, orjson.loads(row.carried), self.numbers, self._held()) or 0]
        self.is_made |= row.state not in NO_JOB
        return self._take(gone) if gone is not None else None

    def _take(self, row: Any) -> Any:
        self.before.remove(row)
        return row


Line = Mapping[str, object]
#: A price, a weight, a stock: a decimal number, or a small one.
_AMOUNT = re.compile(r"\s*-?(\d+[.,]\d+|0|[1-9]\d{0,3})\s*")


def which_line(
    known: Sequence[Line], line: Line, numbers: AbstractSet[str], held: Mapping[tuple[str, str], int]
) -> int | None:
    """Which line of a product this one is, with some values changed; None: a new one, as far as can be told.

    `numbers`: columns in which no two lines on record have the same, such as article numbers. They decide, where more
    of them agree than differ. Else a value that one line of the product alone has tells it from the others (its
    colour): the line is the one with which it shares most of these, if they are more than what differs between the two.
    `held`: how many lines of the product have a value. Amounts tell nothing: prices may all differ, and change.
    """
    if not known:
        return None
    by_number = [_agreeing(each, line, numbers) for each in known]
    best = by_number.index(max(by_number))
    if by_number[best] > 0 and by_number.count(by_number[best]) == 1:
        return best
    shared = [
        sum(held[name, text] == 1 and str(each.get(name)) == text for name, text in _telling(line)) for each in known
    ]
    best = shared.index(max(shared))
    second = max((each for at, each in enumerate(shared) if at != best), default=0)
    return best if shared[best] > max(_differences(known[best], line), second) else None


def _agreeing(known: Line, line: Line, numbers: AbstractSet[str]) -> int:
    """In how many more of these columns they agree than differ, where both have a value."""
    both = [(known[name], line[name]) for name in numbers if known.get(name) and line.get(name)]
    return sum(1 if one == other else -1 for one, other in both)


def _differences(known: Line, line: Line) -> int:
    return sum(
        name in known and known[name] != value and not (_is_amount(value) and _is_amount(known[name]))
        for name, value in line.items()
    )


def _telling(line: Line) -> Iterator[tuple[str, str]]:
    return ((name, str(value)) for name, value in line.items() if value and not _is_amount(value))


def _is_amount(value: object) -> bool:
    return _AMOUNT.fullmatch(str(value)) is not None


def numbers_of(lines: Iterable[Line]) -> frozenset[str]:
    """The columns in which no two of these lines have the same value, and at least two have one that is no amount."""
    seen: dict[str, set[str]] = {}
    repeated: set[str] = set()
    for line in lines:
        for name, value in line.items():
            if value and name not in repeated:
                values = seen.setdefault(name, set())
                if str(value) in values:
                    repeated.add(name)
                    del seen[name]
                values.add(str(value))
    unlike = {name: values for name, values in seen.items() if name not in repeated and len(values) > 1}
    return frozenset(name for name, values in unlike.items() if not all(map(_is_amount, values)))


# -- what is on record ---------------------------------------------------------------------------------------------


def _products(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows by the thousand; lines of one key that follow each other stay together."""
    stream = iter(rows)
    chunk: list[Row] = []
    for row in stream:
        if len(chunk) >= _CHUNK and row.key != chunk[-1].key:
            yield chunk
            chunk = []
        chunk.append(row)
    if chunk:
        yield chunk


def _left_out(tx: Connection, batch_id: int) -> dict[str, list[Any]]:
    """Rows on record that stand for no job and have no image, by their keys, in their order."""
    mine = (jobs.c.batch_id == batch_id, jobs.c.state.in_(NO_JOB), ~has_images())
    told = (jobs.c.id, jobs.c.key, jobs.c.state, jobs.c.error_code, jobs.c.carried, jobs.c.position)
    found: dict[str, list[Any]] = {}
    for row in tx.execute(select(*told).where(*mine).order_by(jobs.c.position)):
        found.setdefault(shown_key(row.key), []).append(row)
    return found


def _jobs_of(tx: Connection, batch_id: int, keys: Iterable[str]) -> dict[str, Any]:
    """The jobs under these keys, with the columns they have."""
    stream, found = iter(keys), dict[str, Any]()
    while some := list(islice(stream, _CHUNK)):
        wanted = select(jobs.c.key, jobs.c.carried, jobs.c.error_code).where(
            jobs.c.batch_id == batch_id, jobs.c.key.in_(some)
        )
        found |= {row.key: row for row in tx.execute(wanted)}
    return found
