"""Stored images that are at their destination no more, noticed before anything is paid.

A folder is looked through whole: that costs microseconds an image. Of a bucket a few images are asked for, the oldest
and the newest, which finds a prefix that was emptied or renamed; `lightfast verify` looks at all.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.flow.outputs import is_folder
from cli.flow.session import note
from cli.output.commands import command
from jobs.errors import BadInput, StoreError
from jobs.formatting import count

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


def warn(ledger: Ledger | None, batch: Batch | None, store: Store) -> Gone | None:
    """Says how many stored images are gone, and what helps. None: nothing is stored, or there is no folder."""
    if ledger is None or batch is None or (is_folder(batch.dest) and not Path(batch.dest).is_dir()):
        return None
    found = look_for(ledger, batch, store)
    if found.gone:
        note(told(batch, found))
    return found if found.stored else None


def warn_in_folder(ledger: Ledger, batch: Batch) -> None:
    """The same where nothing is run, and where looking costs next to nothing: in a folder."""
    from worker.storage.opening import open_store

    if not is_folder(batch.dest):
        return
    if Path(batch.dest).is_dir():
        warn(ledger, batch, open_store(batch.dest))
    elif stored := ledger.images.ends(batch.name, 0)[0]:
        moved = command("move-destination", batch.name, "NEW", sandbox=batch.sandbox)
        images = f"{count(stored, 'image')} on record"
        note(f"warning: the folder {batch.dest} with {images} is not there. If it was moved or renamed:  {moved}")


def told(batch: Batch, found: Gone) -> str:
    """That images are gone, in words."""
    verb = "is" if found.gone == 1 else "are"
    if found.looked_at < found.stored:
        which = f"{found.gone:,} of {count(found.looked_at, 'stored image')} that were looked for, of {found.stored:,},"
    else:
        which = f"{found.gone:,} of {count(found.stored, 'stored image')}"
    more = ", …" if found.gone > len(found.named) else ""
    look = command("verify", batch.name, "--quick", sandbox=batch.sandbox)
    mend = command("verify", batch.name, "--quick", "--repair", sandbox=batch.sandbox)
    return (
        f"warning: {which} {verb} no longer in {batch.dest} ({', '.join(found.named)}{more}). "
        "Their rows still count as done, and a run does not make them again.\n"
        f"  To see each, and what brings it back:  {look}\n"
        f"  To copy again, for nothing, those whose links still live:  {mend}"
    )


def document(found: Gone | None) -> dict[str, object]:
    """The same for programs; 0 where nothing is stored yet."""
    return {
        "stored_images": {
            "on_record": found.stored if found else 0,
            "looked_at": found.looked_at if found else 0,
            "gone": found.gone if found else 0,
        }
    }


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
    from worker.storage.disk import DiskStore
    from worker.storage.ownership_mark import look

    if ledger.path is None:
        return None
    parts = Path(batch.dest).parts[1:]
    for at in range(len(parts)):
        folder = ledger.path.parent.joinpath(*parts[at:])
        with contextlib.suppress(StoreError):
            if folder.is_dir() and (mark := look(DiskStore(folder), batch.name)) and mark.ledger == ledger.ledger_id:
                return folder
    return None
