"""An archive as reports read it: a file at a time, each compared with its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jobs.errors import LightfastError, StoreError
from jobs.ledger.pruning.values import Table
from jobs.ledger.reports.archived import ArchivedRow, RowWithImages, WholeRow
from worker.archives.files import INDEX, Index, Part, demand_pyarrow, rows_of
from worker.storage.opening import open_store

if TYPE_CHECKING:
    from worker.storage.base import Store


class ArchiveReader:
    """The archive at one address."""

    def __init__(self, address: str) -> None:
        demand_pyarrow()
        self.address = address
        try:
            self._store: Store = open_store(address)
            self.index = Index.from_json(self._read(INDEX))
        except StoreError as refused:
            raise self._unreadable(f"{refused.message} ({refused.code})") from None
        except ValueError as wrong:
            raise self._unreadable(f"{INDEX}: {wrong}") from None

    def rows(self) -> Iterator[RowWithImages]:
        """Every job by its position, and then those that are in the newest manifest no more."""
        images = _Grouped(self.table(Table.IMAGES))
        for job in self.table(Table.ROWS):
            yield RowWithImages(job=job, images=images.of(job["id"]))

    def rows_with_events(self) -> Iterator[tuple[RowWithImages, list[dict[str, Any]]]]:
        """The same, with what happened to each job."""
        events = _Grouped(self.table(Table.EVENTS))
        return ((row, events.of(row.job["id"])) for row in self.rows())

    def books(self) -> Iterator[ArchivedRow]:
        """Every attempt, in the order of their intents."""
        return self.table(Table.BOOKS)

    def of_job(self, job_id: int) -> WholeRow | None:
        """One job, and all that happened to it."""
        found = {table: list(self._of_job(table, job_id)) for table in Table}
        if not found[Table.ROWS]:
            return None
        return WholeRow(
            job=found[Table.ROWS][0],
            images=found[Table.IMAGES],
            attempts=found[Table.BOOKS],
            events=found[Table.EVENTS],
        )

    def table(self, table: Table) -> Iterator[dict[str, Any]]:
        """All rows of one table, in their order."""
        for part in self.index.of(table):
            yield from rows_of(self._part(part))

    def _of_job(self, table: Table, job_id: int) -> Iterator[dict[str, Any]]:
        for part in self.index.of(table):
            if part.first_job <= job_id <= part.last_job:
                yield from rows_of(self._part(part), job_id)

    def _part(self, part: Part) -> bytes:
        data = self._read(part.name)
        if hashlib.sha256(data).hexdigest() != part.sha256:
            raise self._unreadable(f"{part.name} is not as it was written")
        return data

    def _read(self, name: str) -> bytes:
        try:
            data = self._store.read(name)
        except StoreError as refused:
            raise self._unreadable(f"{refused.message} ({refused.code})") from None
        if data is None:
            raise self._unreadable(f"there is no {name}")
        return data

    def _unreadable(self, why: str) -> LightfastError:
        return LightfastError(f"the archive {self.address} cannot be read: {why}. Nothing was changed.")


class _Grouped:
    """Rows that come in the order of their jobs, job by job."""

    def __init__(self, rows: Iterator[dict[str, Any]]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def of(self, job_id: int) -> list[dict[str, Any]]:
        """The rows of the next job that is asked for."""
        found = []
        while self._next is not None and self._next["job_id"] == job_id:
            found.append(self._next)
            self._next = next(self._rows, None)
        return found
