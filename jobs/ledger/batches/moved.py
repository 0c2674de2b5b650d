"""A batch whose images lie elsewhere now, and where its stored images are."""

from __future__ import annotations

from sqlalchemy import Connection, func, select, update

from jobs.ledger.accounts import workers
from jobs.ledger.accounts.places import SILENT_WORKERS
from jobs.ledger.batches.batches import batch_id_of, batch_of, demand_whole
from jobs.ledger.batches.values import StillStoring, StoredPlace, StoredTotal
from jobs.ledger.claims import copy_failures
from jobs.ledger.database.schema import IS_CURRENT, attempts, batches, images, jobs
from jobs.states import IN_FLIGHT, BatchState, ImageState, JobState

#: Images read with one statement.
PAGE = 2_000
#: Seconds for which images that wait for their copy are left alone after a move; longer than a claim takes.
_LEFT_ALONE = 5.0


def move(
    tx: Connection, name: str, dest: str, now: float, *, compared: StoredTotal | None, alive_since: float | None
) -> StillStoring | None:
    """Binds the batch to another destination; images that rows of other batches only name there are named anew.

    What failed to be copied to the old one is tried at the new one at once. `compared`: what was stored before the
    images were compared; None: nothing can have been stored since. `alive_since`: as `still_storing`, which is asked
    again here, where nobody can begin a copy or a submit of the batch before all is written.

    Returns: Why nothing was changed; None: the batch is moved.
    """
    batch_id = batch_id_of(tx, name)
    waiting = (images.c.batch_id == batch_id, images.c.state == ImageState.GENERATED.value)
    tx.execute(select(images.c.id).where(*waiting).order_by(images.c.id).with_for_update()).all()
    tx.execute(select(batches.c.id).where(batches.c.id == batch_id).with_for_update())
    if alive_since is not None and (found := still_storing(tx, name, now, alive_since)):
        return found
    if compared is not None and stored_total(tx, name) != compared:
        return StillStoring(stored=True)
    demand_whole(tx, batch_id)
    copy_failures.try_again(tx, batch_id, now)
    if alive_since is not None:
        # A claim that is being made at this moment may have read the old destination: it finds them not due any more.
        due = (*waiting, images.c.next_copy_at.is_not(None))
        tx.execute(update(images).where(*due).values(next_copy_at=now + _LEFT_ALONE))
    before = select(batches.c.dest).where(batches.c.id == batch_id).scalar_subquery()
    mine = select(images.c.id).where(images.c.batch_id == batch_id)
    tx.execute(update(images).where(images.c.origin_id.in_(mine), images.c.lies_at == before).values(lies_at=dest))
    tx.execute(update(batches).where(batches.c.id == batch_id).values(dest=dest))
    return None


def still_storing(tx: Connection, name: str, now: float, alive_since: float) -> StillStoring | None:
    """Why images of a batch may yet be stored at its destination: workers live, and some are on their way or wait.

    A copy that is under way counts in any case: a worker that has just begun has not shown life yet. `alive_since`:
    Unix seconds; a worker that showed life later is alive.
    """
    batch = batch_of(tx, batch_id_of(tx, name))
    of_batch = (images.c.batch_id == batch.id, images.c.state == ImageState.GENERATED.value)
    is_leased = (images.c.lease_until > now) & images.c.holder.not_in(SILENT_WORKERS)
    told = {"moment": now, "me": None}
    copying = tx.execute(select(func.count()).where(*of_batch, is_leased), told).scalar_one()
    if not workers.seen(tx, alive_since):
        return StillStoring(moving=copying) if copying else None
    due = tx.execute(select(func.count()).where(*of_batch, images.c.next_copy_at.is_not(None) | is_leased), told)
    flying = attempts.c.state.in_(IN_FLIGHT) | attempts.c.next_poll_at.is_not(None)
    missing = select(func.coalesce(func.sum(attempts.c.n - attempts.c.came), 0))
    moving = due.scalar_one() + int(tx.execute(missing.where(attempts.c.batch_id == batch.id, flying)).scalar_one())
    ready = (jobs.c.batch_id == batch.id, jobs.c.state == JobState.READY.value, jobs.c.position.is_not(None))
    waits = batch.state is BatchState.ACTIVE and tx.execute(select(jobs.c.id).where(*ready).limit(1)).first()
    return StillStoring(moving=moving, waits=bool(waits)) if moving or waits else None


def stored_total(tx: Connection, name: str) -> StoredTotal:
    """How many images of a batch are stored at its destination, and when the newest of them was."""
    mine = (images.c.batch_id == batch_id_of(tx, name), images.c.state == ImageState.STORED.value)
    counted = select(func.count(), func.coalesce(func.max(images.c.stored_at), 0.0))
    return StoredTotal(*tx.execute(counted.where(*mine, images.c.lies_at.is_(None))).one())


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
