"""Rows that are appended to a batch: which place each takes among those on record, and with which columns.

A product may have several lines in a shop's export: one with a prompt, which is a job, and further ones (variants, more
pictures), which `--skip-empty` leaves out and the results give back. They have no key of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


def placed(tx: Connection, batch_id: int, rows: Iterable[Row]) -> Iterator[Row]:
    """The rows with positions after those on record, but for those that take the place of one.

    A row takes the place of one that was bad under its key, and a job that of one that was left out. What was left out
    beside a job of its key stays: it is a further line of that product. Further lines that come take the places of
    those on record, in their order where the product itself comes with as many or more, else of those they are.
    """
    last = tx.execute(select(func.max(jobs.c.position)).where(jobs.c.batch_id == batch_id)).scalar()
    after = 0 if last is None else last + 1
    left_out, begun = _left_out(tx, batch_id), set[str]()
    for chunk in _products(rows):
        several = {row.key for row in chunk if row.state is JobState.SKIPPED or row.key in left_out}
        made = _jobs_of(tx, batch_id, several)
        for key, group in groupby(chunk, attrgetter("key")):
            lines = list(group)
            if key not in several:
                yield from (replace(row, position=after + row.position) for row in lines)
                continue
            product = _Product(left_out.get(key, []), made.get(key), is_made=key in made or key in begun)
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

    def places(self, lines: Sequence[Row]) -> Iterator[tuple[Row, Any]]:
        """The lines that come, each with the row on record whose place it takes; None: none. Some are left."""
        further = [each for each in self.before if each.state == JobState.SKIPPED.value]
        coming = [row for row in lines if row.state is JobState.SKIPPED]
        has_own = len(coming) < len(lines)
        are_all = self.is_made and has_own and len(coming) >= len(further)
        for row in lines:
            if row.state is not JobState.SKIPPED:
                yield row, self._replaced(row)
            elif are_all and further:
                yield row, self._take(further.pop(0))
            elif all(each.carried != columns_of_both(each, row) for each in self.before):
                own = [] if has_own or self.job is None else [self.job]
                known = [*own, *(each for each in self.before if each.state == JobState.SKIPPED.value)]
                same = which_line([orjson.loads(each.carried) for each in known], orjson.loads(row.carried))
                if same is None:
                    yield row, None
                elif known[same] is not self.job:  # a product whose prompt is gone stays as it was
                    yield row, self._take(known[same])

    def _replaced(self, row: Row) -> Any:
        gone = [each for each in self.before if each.state == JobState.INVALID.value][:1]
        if not gone and row.state is not JobState.INVALID and not self.is_made:
            gone = self.before[:1]
        self.is_made |= row.state not in NO_JOB
        return self._take(gone[0]) if gone else None

    def _take(self, row: Any) -> Any:
        self.before.remove(row)
        return row


def which_line(known: Sequence[Mapping[str, object]], line: Mapping[str, object]) -> int | None:
    """Which line of a product this one is, with some values changed; None: a new one, as far as can be told.

    A value that one line alone has tells it from the others (its number, its colour). The line is the one with which it
    shares most of these, if they are more than what differs between the two.
    """
    held = Counter((name, str(value)) for each in known for name, value in each.items())
    shared = [
        sum(held[name, str(value)] == 1 and each.get(name) == value for name, value in line.items() if value)
        for each in known
    ]
    if not known:
        return None
    best = shared.index(max(shared))
    second = max((each for at, each in enumerate(shared) if at != best), default=0)
    others = sum(name in known[best] and known[best][name] != value for name, value in line.items())
    return best if shared[best] > max(others, second) else None


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
        wanted = select(jobs.c.key, jobs.c.carried).where(jobs.c.batch_id == batch_id, jobs.c.key.in_(some))
        found |= {row.key: row for row in tx.execute(wanted)}
    return found
