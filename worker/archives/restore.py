"""Brings an archived batch back into the ledger: whatever changes its rows does that first."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from worker.archives.reading import ArchiveReader

if TYPE_CHECKING:
    from jobs.ledger import Ledger

T = TypeVar("T")

#: Attempts, or jobs with their images and events, that are brought back with one transaction.
CHUNK = 1_000


def bring_back(ledger: Ledger, name: str) -> bool:
    """Brings all rows of a batch back, exactly as they were; False: the ledger has them. Its archive stays.

    Broken off, it leaves the archive as what reports read; the same call goes on.

    Raises:
        LightfastError: The archive cannot be read. The ledger is as it was.
    """
    batch = ledger.batches.find(name)
    if batch is None or batch.archive is None:
        return False
    archive = ArchiveReader(batch.archive)
    if (address := ledger.pruning.begin_restoring(name)) is None:
        return False
    for books in _chunks(archive.books()):
        if not ledger.pruning.restore_books(batch.id, address, books):
            return True
    for some in _chunks(archive.rows_with_events()):
        jobs = [row.job for row, _ in some]
        images = [image for row, _ in some for image in row.images]
        events = [event for _, told in some for event in told]
        if not ledger.pruning.restore_rows(batch.id, address, jobs, images, events):
            return True
    ledger.pruning.end_restoring(batch.id, address, time.time() + ledger.clock_offset())
    return True


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    stream = iter(items)
    while chunk := list(islice(stream, CHUNK)):
        yield chunk
