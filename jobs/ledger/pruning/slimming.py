"""The bulk of a batch's rows, taken out of the ledger once its archive is whole, and brought back from there.

What stays of each job: its key, place in the manifest, state, path, price, and the hash of its request. Of each image:
where it lies, its hash and size. Attempts and events go. Each step takes one short transaction and may be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, case, delete, insert, null, select, update

from jobs.ledger.batches.batches import first_number
from jobs.ledger.database.schema import attempts, batches, events, hints, images, jobs
from jobs.ledger.pruning import pages
from jobs.ledger.pruning.candidates import SILENT, candidate
from jobs.ledger.pruning.values import Fingerprint, NotPrunable, Table
from jobs.policy.reuse import AS_HASHED
from jobs.states import IN_ARCHIVE, ArchiveStep
from providers.types import request_hash

#: Jobs that are emptied with one transaction: about 50 ms.
CHUNK = 500

#: What is emptied of a job, and of an image. `source_id` only where the image was bought after all: `attempt_id` has
#: told that.
EMPTIED_OF_JOB = ("carried", "request", "message")
EMPTIED_OF_IMAGE = ("attempt_id", "source_id", "url", "spool", "expires_at", "holder", "cost", "message")


# -- the mark ------------------------------------------------------------------------------------------------------


def demand_prunable(tx: Connection, name: str, now: float, older_than: float) -> None:
    """Raises `NotPrunable` where the batch may not be archived."""
    row = tx.execute(select(batches).where(batches.c.name == name)).one()
    why = candidate(tx, row, now, older_than).reason
    if why is not None:
        raise NotPrunable(f"batch {name} is not archived: {why}.")


def begin(tx: Connection, name: str, archive: str, now: float, *, yields: bool) -> int:
    """Says that an archive of the batch is being written there; returns the batch's number. See `PruningVerbs.begin`.

    Raises:
        NotPrunable: It is on its way already.
    """
    row = tx.execute(select(batches).where(batches.c.name == name).with_for_update(key_share=True)).one()
    is_written = row.archive_step == ArchiveStep.WRITING and row.archive_at > now - SILENT
    if (is_written and yields) or row.archive_step in IN_ARCHIVE:
        raise NotPrunable(f"batch {name} is not archived: somebody else does that.")
    tx.execute(_mark(row.id, archive=archive, archive_step=ArchiveStep.WRITING.value, archive_at=now))
    return int(row.id)


def touch(tx: Connection, batch_id: int, archive: str, now: float) -> None:
    """A sign of life of whoever writes the archive."""
    mine = (batches.c.id == batch_id, batches.c.archive == archive)
    tx.execute(update(batches).where(*mine).values(archive_at=now))


def commit(  # noqa: PLR0913  the batch, its archive, and what both have to be like
    tx: Connection, name: str, archive: str, was: Fingerprint, now: float, *, sums: str, older_than: float
) -> str | None:
    """The archive is whole, was read back, and is the batch: from here on it is what reports read.

    `sums`: as `pages.sums`, of the same rows. Returns: Why it is not so, and the batch stays whole.
    """
    row = tx.execute(select(batches).where(batches.c.name == name).with_for_update(key_share=True)).one()
    if row.archive_step != ArchiveStep.WRITING or row.archive != archive:
        return "it was changed meanwhile, or somebody else archives it"
    reason = candidate(tx, row, now, older_than).reason
    if reason is None and pages.fingerprint(tx, row.id) == was:
        tx.execute(_mark(row.id, archive_step=ArchiveStep.SLIMMING.value, archive_at=now, archive_sums=sums))
        return None
    tx.execute(_mark(row.id, archive=None, archive_step=None, archive_at=None))
    return reason or "something happened to it meanwhile"


def _mark(batch_id: int, **values: Any) -> Any:
    return update(batches).where(batches.c.id == batch_id).values(**values)


def _demand_step(tx: Connection, batch_id: int, archive: str, step: ArchiveStep) -> bool:
    """Whether the batch is still at that step; holds it."""
    found = select(batches.c.archive, batches.c.archive_step).where(batches.c.id == batch_id)
    row = tx.execute(found.with_for_update(key_share=True)).one()
    return bool(row.archive == archive and row.archive_step == step)


# -- out of the ledger ---------------------------------------------------------------------------------------------


def slim(tx: Connection, batch_id: int, archive: str, after: int, now: float) -> int | None:
    """Empties the next jobs after a number; returns the last, or None when all are done, or it is not to go on."""
    if not _demand_step(tx, batch_id, archive, ArchiveStep.SLIMMING):
        return None
    bounds = (jobs.c.id > max(after, first_number(batch_id) - 1), jobs.c.id < first_number(batch_id + 1))
    wanted = select(jobs.c.id, jobs.c.request, jobs.c.request_hash).where(*bounds).order_by(jobs.c.id).limit(CHUNK)
    rows = tx.execute(wanted).all()
    if not rows:
        tx.execute(_mark(batch_id, archive_step=ArchiveStep.ARCHIVED.value, archive_at=now))
        return None
    first, last = rows[0].id, rows[-1].id
    tx.execute(_EMPTY_IMAGES, {"first": first, "last": last})
    mine = (attempts.c.job_id >= first, attempts.c.job_id <= last)
    tx.execute(delete(hints).where(hints.c.attempt_id.in_(select(attempts.c.id).where(*mine))))
    tx.execute(delete(attempts).where(*mine))
    tx.execute(delete(events).where(events.c.job_id >= first, events.c.job_id <= last))
    as_hashed = [row.id for row in rows if row.request and request_hash(bytes(row.request)) == row.request_hash]
    tx.execute(_EMPTY_JOBS, {"first": first, "last": last})
    tx.execute(update(jobs).where(jobs.c.id.in_(as_hashed)).values(request=AS_HASHED))
    tx.execute(_mark(batch_id, archive_at=now))
    return int(last)


_EMPTY_IMAGES = (
    update(images)
    .where(images.c.job_id >= bindparam("first"), images.c.job_id <= bindparam("last"))
    .values(
        **{name: null() for name in EMPTIED_OF_IMAGE if name != "source_id"},
        source_id=case((images.c.attempt_id.is_(None), images.c.source_id)),
    )
)
_EMPTY_JOBS = (
    update(jobs)
    .where(jobs.c.id >= bindparam("first"), jobs.c.id <= bindparam("last"))
    .values(carried=b"{}", message=null())
)


# -- and back ------------------------------------------------------------------------------------------------------


def begin_restoring(tx: Connection, name: str) -> str | None:
    """The address of the archive that the batch's rows are to be brought back from; None: the ledger has them."""
    row = tx.execute(select(batches).where(batches.c.name == name).with_for_update(key_share=True)).first()
    if row is None or row.archive_step not in IN_ARCHIVE:
        return None
    tx.execute(_mark(row.id, archive_step=ArchiveStep.RESTORING.value))
    return str(row.archive)


def restore_books(tx: Connection, batch_id: int, archive: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Brings attempts back that are not there; False: somebody else has done it all."""
    if not _demand_step(tx, batch_id, archive, ArchiveStep.RESTORING):
        return False
    ids = [row["id"] for row in rows]
    there = set(tx.execute(select(attempts.c.id).where(attempts.c.id.in_(ids))).scalars())
    lacking = [pages.of_ledger(Table.BOOKS, row) for row in rows if row["id"] not in there]
    if lacking:
        tx.execute(insert(attempts), lacking)
    return True


def restore_rows(
    tx: Connection,
    batch_id: int,
    archive: str,
    rows: Sequence[Mapping[str, Any]],
    of_images: Sequence[Mapping[str, Any]],
    told: Sequence[Mapping[str, Any]],
) -> bool:
    """Fills jobs and their images again, and brings their events back; False: somebody else has done it all."""
    if not _demand_step(tx, batch_id, archive, ArchiveStep.RESTORING):
        return False
    tx.execute(_FILL_JOB, [_filled(row, EMPTIED_OF_JOB) for row in rows])
    if of_images:
        tx.execute(_FILL_IMAGE, [_filled(row, EMPTIED_OF_IMAGE) for row in of_images])
    tx.execute(delete(events).where(events.c.job_id.in_([row["id"] for row in rows])))
    if told:  # with new numbers: the old ones may be others' by now
        tx.execute(
            insert(events), [{k: v for k, v in pages.of_ledger(Table.EVENTS, row).items() if k != "id"} for row in told]
        )
    return True


def _filled(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {"of_row": row["id"], **{f"was_{name}": row[name] for name in names}}


_FILL_JOB = (
    update(jobs)
    .where(jobs.c.id == bindparam("of_row"))
    .values({name: bindparam(f"was_{name}", type_=jobs.c[name].type) for name in EMPTIED_OF_JOB})
)
_FILL_IMAGE = (
    update(images)
    .where(images.c.id == bindparam("of_row"))
    .values({name: bindparam(f"was_{name}", type_=images.c[name].type) for name in EMPTIED_OF_IMAGE})
)


def end_restoring(tx: Connection, batch_id: int, archive: str, now: float) -> None:
    """The ledger has all of the batch again. Its schedule keeps it from now on as long as one that has ended now."""
    if _demand_step(tx, batch_id, archive, ArchiveStep.RESTORING):
        tx.execute(_mark(batch_id, archive=None, archive_step=None, archive_at=now, archive_sums=None))
