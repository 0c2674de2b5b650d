"""Says before money is asked for how many stored images are at their destination no more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cli.flow.session import note
from jobs.command_lines import command
from jobs.formatting import count
from worker.registration.destination import is_folder
from worker.registration.stored_images import look_for

if TYPE_CHECKING:
    from jobs.ledger import Ledger
    from jobs.ledger.batches.values import Batch
    from worker.registration.stored_images import Gone
    from worker.storage.base import Store


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
