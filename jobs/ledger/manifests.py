"""Manifests on their way in: one transaction records a whole manifest, or nothing of it.

Rows that are there already keep what was paid for them. Rows that are not in the newest manifest lose their position:
they are not submitted any more and not shown, but what runs for them is still polled, copied and stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Connection, bindparam, case, delete, func, insert, literal_column, select, true, update

from jobs.ledger import adopted
from jobs.ledger.derived import WRONG_PIXELS, derive_jobs
from jobs.ledger.events import write_events
from jobs.ledger.schema import batches, events, images, jobs
from jobs.ledger.values.batches import Known, NewBatch, Row
from jobs.states import Batch, Image, Job
from providers.dialect import Request

#: Jobs a batch can number before they would run into the next batch's.
_JOBS_A_BATCH = 1 << 32
#: Rows written with one statement.
_CHUNK = 1000

#: Rows that stand for no job: bad ones under --skip-bad, and those left out on the user's word.
_NO_JOB = (Job.SKIPPED, Job.INVALID)


def known(tx: Connection, batch_id: int, keys: Sequence[str]) -> dict[str, Known]:
    """What the ledger holds under these keys."""
    found: dict[str, Known] = {}
    for start in range(0, len(keys), _CHUNK):
        part = keys[start : start + _CHUNK]
        for row in tx.execute(_known(batch_id, part)):
            found[row.key] = _as_known(row)
    return found


def _known(batch_id: int, keys: Sequence[str]) -> Any:
    missing = images.c.state == Image.MISSING
    free = missing & images.c.attempt_id.is_(None)
    mine = (images.c.job_id == jobs.c.id) & (images.c.revision == jobs.c.revision) & images.c.surplus.is_(False)
    return (
        select(
            jobs.c.id,
            jobs.c.key,
            jobs.c.request_hash,
            jobs.c.state,
            jobs.c.path,
            jobs.c.closed,
            jobs.c.request.is_(None).label("adopted"),
            func.count().label("slots"),
            func.sum(case((free, 1), else_=0)).label("free"),
            func.sum(case((free, 0), else_=1)).label("taken"),
            func.sum(case((images.c.state == Image.STORED, 1), else_=0)).label("stored"),
        )
        .select_from(jobs.join(images, mine))
        .where(jobs.c.batch_id == batch_id, jobs.c.key.in_(keys))
        .group_by(jobs.c.id)
    )


def _as_known(row: Any) -> Known:
    return Known(
        key=row.key,
        request_hash=row.request_hash,
        state=Job(row.state),
        touched=bool(row.taken),
        free=0 if row.closed else int(row.free or 0),
        stored=int(row.stored or 0),
        path=row.path,
        slots=row.slots,
        adopted=bool(row.adopted),
    )


# -- recording -----------------------------------------------------------------------------------------------------


def record_manifest(
    tx: Connection, new: NewBatch, rows: Iterable[Row], *, redo_changed: bool, keep_changed: bool, now: float
) -> int:
    """Records the newest manifest of a batch; returns the batch's id."""
    batch_id = upsert_batch(tx, new, now)
    tx.execute(delete(jobs).where(jobs.c.batch_id == batch_id, jobs.c.state.in_(_NO_JOB), ~_has_images()))
    tx.execute(update(jobs).where(jobs.c.batch_id == batch_id).values(position=None))
    stream = iter(rows)
    while chunk := list(islice(stream, _CHUNK)):
        _record_chunk(tx, batch_id, chunk, redo_changed=redo_changed, keep_changed=keep_changed, now=now)
    return batch_id


def _has_images() -> Any:
    return select(literal_column("1")).where(images.c.job_id == jobs.c.id).exists()


def upsert_batch(tx: Connection, new: NewBatch, now: float) -> int:
    """The batch's id; what a later run may change is changed."""
    found = tx.execute(select(batches.c.id).where(batches.c.name == new.name).with_for_update(key_share=True)).scalar()
    changing = {
        "columns": json.dumps(new.columns, ensure_ascii=False),
        "source": new.source,
        "budget": new.budget,
        "allow_partial": new.allow_partial,
        "weight": new.weight,
        "agreed": new.agreed,
        "retries": new.retries,
        "failover": new.failover.value,
        "providers": json.dumps(new.providers) if new.providers else None,
        "strict_size": new.strict_size,
        "decode": new.decode,
        "sidecar": new.sidecar,
    }
    if found is not None:
        tx.execute(update(batches).where(batches.c.id == found).values(**changing))
        return int(found)
    bound = {"name": new.name, "dest": new.dest, "path": new.path, "sandbox": new.sandbox, "created_at": now}
    values = {**changing, **bound, "state": Batch.ACTIVE.value}
    made = tx.execute(insert(batches).values(**values).returning(batches.c.id))
    return int(made.scalar_one())


def _record_chunk(
    tx: Connection, batch_id: int, chunk: list[Row], *, redo_changed: bool, keep_changed: bool, now: float
) -> None:
    existing = _existing(tx, batch_id, [row.key for row in chunk])
    fresh = [row for row in chunk if row.state in _NO_JOB or row.key not in existing]
    _insert_rows(tx, batch_id, fresh)
    again = [(row, existing[row.key]) for row in chunk if row.state not in _NO_JOB and row.key in existing]
    _place(tx, again, keep_changed=keep_changed)
    adopted.complete(tx, batch_id, [(job, _asked(row)) for row, job in again if job.adopted and adopted.fits(row, job)])
    changed = [(row, job) for row, job in again if not adopted.fits(row, job)]
    free = [(row, job) for row, job in changed if not job.taken]
    _replace_requests(tx, batch_id, free)
    if redo_changed:
        _revise(tx, batch_id, [(row, job) for row, job in changed if job.taken], now)
    elif not keep_changed and len(changed) > len(free):
        # Only when the ledger changed between survey and record: another process of a cluster.
        raise ChangedRows(len(changed) - len(free))


class ChangedRows(Exception):  # noqa: N818  a fact about the manifest, told to jobs.intake
    """Rows that are being worked on have another request now, and nobody said what to do."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} rows changed while they were being recorded")
        self.count = count


def _existing(tx: Connection, batch_id: int, keys: Sequence[str]) -> dict[str, Any]:
    return {row.key: row for row in tx.execute(_existing_query(batch_id, keys))}


def _existing_query(batch_id: int, keys: Sequence[str]) -> Any:
    taken = (images.c.state != Image.MISSING) | images.c.attempt_id.is_not(None)
    mine = (images.c.job_id == jobs.c.id) & (images.c.revision == jobs.c.revision) & images.c.surplus.is_(False)
    return (
        select(
            jobs.c.id,
            jobs.c.key,
            jobs.c.request_hash,
            jobs.c.revision,
            jobs.c.state,
            jobs.c.request.is_(None).label("adopted"),
            func.sum(case((taken, 1), else_=0)).label("taken"),
        )
        .select_from(jobs.join(images, mine))
        .where(jobs.c.batch_id == batch_id, jobs.c.key.in_(keys))
        .group_by(jobs.c.id)
    )


def _insert_rows(tx: Connection, batch_id: int, rows: list[Row]) -> None:
    if not rows:
        return
    numbered = list(enumerate(rows, start=number_jobs(tx, batch_id, len(rows))))
    tx.execute(insert(jobs), [_job(number, batch_id, row) for number, row in numbered])
    slots = [slot for number, row in numbered for slot in _slots(number, batch_id, row, revision=1)]
    if slots:
        tx.execute(insert(images), slots)


def number_jobs(tx: Connection, batch_id: int, count: int) -> int:
    """Numbers for so many more jobs of the batch: the first of them."""
    made = update(batches).where(batches.c.id == batch_id).values(jobs_made=batches.c.jobs_made + count)
    return batch_id * _JOBS_A_BATCH + int(tx.execute(made.returning(batches.c.jobs_made)).scalar_one()) - count


def _job(number: int, batch_id: int, row: Row) -> dict[str, Any]:
    placed = {"id": number, "batch_id": batch_id, "key": stored_key(row), "position": row.position, "line": row.line}
    told = {"error_code": row.error_code, "message": row.message}
    return {**placed, **told, "state": row.state.value, "carried": row.carried, **_asked(row)}


def _asked(row: Row) -> dict[str, Any]:
    width, height = row.pixels or (None, None)
    return {
        "request": row.request.to_json() if row.request else None,
        "request_hash": row.request_hash,
        "path": row.path,
        "provider": row.provider,
        "provider_model": row.provider_model,
        "price": row.price,
        "width": width,
        "height": height,
        "n": row.request.n if row.request else 1,
        "max_n": row.max_n,
    }


def stored_key(row: Row) -> str:
    """A row that is no job may repeat a job's key, so it is stored under its position."""
    return f"\x1f{row.position}\x1f{row.key}" if row.state in _NO_JOB else row.key


def shown_key(key: str) -> str:
    """The inverse of `stored_key`."""
    return key.split("\x1f", 2)[2] if key.startswith("\x1f") else key


def _slots(number: int, batch_id: int, row: Row, *, revision: int) -> Iterator[dict[str, Any]]:
    for slot in range(row.request.n if row.request else 0):
        yield {
            "batch_id": batch_id,
            "job_id": number,
            "revision": revision,
            "slot": slot,
            "state": Image.MISSING.value,
        }


_PLACE = (
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"))
    .values(position=bindparam("at"), line=bindparam("on"), carried=bindparam("columns"), kept=bindparam("as_it_was"))
)


def _place(tx: Connection, again: list[tuple[Row, Any]], *, keep_changed: bool) -> None:
    """Their new places and carried columns; what stays as it was although the manifest has changed is marked."""
    values = [
        {
            "of_job": job.id,
            "at": row.position,
            "on": row.line,
            "columns": row.carried,
            "as_it_was": keep_changed and bool(job.taken) and not adopted.fits(row, job),
        }
        for row, job in again
    ]
    if values:
        tx.execute(_PLACE, values)


_REQUEST_COLUMNS = (
    "request", "request_hash", "path", "provider", "provider_model", "price", "width", "height", "n", "max_n",
)  # fmt: skip
_ANEW = (
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"))
    .values(
        **{name: bindparam(f"new_{name}") for name in _REQUEST_COLUMNS},
        revision=bindparam("new_revision"),
        state=Job.READY.value,
        failures=0,
        ready_at=0.0,
        closed=False,
        cancelled=False,
        error_code=None,
        message=None,
        done_at=None,
    )
)


def _anew(row: Row, job: Any, revision: int) -> dict[str, Any]:
    return {"of_job": job.id, "new_revision": revision, **{f"new_{name}": v for name, v in _asked(row).items()}}


def _replace_requests(tx: Connection, batch_id: int, rows: list[tuple[Row, Any]]) -> None:
    """Nothing was paid for these: the new request takes the old one's place."""
    if not rows:
        return
    tx.execute(delete(images).where(_current_slots([job.id for _, job in rows])))
    tx.execute(_ANEW, [_anew(row, job, job.revision) for row, job in rows])
    slots = [slot for row, job in rows for slot in _slots(job.id, batch_id, row, revision=job.revision)]
    tx.execute(insert(images), slots)


def _current_slots(job_ids: list[int]) -> Any:
    revision = select(jobs.c.revision).where(jobs.c.id == images.c.job_id).scalar_subquery()
    return images.c.job_id.in_(job_ids) & (images.c.revision == revision) & images.c.surplus.is_(False)


def _revise(tx: Connection, batch_id: int, rows: list[tuple[Row, Any]], now: float) -> None:
    """New images beside the old: a new revision of the job, with slots of its own."""
    if not rows:
        return
    before = _prompts(tx, [job.id for _, job in rows])
    tx.execute(_ANEW, [_anew(row, job, job.revision + 1) for row, job in rows])
    slots = [slot for row, job in rows for slot in _slots(job.id, batch_id, row, revision=job.revision + 1)]
    tx.execute(insert(images), slots)
    told = [(job.id, {"revision": job.revision + 1, "prompt_before": before.get(job.id)}) for _, job in rows]
    write_events(tx, [_job_event("redo", batch_id, job_id, now, detail) for job_id, detail in told])


def _prompts(tx: Connection, job_ids: list[int]) -> dict[int, str]:
    """What the present images were asked for with."""
    asked = select(jobs.c.id, jobs.c.request).where(jobs.c.id.in_(job_ids), jobs.c.request.is_not(None))
    return {row.id: Request.from_json(row.request).prompt for row in tx.execute(asked)}


def _job_event(name: str, batch_id: int, job_id: int, now: float, detail: dict[str, Any]) -> dict[str, Any]:
    told = json.dumps(detail)
    return {"at": now, "name": name, "batch_id": batch_id, "job_id": job_id, "attempt_id": None, "detail": told}


# -- what a person asks for ----------------------------------------------------------------------------------------


def redo(tx: Connection, batch_id: int, changes: Sequence[tuple[str, Request | None]], now: float) -> int:
    """A new revision for each key, with its old request or a new one; returns how many.

    The request's hash stays the manifest's own: the same manifest again must not find the row changed.
    """
    wanted = dict(changes)
    found = tx.execute(select(jobs).where(jobs.c.batch_id == batch_id, jobs.c.key.in_(wanted))).all()
    rows = [(_again(job, wanted[job.key]), job) for job in found if job.request is not None]
    _revise(tx, batch_id, rows, now)
    return len(rows)


def _again(job: Any, request: Request | None) -> Row:
    return Row(
        position=job.position or 0,
        line=job.line,
        key=job.key,
        carried=job.carried,
        request=request or Request.from_json(job.request),
        request_hash=job.request_hash,
        path=job.path,
        provider=job.provider,
        provider_model=job.provider_model,
        price=job.price,
        pixels=(job.width, job.height) if job.width else None,
        max_n=job.max_n,
    )


def retry(
    tx: Connection,
    batch_id: int,
    now: float,
    *,
    only: str | None,
    error: str | None,
    keys: Sequence[str] | None,
) -> int:
    """Failed and lost rows are ready again; moderated ones only when asked for by that name. Returns how many."""
    states = [only] if only else [Job.FAILED.value, Job.LOST.value, Job.PARTIAL.value]
    wanted = select(jobs.c.id).where(jobs.c.batch_id == batch_id, jobs.c.state.in_(states), jobs.c.request.is_not(None))
    wanted = wanted.where(_has_room())
    wanted = wanted.where(jobs.c.error_code == error) if error else wanted.where(_not_moderated())
    if keys is not None:
        wanted = wanted.where(jobs.c.key.in_(keys))
    chosen = list(tx.execute(wanted).scalars())
    for start in range(0, len(chosen), _CHUNK):
        _open_again(tx, chosen[start : start + _CHUNK])
    write_events(tx, [_job_event("retry", batch_id, job_id, now, {}) for job_id in chosen])
    return len(chosen)


def _not_moderated() -> Any:
    return func.coalesce(jobs.c.error_code, "") != "moderation"


def _has_room() -> Any:
    """Images of other pixels fill their slots: such a row is made anew by a redo, beside what was paid."""
    return func.coalesce(jobs.c.error_code, "") != WRONG_PIXELS


def _open_again(tx: Connection, job_ids: list[int]) -> None:
    lost = _current_slots(job_ids) & (images.c.state == Image.LOST)
    tx.execute(_keep_the_lost(lost))
    tx.execute(_lost_aside(lost))
    tx.execute(
        update(jobs)
        .where(jobs.c.id.in_(job_ids))
        .values(closed=False, cancelled=False, failures=0, ready_at=0.0, error_code=None, message=None)
    )
    derive_jobs(tx, job_ids)


def _keep_the_lost(lost: Any) -> Any:
    """What was lost stays on record beside its slot, with what it cost."""
    kept = [column for column in images.c if column.name not in ("id", "surplus")]
    return insert(images).from_select([*kept, images.c.surplus], select(*kept, true()).where(lost))


def _lost_aside(lost: Any) -> Any:
    """A lost image's slot is missing again."""
    return (
        update(images)
        .where(lost)
        .values(
            state=Image.MISSING.value, attempt_id=None, url=None, spool=None, object_path=None, sha256=None,
            expires_at=None, next_copy_at=None, tries=0, error_code=None, message=None,
        )
    )  # fmt: skip


def cancel(tx: Connection, batch_id: int) -> int:
    """Ends new submits for good; returns how many rows will not be made. What is paid is polled, copied, stored."""
    tx.execute(update(batches).where(batches.c.id == batch_id).values(state=Batch.CANCELLED.value, reason=None))
    open_jobs = (jobs.c.batch_id == batch_id, jobs.c.closed.is_(False), jobs.c.request.is_not(None))
    unfinished = (*open_jobs, jobs.c.state.in_([Job.READY, Job.WORKING, Job.HELD]))
    chosen = list(tx.execute(select(jobs.c.id).where(*unfinished)).scalars())
    told = {"closed": True, "cancelled": True}
    for start in range(0, len(chosen), _CHUNK):
        tx.execute(update(jobs).where(jobs.c.id.in_(chosen[start : start + _CHUNK])).values(**told))
    derive_jobs(tx, chosen)
    mine = (images.c.job_id == jobs.c.id) & (images.c.revision == jobs.c.revision) & images.c.surplus.is_(False)
    empty = (images.c.state == Image.MISSING) & images.c.attempt_id.is_(None)
    lacking = select(func.count(jobs.c.id.distinct())).select_from(jobs.join(images, mine))
    return tx.execute(lacking.where(jobs.c.batch_id == batch_id, jobs.c.cancelled, empty)).scalar_one()


def history(tx: Connection, job_id: int) -> Sequence[Any]:
    """A job's events, oldest first."""
    return tx.execute(select(events).where(events.c.job_id == job_id).order_by(events.c.id)).all()
