"""Takes a finished batch into an archive: written, read back, compared, and only then out of the ledger.

Broken off anywhere, it leaves the whole batch in the ledger, or a whole archive. The same call goes on.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.errors import LightfastError, StoreError
from jobs.formatting import stamp, utc
from jobs.ledger.pruning.values import Candidate, Table
from worker.archives.files import CONTENT_TYPE, INDEX, Index, Part, PartWriter, demand_pyarrow, is_as_written
from worker.storage.base import PutResult
from worker.storage.opening import open_store

if TYPE_CHECKING:
    from jobs.ledger import Ledger
    from jobs.ledger.batches.values import Batch
    from jobs.ledger.pruning.pages import JobsPage
    from worker.storage.base import Store

#: Jobs, or attempts, of one file: so large that a million make forty, so small that one is held in memory (3 MB).
ROWS_OF_A_PART = 25_000

Tell = Callable[[int], None]
Now = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What was archived."""

    batch: str
    archive: str
    rows: int
    images: int
    attempts: int
    bytes: int  # of the archive; 0 where it had been written before


def prune(  # noqa: PLR0913  the batch, where to, and what a test or a sweep does otherwise
    ledger: Ledger,
    candidate: Candidate,
    place: str,
    older_than: float,
    *,
    now: Now = time.time,
    rest: Callable[[float], None] = time.sleep,
    yields: bool = False,
    tell: Tell | None = None,
) -> Pruned:
    """Archives one batch. Blocks. `older_than`: seconds that it ended before. `tell`: how many rows are done.

    Raises:
        NotPrunable: It may not be archived, or something happened to it meanwhile.
        LightfastError: The archive cannot be written, or is not what was written when it is read back.
    """
    batch = candidate.batch
    demand_pyarrow()
    if candidate.begun and batch.archive is not None:
        done = Pruned(batch=batch.name, archive=batch.archive, rows=candidate.rows, images=0, attempts=0, bytes=0)
    else:
        archive = f"{place}/{batch.name}-{stamp(now())}-{secrets.token_hex(4)}"
        was = ledger.pruning.begin(batch.name, archive, now(), older_than, yields=yields)
        index = _write(ledger, batch, archive, now, tell)
        ledger.pruning.commit(batch.name, archive, was, now(), older_than)
        done = _told(batch, archive, index)
    _slim(ledger, batch.id, done.archive, now, rest)
    return done


def _told(batch: Batch, archive: str, index: Index) -> Pruned:
    rows, images, attempts = (
        sum(part.rows for part in index.of(table)) for table in (Table.ROWS, Table.IMAGES, Table.BOOKS)
    )
    size = sum(part.bytes for part in index.parts)
    return Pruned(batch=batch.name, archive=archive, rows=rows, images=images, attempts=attempts, bytes=size)


def _write(ledger: Ledger, batch: Batch, archive: str, now: Now, tell: Tell | None) -> Index:
    try:
        store = open_store(archive)
        parts = list(_parts(ledger, batch, store, archive, now, tell))
        index = Index(batch=batch.name, ledger=ledger.ledger_id, written_at=utc(now()), parts=tuple(parts))
        text = index.to_json()
        store.put_new(INDEX, text, content_type="application/json")
        if store.read(INDEX) != text:
            raise _unfaithful(archive, INDEX)
    except StoreError as refused:
        raise _unwritable(batch, archive, f"{refused.message} ({refused.code})") from None
    except OSError as trouble:  # of the folder here that its files are written in first
        raise _unwritable(batch, archive, trouble.strerror or str(trouble)) from None
    return index


def _unwritable(batch: Batch, archive: str, why: str) -> LightfastError:
    return LightfastError(f"batch {batch.name} stays in the ledger: its archive {archive} cannot be written: {why}.")


def _parts(ledger: Ledger, batch: Batch, store: Store, archive: str, now: Now, tell: Tell | None) -> Iterator[Part]:
    with tempfile.TemporaryDirectory(prefix="lightfast-archive-") as folder:
        writing = _Writing(ledger=ledger, folder=Path(folder))
        done = 0
        for page in ledger.pruning.jobs(batch.id):
            done += len(page.rows)
            yield from _kept(ledger, store, archive, writing.add_page(page))
            if tell:
                tell(done)
            ledger.pruning.touch(batch.id, archive, now())
        for books in ledger.pruning.books(batch.name):
            yield from _kept(ledger, store, archive, writing.add(Table.BOOKS, books))
            if tell:
                tell(done)
        yield from _kept(ledger, store, archive, writing.close())


def _kept(ledger: Ledger, store: Store, archive: str, written: Iterator[tuple[Path, Part]]) -> Iterator[Part]:
    """Puts files where they belong, and reads them back."""
    for path, part in written:
        if store.put_new(part.name, path, content_type=CONTENT_TYPE) is not PutResult.STORED and (
            store.sha256_of(part.name) != part.sha256
        ):
            raise _unfaithful(archive, part.name)
        path.unlink()
        data = store.read(part.name)
        if data is None or not is_as_written(data, part, ledger.pruning.columns(part.table)):
            raise _unfaithful(archive, part.name)
        yield part


def _unfaithful(archive: str, name: str) -> LightfastError:
    return LightfastError(f"the archive {archive} reads differently from what was written ({name}). Nothing was lost.")


class _Writing:
    """The files that are being written: one of each table at a time."""

    def __init__(self, *, ledger: Ledger, folder: Path) -> None:
        self._ledger, self._folder = ledger, folder
        self._open: dict[Table, tuple[Path, PartWriter]] = {}
        self._numbers = dict.fromkeys(Table, 0)

    def add_page(self, page: JobsPage) -> Iterator[tuple[Path, Part]]:
        """Adds jobs with their images and events; files that are full are given away."""
        self._into(Table.IMAGES).add(page.images)
        self._into(Table.EVENTS).add(page.events)
        self._into(Table.ROWS).add(page.rows)
        if self._into(Table.ROWS).rows >= ROWS_OF_A_PART:
            yield from self.close()

    def add(self, table: Table, rows: list[dict[str, object]]) -> Iterator[tuple[Path, Part]]:
        """Adds rows of one table."""
        self._into(table).add(rows)
        if self._into(table).rows >= ROWS_OF_A_PART:
            yield from self.close()

    def _into(self, table: Table) -> PartWriter:
        if table not in self._open:
            path = self._folder / f"{table}-{self._numbers[table]:03}.parquet"
            self._numbers[table] += 1
            self._open[table] = path, PartWriter(path, table, self._ledger.pruning.columns(table))
        return self._open[table][1]

    def close(self) -> Iterator[tuple[Path, Part]]:
        """Ends the files that are open, and gives them away."""
        for table in [each for each in Table if each in self._open]:
            path, writer = self._open.pop(table)
            yield path, writer.close()


def _slim(ledger: Ledger, batch_id: int, archive: str, now: Now, rest: Callable[[float], None]) -> None:
    """Chunk by chunk, with a rest after each for as long as it took: others have the ledger half of the time."""
    after: int | None = 0
    while after is not None:
        began = time.monotonic()
        after = ledger.pruning.slim(batch_id, archive, after, now())
        rest(time.monotonic() - began)
