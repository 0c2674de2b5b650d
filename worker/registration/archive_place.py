"""Where the archive of a batch is to lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.errors import BadInput
from worker.registration.preflight import normal_dest
from worker.storage.base import OWN

if TYPE_CHECKING:
    from jobs.ledger.batches.values import Batch
    from jobs.settings.model import Storage

#: Below a batch's destination, where no other place for archives is set.
FOLDER = f"{OWN}/archive"


def place_for(batch: Batch, storage: Storage) -> str:
    """The folder or prefix in which the batch's archive is to lie.

    Raises:
        BadInput: It would be public.
    """
    place = normal_dest(storage.archive) or f"{batch.dest.rstrip('/')}/{FOLDER}"
    public = [root for root in (batch.dest, normal_dest(storage.to)) if root] if storage.public_url else []
    if any(f"{place}/".startswith(f"{root.rstrip('/')}/") for root in public):
        raise BadInput(
            f"the archive of batch {batch.name} would lie at {place}, which people can read at {storage.public_url}, "
            "and it has every prompt and price: name another place with [storage] archive. Nothing was changed."
        )
    return place
