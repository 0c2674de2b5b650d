"""A batch whose images lie elsewhere now, and where its stored images are."""

from __future__ import annotations

from sqlalchemy import Connection, func, select, update

from jobs.ledger.batches.batches import batch_id_of
from jobs.ledger.batches.values import StoredPlace
from jobs.ledger.claims import copy_failures
from jobs.ledger.database.schema import IS_CURRENT, batches, images, jobs
from jobs.states import ImageState

#: Images read with one statement.
PAGE = 2_000


def move(tx: Connection, name: str, dest: str, now: float) -> None:
    """Binds the batch to another destination; images that rows of other batches only name there are named anew.

    What failed to be copied to the old one is tried at the new one at once.
    """
    batch_id = batch_id_of(tx, name)
    copy_failures.try_again(tx, batch_id, now)
    before = select(batches.c.dest).where(batches.c.id == batch_id).scalar_subquery()
    mine = select(images.c.id).where(images.c.batch_id == batch_id)
    tx.execute(update(images).where(images.c.origin_id.in_(mine), images.c.lies_at == before).values(lies_at=dest))
    tx.execute(update(batches).where(batches.c.id == batch_id).values(dest=dest))


_MINE = IS_CURRENT & (images.c.state == ImageState.STORED.value) & images.c.lies_at.is_(None)


def places(tx: Connection, batch_id: int, after: int) -> list[StoredPlace]:
    """The next page of the current stored images after an image's id: their paths below the destination."""
    wanted = select(images.c.id, images.c.object_path, jobs.c.key).select_from(jobs.join(images, IS_CURRENT))
    mine = (images.c.batch_id == batch_id, _MINE, images.c.id > after)
    return [StoredPlace(*row) for row in tx.execute(wanted.where(*mine).order_by(images.c.id).limit(PAGE))]


def ends(tx: Connection, name: str, few: int) -> tuple[int, list[StoredPlace]]:
    """How many current images are stored, and the paths of the first and the last `few` of them."""
    mine = (images.c.batch_id == batch_id_of(tx, name), _MINE)
    joined = jobs.join(images, IS_CURRENT)
    number = tx.execute(select(func.count()).select_from(joined).where(*mine)).scalar_one()
    wanted = select(images.c.id, images.c.object_path, jobs.c.key).select_from(joined).where(*mine).limit(few)
    rows = [*tx.execute(wanted.order_by(images.c.id)), *tx.execute(wanted.order_by(images.c.id.desc()))]
    return int(number), [StoredPlace(*row) for row in dict.fromkeys(map(tuple, rows))]
