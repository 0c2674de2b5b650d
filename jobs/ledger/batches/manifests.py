"""Manifests on their way in: one transaction records a whole manifest, or nothing of it.

Rows that are there already keep what was paid for them. Rows that are not in the newest manifest lose their position:
they are not submitted any more and not listed, but what runs for them is still polled, copied and stored, and what is
stored for them still counts. A manifest that is appended takes no row out: its new rows come after those on record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from sqlalchemy import Connection, bindparam, case, delete, exists, func, insert, select, update

from jobs.ledger.access import holds
from jobs.ledger.access.values import Acceptance
from jobs.ledger.accounts import conditions
from jobs.ledger.batches import adopted, appended, failure_breaker
from jobs.ledger.batches.appended import NO_JOB, columns_of_both, has_images
from jobs.ledger.batches.batches import batch_of, demand_whole, number_jobs, upsert_batch
from jobs.ledger.batches.plain_rows import COLUMNS, PlainRows, values_asked
from jobs.ledger.batches.values import Batch, KnownRow, NewBatch, Row
from jobs.ledger.claims import copy_failures
from jobs.ledger.claims.reuse import FewerToReuse, ReuseOptions, allot, give_back, whole_earlier
from jobs.ledger.database.engine import is_alone
from jobs.ledger.database.events import job_event, write_events
from jobs.ledger.database.many import TOGETHER, Inserter, indexed_when_filled
from jobs.ledger.database.schema import ASKED, BY_REQUEST, IS_CURRENT, batches, earlier_requests, images, jobs
from jobs.ledger.openai import batches as openai_batches
from jobs.ledger.schedules.firings import attach, forget_seen
from jobs.ledger.schedules.values import Attachment
from jobs.policy.failover import Failover
from jobs.policy.reuse import gets_back
from jobs.states import ImageState, JobState
from providers.types import Request, request_hash

#: Rows written with one statement.
_CHUNK = 1000
#: New rows from which on PostgreSQL is made to look at them.
LOOKED_AT = 10_000

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
    acceptance: Acceptance | None = None  # the token that it is recorded for


def is_new(tx: Connection, name: str) -> bool:
    """Whether no batch has this name yet."""
    return not tx.execute(select(exists().where(batches.c.name == name))).scalar()


def record_manifest(
    tx: Connection, new: NewBatch, rows: Iterable[Row] | Iterable[PlainRows], options: RecordOptions, now: float
) -> Batch:
    """Records the newest manifest of a batch; returns the batch."""
    was_new = options.acceptance is not None and is_new(tx, new.name)
    batch_id = upsert_batch(tx, new, now)
    demand_whole(tx, batch_id)
    options = replace(options, stays=new.failover is Failover.OFF)
    if options.append:
        rows = appended.placed(tx, batch_id, _each(rows))
    else:
        tx.execute(delete(jobs).where(jobs.c.batch_id == batch_id, jobs.c.state.in_(NO_JOB), ~has_images()))
        tx.execute(update(jobs).where(jobs.c.batch_id == batch_id).values(position=None))
    given_back, new_rows = 0, _NewRows(tx, batch_id)
    if tx.execute(select(exists().where(jobs.c.batch_id == batch_id))).scalar():
        stream = _each(rows)
        while chunk := list(islice(stream, _CHUNK)):
            given_back += _record_chunk(tx, new_rows, chunk, options, now)
    else:
        with indexed_when_filled(tx, BY_REQUEST):
            for some in _together(rows):
                new_rows.insert(some)
    new_rows.end()
    if given_back < options.given_back:
        raise FewerToReuse
    given = allot(tx, batch_id, options.reuse, now) if options.reuse else None
    if options.acceptance:
        holds.accept(tx, options.acceptance, batch_id, now, is_new=was_new)
        if options.acceptance.request_id is not None:
            openai_batches.attach(tx, options.acceptance.request_id, batch_id, now)
    failure_breaker.judge_anew(tx, batch_id)
    if attachment := options.attachment:
        if given is not None:
            attachment = attachment.as_recorded(given.rows, given.images, given.cost)
        attach(tx, attachment, batch_id, now)
    else:
        forget_seen(tx, batch_id)
    conditions.goes_on_again(tx, batch_id)
    copy_failures.try_again(tx, batch_id, now)  # last: it holds what those wait for who record how copies ended
    return batch_of(tx, batch_id)


def _each(rows: Iterable[Row | PlainRows]) -> Iterator[Row]:
    for one in rows:
        if isinstance(one, Row):
            yield one
        else:
            yield from one


def _together(rows: Iterable[Row | PlainRows]) -> Iterator[PlainRows]:
    single: list[Row] = []
    for one in rows:
        if isinstance(one, PlainRows):
            yield one
            continue
        single.append(one)
        if len(single) == TOGETHER:
            yield PlainRows.of(single)
            single = []
    if single:
        yield PlainRows.of(single)


def _record_chunk(tx: Connection, new_rows: _NewRows, chunk: list[Row], options: RecordOptions, now: float) -> int:
    """How many rows have the images back that they had with their request."""
    batch_id = new_rows.batch_id
    existing = _on_record(tx, batch_id, [row.key for row in chunk])
    as_they_were = _bad_now(chunk, existing, options)
    fresh = [row for row in chunk if row.state in NO_JOB or row.key not in existing]
    if inserted := [row for row in fresh if row.position not in as_they_were]:
        new_rows.insert(PlainRows.of(inserted))
    _leave(tx, list(as_they_were.values()), existing, options)
    again = [(row, existing[row.key]) for row in chunk if row.state not in NO_JOB and row.key in existing]
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
    good = {row.key for row in chunk if row.state not in NO_JOB}
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


class _NewRows:
    """The new rows of a batch with their empty slots; whoever has it is the only one that numbers jobs of the batch."""

    def __init__(self, tx: Connection, batch_id: int) -> None:
        self._tx, self.batch_id = tx, batch_id
        self._jobs = Inserter(tx, jobs, ("id", "batch_id", *COLUMNS))
        self._images = Inserter(tx, images, ("batch_id", "job_id", "revision", "slot", "state"))
        self._first = self._next = number_jobs(tx, batch_id, 0)

    def insert(self, rows: PlainRows) -> None:
        """The next ones."""
        numbers = range(self._next, self._next + rows.count)
        self._next += rows.count
        self._jobs.insert(rows.count, (numbers, (self.batch_id,), *rows.columns))
        asked = rows.images()
        for slot in range(max(asked)):
            owners: Sequence[int] = numbers
            if len(asked) == rows.count:
                owners = [number for number, wanted in zip(numbers, asked, strict=True) if wanted > slot]
            self._images.insert(len(owners), ((self.batch_id,), owners, (1,), (slot,), (ImageState.MISSING.value,)))

    def end(self) -> None:
        """All rows are there: their numbers are taken, and PostgreSQL learns of them where they are many.

        It would plan claims for the few rows that it knew of, until it looks by itself: 0.5 s for each at 200,000 rows.
        """
        number_jobs(self._tx, self.batch_id, self._next - self._first)
        if self._next - self._first >= LOOKED_AT and not is_alone(self._tx):
            self._tx.exec_driver_sql("ANALYZE jobs, images")


def _asked(row: Row) -> dict[str, Any]:
    return dict(zip(ASKED, values_asked(row), strict=True))


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
            "columns": columns_of_both(before[job.id], row) if options.append else row.carried,
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
