"""Rows that a lost ledger knew, rebuilt from their objects: stored, and without a request until a manifest comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from jobs.ledger.batches.adopted_values import AdoptedImage, AdoptedRow
from jobs.ledger.batches.batches import demand_whole, find_batch, number_jobs, upsert_batch
from jobs.ledger.batches.values import NewBatch, Row
from jobs.ledger.database.job_state import derive_jobs
from jobs.ledger.database.schema import ASKED, images, jobs
from jobs.states import ImageState, JobState

#: Rows written with one statement.
_CHUNK = 500


def adopt(tx: Connection, new: NewBatch, rows: Sequence[AdoptedRow], now: float) -> int:
    """Takes rows on record whose keys are not there, all or none; returns how many."""
    batch = find_batch(tx, new.name)
    batch_id = batch.id if batch else upsert_batch(tx, new, now)
    fresh = _unknown(tx, batch_id, rows)
    if fresh:
        demand_whole(tx, batch_id)
    _insert_rows(tx, batch_id, fresh, number_jobs(tx, batch_id, len(fresh)))
    return len(fresh)


def _unknown(tx: Connection, batch_id: int, rows: Sequence[AdoptedRow]) -> list[AdoptedRow]:
    """Those whose keys the batch does not have: what is on record is better than what objects tell."""
    known: set[str] = set()
    for start in range(0, len(rows), _CHUNK):
        keys = [row.key for row in rows[start : start + _CHUNK]]
        known |= set(tx.execute(select(jobs.c.key).where(jobs.c.batch_id == batch_id, jobs.c.key.in_(keys))).scalars())
    return [row for row in rows if row.key not in known]


def _insert_rows(tx: Connection, batch_id: int, rows: Sequence[AdoptedRow], first: int) -> None:
    """Puts them on record as stored; nothing is known of what they cost."""
    for start in range(0, len(rows), _CHUNK):
        part = list(enumerate(rows[start : start + _CHUNK], first + start))
        tx.execute(insert(jobs), [_job(number, batch_id, row, number - first) for number, row in part])
        slots = [_image(number, batch_id, image) for number, row in part for image in row.images]
        tx.execute(insert(images), slots)
        derive_jobs(tx, [number for number, _ in part])


def _job(number: int, batch_id: int, row: AdoptedRow, position: int) -> dict[str, Any]:
    own = sum(image.revision == row.revision and not image.surplus for image in row.images)
    return {
        "id": number,
        "batch_id": batch_id,
        "key": row.key,
        "position": position,
        "line": 0,
        "state": JobState.DONE.value,
        "carried": b"{}",
        "request_hash": row.request_hash,
        "path": row.path,
        "n": own,
        "revision": row.revision,
    }


def _image(number: int, batch_id: int, image: AdoptedImage) -> dict[str, Any]:
    return {
        "batch_id": batch_id,
        "job_id": number,
        "revision": image.revision,
        "slot": image.slot,
        "surplus": image.surplus,
        "state": ImageState.STORED.value,
        "object_path": image.path,
        "sha256": image.sha256,
        "bytes": image.bytes,
        "width": image.width,
        "height": image.height,
        "format": image.format,
        "stored_at": image.stored_at,
    }


# -- the manifest comes --------------------------------------------------------------------------------------------


def fits(row: Row, job: Any) -> bool:
    """Whether a manifest's row asks for what the job has. An adopted one that nothing tells of is taken at its key."""
    return bool(job.request_hash == row.request_hash or (job.adopted and job.request_hash is None))


_COMPLETE = (
    update(jobs).where(jobs.c.id == bindparam("of_job")).values({name: bindparam(f"new_{name}") for name in ASKED})
)


def complete(tx: Connection, batch_id: int, pairs: Sequence[tuple[Any, dict[str, Any]]]) -> None:
    """Gives adopted jobs what their rows ask for, and the slots that no object was found for."""
    if not pairs:
        return
    tx.execute(_COMPLETE, [{"of_job": job.id, **{f"new_{n}": asked[n] for n in ASKED}} for job, asked in pairs])
    there = _slots_there(tx, [job.id for job, _ in pairs])
    lacking = [
        {
            "batch_id": batch_id,
            "job_id": job.id,
            "revision": job.revision,
            "slot": slot,
            "state": ImageState.MISSING.value,
        }
        for job, asked in pairs
        for slot in range(asked["n"])
        if (job.id, job.revision, slot) not in there
    ]
    if lacking:
        tx.execute(insert(images), lacking)
    derive_jobs(tx, [job.id for job, _ in pairs])


def _slots_there(tx: Connection, job_ids: list[int]) -> set[tuple[int, int, int]]:
    mine = (images.c.job_id.in_(job_ids), images.c.surplus.is_(False))
    found = tx.execute(select(images.c.job_id, images.c.revision, images.c.slot).where(*mine))
    return {(row.job_id, row.revision, row.slot) for row in found}
