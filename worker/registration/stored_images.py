"""Stored images that are at their destination no more, noticed before anything is paid.

A folder is looked through whole: that costs microseconds an image. Of a bucket a few images are asked for, the oldest
and the newest, which finds a prefix that was emptied or renamed; `lightfast verify` looks at all.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.command_lines import command
from jobs.errors import BadInput, StoreError
from jobs.formatting import count
from worker.registration.destination import is_folder
from worker.storage.disk import DiskStore
from worker.storage.ownership_mark import look

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jobs.ledger import Ledger
    from jobs.ledger.batches.values import Batch, StoredPlace
    from worker.storage.base import Store

#: Images of a bucket that are asked for at each end of the batch.
FEW = 4
#: Images that are named.
NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """Stored images that were looked for and not found."""

    stored: int  # current images of the batch on record as stored
    looked_at: int
    gone: int
    named: tuple[str, ...]  # paths of the first of them


def look_for(ledger: Ledger, batch: Batch, store: Store) -> Gone:
    """Looks whether stored images are there. What the store does not tell counts as there."""
    if is_folder(batch.dest):
        return _counted(ledger.images.places(batch.name), store)
    stored, ends = ledger.images.ends(batch.name, FEW)
    return _counted(ends, store, stored)


def _counted(places: Iterable[StoredPlace], store: Store, stored: int | None = None) -> Gone:
    looked_at, gone = 0, 0
    named: list[str] = []
    for place in places:
        looked_at += 1
        if not _is_there(store, place.path):
            gone += 1
            named += [place.path] * (len(named) < NAMED)
    return Gone(stored=looked_at if stored is None else stored, looked_at=looked_at, gone=gone, named=tuple(named))


def _is_there(store: Store, path: str) -> bool:
    try:
        return store.look(path) is not None
    except StoreError:
        return True


# -- a folder that is not there ------------------------------------------------------------------------------------


def missing_folder(ledger: Ledger, batch: Batch) -> Iterator[str]:
    """Why nothing is paid where the folder with a batch's images is not there: a run would begin it anew."""
    if not is_folder(batch.dest) or Path(batch.dest).is_dir():
        return
    stored, _ = ledger.images.ends(batch.name, 0)
    if not stored:
        return
    moved = _found_again(ledger, batch)
    where = f"; the folder {moved} is this batch's" if moved else ""
    images = count(stored, "image")
    yield (
        f"the folder {batch.dest} is not there, where batch {batch.name} has stored {images}{where}. Nothing was spent."
    )
    yield "If it was moved or renamed:  " + command(
        "move-destination", batch.name, str(moved or "NEW"), sandbox=batch.sandbox
    )
    yield f"If a disk is not mounted, mount it. If the images were deleted and may be gone:  mkdir -p {batch.dest}"


def demand_folder(ledger: Ledger, batch: Batch) -> None:
    """Raises `BadInput` where the folder with the batch's images is not there."""
    if told := list(missing_folder(ledger, batch)):
        raise BadInput(told)


def _found_again(ledger: Ledger, batch: Batch) -> Path | None:
    """The folder with our mark at the same place relative to the ledger, which may have been moved with it."""
    if ledger.path is None:
        return None
    parts = Path(batch.dest).parts[1:]
    for at in range(len(parts)):
        folder = ledger.path.parent.joinpath(*parts[at:])
        with contextlib.suppress(StoreError):
            if folder.is_dir() and (mark := look(DiskStore(folder), batch.name)) and mark.ledger == ledger.ledger_id:
                return folder
    return None
