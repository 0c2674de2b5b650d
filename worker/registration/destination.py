"""A batch's destination before anything is paid: that it takes writes, and that no other ledger has begun the batch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.errors import BadInput, LightfastError, StoreError
from worker.storage.opening import open_store
from worker.storage.ownership_mark import another, look

if TYPE_CHECKING:
    from worker.storage.base import Probed, Store


def is_folder(dest: str) -> bool:
    """Whether the destination is on this machine."""
    return "://" not in dest or dest.startswith("file://")


def probe(dest: str) -> tuple[Store, Probed]:
    """Writes, reads and deletes an object at DEST. A bucket that is wrong is wrong input."""
    try:
        store = open_store(dest)
        probed = store.probe()
    except StoreError as refused:
        text = f"{dest}: {refused.message} ({refused.code}). Nothing was spent."
        if _may_pass(refused):
            raise LightfastError(text) from None
        raise BadInput(text) from None
    return store, probed


def _may_pass(refused: StoreError) -> bool:
    """Whether it may pass by itself, unlike a missing bucket or a missing right."""
    return refused.retryable and not refused.denied and refused.code != "bucket_missing"


@contextlib.contextmanager
def trackless(dest: str) -> Iterator[None]:
    """Removes at the end what a probe of a folder made, and the folder itself if it was not there."""
    folder = Path(dest) if dest and "://" not in dest else None
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)] if folder else []
    try:
        yield
    finally:
        for path in [folder / ".lightfast" / "parts", folder / ".lightfast", *missing] if folder else []:
            with contextlib.suppress(OSError):  # not empty: something is kept there
                path.rmdir()


def check_mark(store: Store, batch: str, ledger_id: str | None) -> None:
    """Raises `BadInput` if another ledger has begun this batch. `ledger_id`: None if our ledger does not exist yet."""
    found = look(store, batch)
    if found is not None and found.ledger != ledger_id:
        raise BadInput(another(store, batch, found))
