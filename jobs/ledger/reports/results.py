"""What came of the rows, one line each, and the story of one."""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, case, func, select

from jobs.facts import CHARGE_ESTIMATED
from jobs.ledger.batches.appended import shown_key
from jobs.ledger.batches.batches import as_batch
from jobs.ledger.claims import reuse
from jobs.ledger.database.events import history
from jobs.ledger.database.schema import COST_OF_IMAGE, accounts, attempts, batches, images, jobs
from jobs.ledger.reports.values import (
    AttemptStory,
    Event,
    Result,
    StoredImage,
    Story,
)
from jobs.states import ENDED_BADLY, AttemptState, ImageState, JobState
from providers.types import Request

#: Rows of a result that are read at once.
PAGE = 500


def results_page(tx: Connection, name: str, after: int) -> list[Result] | str:
    """The next page of result lines after a position, in the newest manifest's order; or where they are archived."""
    batch = as_batch(tx.execute(select(batches).where(batches.c.name == name)).one())
    if batch.archive is not None:
        return batch.archive
    return _page(tx, batch.id, after)


def _page(tx: Connection, batch_id: int, after: int) -> list[Result]:
    mine = (jobs.c.batch_id == batch_id, jobs.c.position > after)
    rows = tx.execute(select(jobs).where(*mine).order_by(jobs.c.position).limit(PAGE)).all()
    return list(_results(tx, rows))


def of_jobs(tx: Connection, job_ids: Sequence[int]) -> list[Result]:
    """The result lines of these jobs, in this order."""
    found = {row.id: row for row in tx.execute(select(jobs).where(jobs.c.id.in_(job_ids)))}
    return list(_results(tx, [found[job_id] for job_id in job_ids if job_id in found]))


def ended_badly(tx: Connection, batch_id: int) -> array[int]:
    """The jobs of a batch that have ended without all of their images, in the newest manifest or not."""
    badly = [state.value for state in ENDED_BADLY]
    wanted = select(jobs.c.id).where(jobs.c.batch_id == batch_id, jobs.c.state.in_(badly)).order_by(jobs.c.id)
    return array("q", tx.execute(wanted).scalars())


def _results(tx: Connection, rows: Sequence[Any]) -> Iterator[Result]:
    ids = [row.id for row in rows]
    found = _images_of(tx, ids)
    cost = costs_of(tx, ids)
    for row in rows:
        yield as_result(row, found[row.id], cost.get(row.id))


def images_of(tx: Connection, job_ids: Sequence[int]) -> dict[int, list[Any]]:
    """All images of these jobs by slot, with who made them and what they cost."""
    joined = images.outerjoin(attempts, attempts.c.id == images.c.attempt_id).outerjoin(
        accounts, accounts.c.id == attempts.c.account_id
    )
    wanted = (
        select(images, attempts.c.provider_model, COST_OF_IMAGE.label("price"), accounts.c.provider)
        .select_from(joined)
        .where(images.c.job_id.in_(job_ids))
        .order_by(images.c.job_id, images.c.slot, images.c.id)
    )
    by_job: dict[int, list[Any]] = defaultdict(list)
    for row in tx.execute(wanted):
        by_job[row.job_id].append(row)
    return by_job


def _images_of(tx: Connection, job_ids: Sequence[int]) -> dict[int, list[Any]]:
    """Without those that are more than was asked for."""
    found = images_of(tx, job_ids)
    return defaultdict(list, {job_id: [row for row in rows if not row.surplus] for job_id, rows in found.items()})


@dataclass(frozen=True, slots=True)
class JobCost:
    """What a job's attempts have cost so far. Micro-dollars."""

    micros: int | None  # None: a price is not known
    estimated: bool


#: Nobody told what it cost: what was set aside counts. Images may have come all the same, or none.
_ESTIMATED = (attempts.c.error_code == CHARGE_ESTIMATED) | (attempts.c.state == AttemptState.FAILED) & (
    attempts.c.charged > 0
)


def costs_of(tx: Connection, job_ids: list[int]) -> dict[int, JobCost]:
    """What each job's attempts have cost so far at list price."""
    estimated = func.sum(case((_ESTIMATED, 1), else_=0))
    unpriced = func.sum(case((attempts.c.price.is_(None) & (attempts.c.state == AttemptState.SUCCEEDED), 1), else_=0))
    sums = select(attempts.c.job_id, func.sum(attempts.c.charged), unpriced, estimated)
    found = tx.execute(sums.where(attempts.c.job_id.in_(job_ids)).group_by(attempts.c.job_id))
    return {
        job_id: JobCost(None if unknown else int(money or 0), bool(guessed))
        for job_id, money, unknown, guessed in found
    }


def as_result(row: Any, slots: list[Any], cost: JobCost | None) -> Result:
    """A result line of a job, and its images with their prices. `cost`: None where it has no attempts."""
    micros = cost.micros if cost else 0 if any(map(_is_reused, slots)) else None
    older, has_own = _older(row, slots)
    return Result(
        position=-1 if row.position is None else row.position,
        line=row.line,
        key=shown_key(row.key),
        carried=orjson.loads(row.carried),
        state=JobState(row.state),
        revision=row.revision,
        request=Request.from_json(row.request) if row.request else None,
        provider=row.provider,
        provider_model=row.provider_model,
        images=tuple(as_stored(slot) for slot in slots if slot.revision == row.revision),
        before=() if has_own else older,
        replaced=older if has_own else (),
        error_code=row.error_code,
        message=row.message,
        done_at=row.done_at,
        cost=micros,
        estimated=cost is not None and cost.estimated,
        kept=bool(row.kept),
        mode=row.mode,
    )


def _older(row: Any, slots: list[Any]) -> tuple[tuple[StoredImage, ...], bool]:
    """What the row was given before it was made anew, and whether an image of the new revision is stored by now."""
    stored = [slot for slot in slots if slot.state == ImageState.STORED]
    newest = max((slot.revision for slot in stored if slot.revision < row.revision), default=None)
    has_own = any(slot.revision == row.revision for slot in stored)
    return tuple(as_stored(slot) for slot in stored if slot.revision == newest), has_own


def _is_reused(slot: Any) -> bool:
    return slot.source_id is not None and slot.attempt_id is None and slot.state != ImageState.MISSING


def as_stored(row: Any) -> StoredImage:
    """An image of a result line."""
    reused = _is_reused(row)
    flags = tuple(json.loads(row.flags)) if row.flags else ()
    return StoredImage(
        slot=row.slot,
        revision=row.revision,
        state=row.state,
        path=row.object_path,
        sha256=row.sha256,
        bytes=row.bytes,
        width=row.width,
        height=row.height,
        format=row.format,
        flags=(*flags, "reused") if reused else flags,
        stored_at=row.stored_at,
        provider=row.provider,
        provider_model=row.provider_model,
        cost=0 if reused else row.price,
        error_code=row.error_code,
        message=row.message,
        link_expires_at=None if reused else row.expires_at,
        tries=row.tries,
        next_copy_at=row.next_copy_at,
        reused=reused,
        dest=row.lies_at if reused else None,
        image_id=row.id,
    )


# -- one job's story -----------------------------------------------------------------------------------------------


def story(tx: Connection, name: str, key: str) -> Story | None:
    """Everything that happened to one job."""
    joined = jobs.join(batches, batches.c.id == jobs.c.batch_id)
    mine = select(jobs).select_from(joined).where(batches.c.name == name, jobs.c.key == key)
    row = tx.execute(mine).first()
    if row is None:
        return None
    result = next(_results(tx, [row]))
    waits = row.ready_at if row.state == JobState.READY and row.ready_at else None
    told = tuple(as_event(event) for event in history(tx, row.id))
    older = tuple(as_stored(slot) for slot in _images_of(tx, [row.id])[row.id] if slot.revision != row.revision)
    stories = _attempt_stories(tx, row.id)
    return Story(
        result=result,
        attempts=stories,
        events=told,
        next_try_at=waits,
        older=older,
        taken_from=reuse.taken_from(tx, row.id),
    )


def _attempt_stories(tx: Connection, job_id: int) -> tuple[AttemptStory, ...]:
    joined = attempts.join(accounts, accounts.c.id == attempts.c.account_id)
    wanted = select(attempts, accounts.c.name.label("account"), accounts.c.provider).select_from(joined)
    rows = tx.execute(wanted.where(attempts.c.job_id == job_id).order_by(attempts.c.created_at, attempts.c.id))
    return tuple(as_attempt_story(row) for row in rows)


def as_attempt_story(row: Any) -> AttemptStory:
    """One attempt, with the account it was sent with."""
    return AttemptStory(
        attempt_id=row.id,
        account=row.account,
        provider=row.provider,
        provider_model=row.provider_model,
        state=row.state,
        slots=tuple(json.loads(row.slots)),
        revision=row.revision,
        task_id=row.task_id,
        created_at=row.created_at,
        accepted_at=row.accepted_at,
        finished_at=row.finished_at,
        polls=row.polls,
        reserved=row.reserved,
        charged=row.charged,
        price_known=row.price is not None,
        code=row.error_code,
        message=row.message,
        raw=row.raw,
    )


def as_event(row: Any) -> Event:
    """An event of a job's history."""
    return Event(at=row.at, name=row.name, attempt_id=row.attempt_id, detail=json.loads(row.detail))
