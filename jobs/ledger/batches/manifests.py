"""Manifests on their way in: one transaction records a whole manifest, or nothing of it.

Rows that are there already keep what was paid for them. Rows that are not in the newest manifest lose their position:
they are not submitted any more and not listed, but what runs for them is still polled, copied and stored, and what is
stored for them still counts. A manifest that is appended takes no row out: its new rows come after those on record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, case, delete, func, insert, literal_column, select, update

from jobs.errors import UNREADABLE_ROW
from jobs.ledger.batches import adopted, failure_breaker
from jobs.ledger.batches.batches import batch_of, demand_whole, number_jobs, upsert_batch
from jobs.ledger.batches.values import Batch, KnownRow, NewBatch, Row
from jobs.ledger.claims import copy_failures
from jobs.ledger.claims.reuse import FewerToReuse, ReuseOptions, allot, give_back, whole_earlier
from jobs.ledger.database.events import job_event, write_events
from jobs.ledger.database.schema import ASKED, IS_CURRENT, earlier_requests, images, jobs
from jobs.ledger.schedules.firings import attach, forget_seen
from jobs.ledger.schedules.values import Attachment
from jobs.policy.failover import Failover
from jobs.policy.reuse import gets_back
from jobs.states import ImageState, JobState
from providers.types import Request, request_hash

#: Rows written with one statement.
_CHUNK = 1000

#: Rows that stand for no job: bad ones under --skip-bad, and those left out on the user's word.
_NO_JOB = (JobState.SKIPPED, JobState.INVALID)

#: What of a job says where it is made, and for how much.
_ROUTE = ("provider", "provider_model", "price", "mode", "width", "height", "max_n")


def known(tx: Connection, batch_id: int, keys: Sequence[str]) -> dict[str, KnownRow]:
    """What the ledger holds under these keys."""
    found: dict[str, KnownRow] = {}
    for start in range(0, len(keys), _CHUNK):
        part = _on_record(tx, batch_id, keys[start : start + _CHUNK])
        revised = {row.id: row.request_hash for row in part.values() if row.revision > 1}
        earlier, own = whole_earlier(tx, list(revised)), _with_own_prompts(tx, revised)
        found |= {
            key: _as_known(row, frozenset(earlier.get(row.id, ())), own_prompt=row.id in own)
            for key, row in part.items()
        }
    return found


def _with_own_prompts(tx: Connection, revised: Mapping[int, str | None]) -> set[int]:
    """Which of these rows ask for something else than the manifest did, whose request's hash each keeps."""
    asked = select(jobs.c.id, jobs.c.request).where(jobs.c.id.in_(revised), jobs.c.request.is_not(None))
    return {row.id for row in tx.execute(asked) if request_hash(row.request) != revised[row.id]} if revised else set()


def _on_record(tx: Connection, batch_id: int, keys: Sequence[str]) -> dict[str, Any]:
    """The jobs of these keys, with their slots counted."""
    missing = images.c.state == ImageState.MISSING
    free = missing & images.c.attempt_id.is_(None)
    counted = (
        select(
            jobs.c.id,
            jobs.c.key,
            jobs.c.request_hash,
            jobs.c.revision,
            jobs.c.state,
            jobs.c.path,
            jobs.c.position,
            jobs.c.closed,
            *(jobs.c[name] for name in _ROUTE),
            jobs.c.request.is_(None).label("adopted"),
            func.count().label("slots"),
            func.sum(case((free, 1), else_=0)).label("free"),
            func.sum(case((free, 0), else_=1)).label("taken"),
            func.sum(case((images.c.state == ImageState.STORED, 1), else_=0)).label("stored"),
            func.sum(case((free & images.c.source_id.is_not(None), 1), else_=0)).label("tried"),
        )
        .select_from(jobs.join(images, IS_CURRENT))
        .where(jobs.c.batch_id == batch_id, jobs.c.key.in_(keys))
        .group_by(jobs.c.id)
    )
    return {row.key: row for row in tx.execute(counted)}


def _as_known(row: Any, earlier: frozenset[str], *, own_prompt: bool) -> KnownRow:
    return KnownRow(
        key=row.key,
        request_hash=row.request_hash,
        state=JobState(row.state),
        touched=bool(row.taken),
        free=0 if row.closed else int(row.free or 0),
        stored=int(row.stored or 0),
        path=row.path,
        slots=row.slots,
        adopted=bool(row.adopted),
        tried=bool(row.tried),
        own_prompt=own_prompt,
        earlier=earlier,
    )


# -- recording -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordOptions:
    """How a manifest is recorded."""

    redo_changed: bool = False
    keep_changed: bool = False
    append: bool = False  # rows on record that it does not have stay in the batch
    reuse: ReuseOptions | None = None
    given_back: int = 0  # changed rows that the plan counted on to take the images that they had with this request
    stays: bool = True  # no row goes to another provider by itself
    attachment: Attachment | None = None  # the schedule's time that it is recorded for


def record_manifest(tx: Connection, new: NewBatch, rows: Iterable[Row], options: RecordOptions, now: float) -> Batch:
    """Records the newest manifest of a batch; returns the batch."""
    batch_id = upsert_batch(tx, new, now)
    demand_whole(tx, batch_id)
    options = replace(options, stays=new.failover is Failover.OFF)
    if options.append:
        rows = _behind(tx, batch_id, rows)
    else:
        tx.execute(delete(jobs).where(jobs.c.batch_id == batch_id, jobs.c.state.in_(_NO_JOB), ~_has_images()))
        tx.execute(update(jobs).where(jobs.c.batch_id == batch_id).values(position=None))
    stream, given_back = iter(rows), 0
    while chunk := list(islice(stream, _CHUNK)):
        given_back += _record_chunk(tx, batch_id, chunk, options, now)
    if given_back < options.given_back:
        raise FewerToReuse
    if options.reuse:
        allot(tx, batch_id, options.reuse, now)
    failure_breaker.judge_anew(tx, batch_id)
    if options.attachment:
        attach(tx, options.attachment, batch_id)
    else:
        forget_seen(tx, batch_id)
    copy_failures.try_again(tx, batch_id, now)  # last: it holds what those wait for who record how copies ended
    return batch_of(tx, batch_id)


def _behind(tx: Connection, batch_id: int, rows: Iterable[Row]) -> Iterator[Row]:
    """The rows with positions after those on record, but for those that take the place of one.

    A row takes the place of one that was bad under its key, and a job that of one that was left out. What was left out
    beside a job of its key stays: it is a further line of that product. Where the product itself comes, with as many
    further lines or more, they take the place of those on record; else none is doubled.
    """
    last = tx.execute(select(func.max(jobs.c.position)).where(jobs.c.batch_id == batch_id)).scalar()
    left_out = _left_out(tx, batch_id)
    made = _with_jobs(tx, batch_id, left_out) if left_out else set()
    after = 0 if last is None else last + 1
    for key, group in groupby(rows, lambda row: row.key if row.key in left_out else None):
        if key is None:
            yield from (replace(row, position=after + row.position) for row in group)
            continue
        product = list(group)
        for row, before in _product_lines(tx, product, left_out[key], is_made=key in made):
            if before is None:
                yield replace(row, position=after + row.position)
            else:
                yield replace(row, position=before.position, carried=_columns_of_both(before, row))
        if any(row.state not in _NO_JOB for row in product):
            made.add(key)


def _product_lines(
    tx: Connection, lines: Sequence[Row], before: list[Any], *, is_made: bool
) -> Iterator[tuple[Row, Any]]:
    """The lines that come under one key, each with the row on record whose place it takes; None: none.

    `before`: the rows on record that were left out or bad under that key; what is replaced is removed from it.
    `is_made`: the key has a job.
    """
    further = [each for each in before if each.state == JobState.SKIPPED.value]
    coming = [row for row in lines if row.state is JobState.SKIPPED]
    is_whole = is_made and len(coming) < len(lines) and len(coming) >= len(further)
    for row in lines:
        if row.state is JobState.SKIPPED:
            if is_whole and further:
                yield row, _forget(tx, before, further.pop(0))
            elif all(each.carried != _columns_of_both(each, row) for each in before):
                yield row, None
            continue
        gone = [each for each in before if each.state == JobState.INVALID.value][:1]
        if not gone and row.state is not JobState.INVALID and not is_made:
            gone = before[:1]
        is_made |= row.state not in _NO_JOB
        yield row, _forget(tx, before, gone[0]) if gone else None


def _forget(tx: Connection, before: list[Any], row: Any) -> Any:
    before.remove(row)
    tx.execute(delete(jobs).where(jobs.c.id == row.id))
    return row


def _columns_of_both(before: Any, row: Row) -> bytes:
    """What the row carries, and of the row on record the columns that the appended file does not have."""
    had, has = orjson.loads(before.carried), orjson.loads(row.carried)
    if before.error_code == UNREADABLE_ROW or had.keys() <= has.keys():
        return row.carried
    return orjson.dumps(had | has)


def _left_out(tx: Connection, batch_id: int) -> dict[str, list[Any]]:
    """Rows on record that stand for no job and have no image, by their keys, in their order."""
    mine = (jobs.c.batch_id == batch_id, jobs.c.state.in_(_NO_JOB), ~_has_images())
    told = (jobs.c.id, jobs.c.key, jobs.c.state, jobs.c.error_code, jobs.c.carried, jobs.c.position)
    wanted = select(*told).where(*mine).order_by(jobs.c.position)
    found: dict[str, list[Any]] = {}
    for row in tx.execute(wanted):
        found.setdefault(shown_key(row.key), []).append(row)
    return found


def _with_jobs(tx: Connection, batch_id: int, keys: Iterable[str]) -> set[str]:
    """Those of these keys under which there is a job."""
    stream, found = iter(keys), set()
    while some := list(islice(stream, _CHUNK)):
        wanted = select(jobs.c.key).where(jobs.c.batch_id == batch_id, jobs.c.key.in_(some))
        found |= set(tx.execute(wanted).scalars())
    return found


def _has_images() -> Any:
    return select(literal_column("1")).where(images.c.job_id == jobs.c.id).exists()


def _record_chunk(tx: Connection, batch_id: int, chunk: list[Row], options: RecordOptions, now: float) -> int:
    """How many rows have the images back that they had with their request."""
    existing = _on_record(tx, batch_id, [row.key for row in chunk])
    as_they_were = _bad_now(chunk, existing, options)
    fresh = [row for row in chunk if row.state in _NO_JOB or row.key not in existing]
    _insert_rows(tx, batch_id, [row for row in fresh if row.position not in as_they_were])
    _leave(tx, list(as_they_were.values()), existing, options)
    again = [(row, existing[row.key]) for row in chunk if row.state not in _NO_JOB and row.key in existing]
    _place(tx, again, options)
    _plan_anew(
        tx, [(row, job) for row, job in again if adopted.fits(row, job) and _may_go_elsewhere(row, job, options)]
    )
    adopted.complete(tx, batch_id, [(job, _asked(row)) for row, job in again if job.adopted and adopted.fits(row, job)])
    changed = [(row, job) for row, job in again if not adopted.fits(row, job)]
    free = [(row, job) for row, job in changed if not job.taken]
    _replace_requests(tx, batch_id, free)
    given_back = _give_back(tx, free, now)
    if options.redo_changed:
        taken = [(row, job) for row, job in changed if job.taken]
        revise(tx, batch_id, taken, now)
        return given_back + _give_back(tx, taken, now)
    if not options.keep_changed and len(changed) > len(free):
        # Only when the ledger changed between survey and record: another process of a cluster.
        raise ChangedRows(len(changed) - len(free))
    return given_back


def _bad_now(chunk: Sequence[Row], existing: Mapping[str, Any], options: RecordOptions) -> dict[int, Row]:
    """Bad rows of products with stored images, by position: such a product stays as it was.

    Not one whose product comes as a good row, too: it repeats its key.
    """
    good = {row.key for row in chunk if row.state not in _NO_JOB}
    first = {row.key: row for row in reversed(chunk) if row.state is JobState.INVALID and row.key not in good}
    return {
        row.position: row
        for key, row in first.items()
        if key in existing and existing[key].stored and (options.append or existing[key].position is None)
    }


_LEAVE = (
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"))
    .values(position=bindparam("at"), line=bindparam("on"), kept=True)
)


def _leave(tx: Connection, bad: Sequence[Row], existing: Mapping[str, Any], options: RecordOptions) -> None:
    """Their jobs take the places of the bad rows, with the columns that they had."""
    if bad:
        tx.execute(_LEAVE, [_place_of(row, existing[row.key], options) for row in bad])


def _place_of(row: Row, job: Any, options: RecordOptions) -> dict[str, Any]:
    """Where rows are appended, those on record keep their place."""
    at = row.position if not options.append or job.position is None else job.position
    return {"of_job": job.id, "at": at, "on": row.line}


def _give_back(tx: Connection, rows: list[tuple[Row, Any]], now: float) -> int:
    """Rows that ask for what they asked for before need not be paid for again: they get the images of then."""
    earlier = whole_earlier(tx, [job.id for _, job in rows])
    revisions = {
        job.id: earlier[job.id][row.request_hash or ""]
        for row, job in rows
        if gets_back(row.request, row.request_hash, earlier.get(job.id, ()))
    }
    give_back(tx, revisions, now)
    return len(revisions)


class ChangedRows(Exception):
    """Rows that are being worked on have another request now, and nobody said what to do."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} rows changed while they were being recorded")
        self.count = count


def _insert_rows(tx: Connection, batch_id: int, rows: list[Row]) -> None:
    if not rows:
        return
    numbered = list(enumerate(rows, start=number_jobs(tx, batch_id, len(rows))))
    tx.execute(insert(jobs), [_job(number, batch_id, row) for number, row in numbered])
    slots = [slot for number, row in numbered for slot in _slots(number, batch_id, row, revision=1)]
    if slots:
        tx.execute(insert(images), slots)


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
        "mode": row.mode,
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
            "state": ImageState.MISSING.value,
        }


_PLACE = (
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"))
    .values(position=bindparam("at"), line=bindparam("on"), carried=bindparam("columns"), kept=bindparam("as_it_was"))
)


def _place(tx: Connection, again: list[tuple[Row, Any]], options: RecordOptions) -> None:
    """Their new places and carried columns; what stays as it was although the manifest has changed is marked."""
    before = _carried(tx, [job.id for _, job in again]) if options.append else {}
    values = [
        {
            **_place_of(row, job, options),
            "columns": _columns_of_both(before[job.id], row) if options.append else row.carried,
            "as_it_was": options.keep_changed and bool(job.taken) and not adopted.fits(row, job),
        }
        for row, job in again
    ]
    if values:
        tx.execute(_PLACE, values)


def _carried(tx: Connection, job_ids: list[int]) -> dict[int, Any]:
    wanted = select(jobs.c.id, jobs.c.carried, jobs.c.error_code).where(jobs.c.id.in_(job_ids))
    return {row.id: row for row in tx.execute(wanted)}


def _may_go_elsewhere(row: Row, job: Any, options: RecordOptions) -> bool:
    """Only where nothing was bought for it, and it was neither made anew nor moved to where it could be made."""
    is_first = job.revision == 1 and not job.taken and not job.adopted
    is_agreed = row.price is not None or job.price is None  # nobody is asked again for a price that is not known
    return is_first and is_agreed and (options.stays or job.provider == row.provider)


def _plan_anew(tx: Connection, again: list[tuple[Row, Any]]) -> None:
    """Rows that wait are made as this plan says: its money is what was agreed to, not that of an earlier one."""
    asked = [(job, {name: _asked(row)[name] for name in _ROUTE}) for row, job in again]
    moved = [(job, to) for job, to in asked if any(getattr(job, name) != value for name, value in to.items())]
    if moved:
        tx.execute(_MOVED, [{"of_job": job.id, **{f"to_{name}": to[name] for name in _ROUTE}} for job, to in moved])


_MOVED = update(jobs).where(jobs.c.id == bindparam("of_job")).values({name: bindparam(f"to_{name}") for name in _ROUTE})


_ANEW = (
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"))
    .values(
        **{name: bindparam(f"new_{name}") for name in ASKED},
        revision=bindparam("new_revision"),
        state=JobState.READY.value,
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
    tx.execute(delete(images).where(current_slots([job.id for _, job in rows])))
    tx.execute(_ANEW, [_anew(row, job, job.revision) for row, job in rows])
    slots = [slot for row, job in rows for slot in _slots(job.id, batch_id, row, revision=job.revision)]
    tx.execute(insert(images), slots)


def current_slots(job_ids: list[int]) -> Any:
    """The slots of these jobs' newest revisions, as a condition."""
    revision = select(jobs.c.revision).where(jobs.c.id == images.c.job_id).scalar_subquery()
    return images.c.job_id.in_(job_ids) & (images.c.revision == revision) & images.c.surplus.is_(False)


def revise(tx: Connection, batch_id: int, rows: list[tuple[Row, Any]], now: float) -> None:
    """New images beside the old: a new revision of the job, with slots of its own."""
    if not rows:
        return
    before = _asked_before(tx, [job.id for _, job in rows])
    earlier = [_earlier(job, asked) for _, job in rows if (asked := before.get(job.id)) is not None]
    if earlier:
        tx.execute(insert(earlier_requests), earlier)
    tx.execute(_ANEW, [_anew(row, job, job.revision + 1) for row, job in rows])
    slots = [slot for row, job in rows for slot in _slots(job.id, batch_id, row, revision=job.revision + 1)]
    tx.execute(insert(images), slots)
    told = [(job, {"revision": job.revision + 1, **_told(job, before.get(job.id))}) for _, job in rows]
    write_events(tx, [job_event("redo", batch_id, job.id, now, detail) for job, detail in told])


def _earlier(job: Any, asked: Request) -> dict[str, Any]:
    is_own = asked.hash() != job.request_hash
    return {
        "job_id": job.id,
        "revision": job.revision,
        "request_hash": asked.hash(),
        "manifest_hash": job.request_hash,
        "request": asked.to_json() if is_own else None,
    }


def _asked_before(tx: Connection, job_ids: list[int]) -> dict[int, Request]:
    """What the present images were asked for with."""
    asked = select(jobs.c.id, jobs.c.request).where(jobs.c.id.in_(job_ids), jobs.c.request.is_not(None))
    return {row.id: Request.from_json(row.request) for row in tx.execute(asked)}


def _told(job: Any, request: Request | None) -> dict[str, Any]:
    """For people, and for what images like the present ones cost."""
    if request is None:
        return {}
    size = [job.width, job.height] if job.width else None
    shape = {"pixels": size, "quality": request.quality or "", "references": len(request.references)}
    return {"prompt_before": request.prompt, "shape_before": shape}
