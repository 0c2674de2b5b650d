"""What a person asks of a batch on record: pause, resume, cancel, retry, redo, and the money agreed to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from jobs.errors import GIVEN_UP_ROWS
from jobs.ledger.access.holds import accept
from jobs.ledger.access.values import Acceptance
from jobs.ledger.accounts import conditions
from jobs.ledger.batches import failure_breaker
from jobs.ledger.batches.batches import batch_id_of, batch_of, demand_whole
from jobs.ledger.batches.manifests import current_slots, revise
from jobs.ledger.batches.values import Row
from jobs.ledger.claims import copy_failures
from jobs.ledger.claims.reuse import ReuseOptions, allot
from jobs.ledger.database.events import job_event, write_events
from jobs.ledger.database.job_state import WRONG_PIXELS, derive_jobs
from jobs.ledger.database.schema import IS_CURRENT, batches, images, jobs
from jobs.states import ENDED_BADLY, UNFINISHED, BatchState, ImageState
from providers.types import Request

#: Rows written with one statement.
_CHUNK = 1000


def pause(tx: Connection, name: str, reason: str) -> None:
    """No new submits until `resume`."""
    active = (batches.c.name == name, batches.c.state == BatchState.ACTIVE)
    tx.execute(update(batches).where(*active).values(state=BatchState.PAUSED.value, reason=reason))


def resume(tx: Connection, name: str, now: float) -> None:
    """Submits go on; failures seen so far are no reason to pause again, and copies that failed are tried now."""
    paused = (batches.c.name == name, batches.c.state == BatchState.PAUSED)
    tx.execute(update(batches).where(*paused).values(state=BatchState.ACTIVE.value, reason=None))
    batch_id = batch_id_of(tx, name)
    failure_breaker.judge_anew(tx, batch_id)
    _take_what_was_made(tx, batch_id, now)
    copy_failures.try_again(tx, batch_id, now)


def take_what_was_made(tx: Connection, name: str, now: float) -> int:
    """Rows that wait take images that other batches have made meanwhile, where theirs was recorded with --reuse."""
    return _take_what_was_made(tx, batch_id_of(tx, name), now)


def _take_what_was_made(tx: Connection, batch_id: int, now: float, reuse: ReuseOptions | None = None) -> int:
    """How many rows do. `reuse`: what was agreed to just now; else as the batch was recorded."""
    batch = batch_of(tx, batch_id)
    wish = reuse or (ReuseOptions(how=batch.reuse, at_least=0) if batch.reuse else None)
    if wish is None or batch.state is BatchState.CANCELLED or batch.archive is not None:
        return 0
    demand_whole(tx, batch_id)  # it holds the batch: nobody claims a row that is just being given its images
    return allot(tx, batch_id, wish, now).rows


def retry_copies(tx: Connection, name: str, now: float) -> None:
    """Copies that failed are tried now, and once more those that waited for a person."""
    copy_failures.try_again(tx, batch_id_of(tx, name), now)


def agree(tx: Connection, name: str, agreed: int, budget: int | None) -> None:
    """Notes the money the user has agreed to in all, and the budget."""
    tx.execute(update(batches).where(batches.c.name == name).values(agreed=agreed, budget=budget))


def redo(
    tx: Connection, name: str, changes: Sequence[tuple[str, Request | None]], prices: Mapping[str, int], now: float
) -> int:
    """A new revision for each key, with its old request or a new one; returns how many.

    The request's hash stays the manifest's own: the same manifest again must not find the row changed. `prices`: what
    an image costs at most now, by key; a longer prompt costs more where tokens are billed. Others keep theirs.
    """
    batch_id, wanted = batch_id_of(tx, name), dict(changes)
    found = tx.execute(select(jobs).where(jobs.c.batch_id == batch_id, jobs.c.key.in_(wanted))).all()
    if found:
        demand_whole(tx, batch_id)
    rows = [
        (_again(job, wanted[job.key], prices.get(job.key, job.price)), job) for job in found if job.request is not None
    ]
    revise(tx, batch_id, rows, now)
    failure_breaker.judge_anew(tx, batch_id)
    conditions.goes_on_again(tx, batch_id)
    return len(rows)


def _again(job: Any, request: Request | None, price: int | None) -> Row:
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
        price=price,
        mode=job.mode,
        pixels=(job.width, job.height) if job.width else None,
        max_n=job.max_n,
    )


def retry(  # noqa: PLR0913  which rows, and how their images are taken
    tx: Connection,
    name: str,
    now: float,
    *,
    only: str | None,
    error: str | None,
    keys: Sequence[str] | None,
    reuse: ReuseOptions | None = None,
    acceptance: Acceptance | None = None,
) -> int:
    """Failed and lost rows are ready again; returns how many.

    Moderated ones only when asked for by that name; those that a person gave up only where rows are chosen at all.
    `reuse`: they and rows that wait take images that were made elsewhere meanwhile; None: as the batch was recorded.

    Raises:
        FewerToReuse: These are fewer than `reuse` counted on.
        OverDailyBudget, NotItsOwnError, RevokedError: The token that it is accepted for may not have it.
    """
    batch_id = batch_id_of(tx, name)
    if acceptance is not None:
        demand_whole(tx, batch_id)  # of two at once the second finds what the first has left
    states: Sequence[str] = [only] if only else ENDED_BADLY
    wanted = select(jobs.c.id).where(jobs.c.batch_id == batch_id, jobs.c.state.in_(states), jobs.c.request.is_not(None))
    failed_with = func.coalesce(jobs.c.error_code, "")
    # Images of other pixels fill their slots: such a row is made anew by a redo, beside what was paid.
    wanted = wanted.where(failed_with != WRONG_PIXELS, failed_with == error if error else failed_with != "moderation")
    if keys is not None:
        wanted = wanted.where(jobs.c.key.in_(keys))
    if not (only or error or keys):
        wanted = wanted.where(failed_with.not_in(GIVEN_UP_ROWS))
    chosen = list(tx.execute(wanted).scalars())
    if chosen:
        demand_whole(tx, batch_id)
        if acceptance is not None:
            accept(tx, acceptance, batch_id, now, is_new=False)
    for start in range(0, len(chosen), _CHUNK):
        _open_again(tx, chosen[start : start + _CHUNK])
    failure_breaker.judge_anew(tx, batch_id)
    _take_what_was_made(tx, batch_id, now, reuse)
    copy_failures.try_again(tx, batch_id, now)
    write_events(tx, [job_event("retry", batch_id, job_id, now, {}) for job_id in chosen])
    conditions.goes_on_again(tx, batch_id)
    return len(chosen)


def _open_again(tx: Connection, job_ids: list[int]) -> None:
    _empty_lost_slots(tx, job_ids)
    tx.execute(
        update(jobs)
        .where(jobs.c.id.in_(job_ids))
        .values(closed=False, cancelled=False, failures=0, ready_at=0.0, error_code=None, message=None)
    )
    derive_jobs(tx, job_ids)


def _empty_lost_slots(tx: Connection, job_ids: list[int]) -> None:
    """Makes a new image, missing, for each slot whose image is lost.

    The lost image stays on record beside it under its own id, with what it cost. A copy of it may still be under way
    and be reported by that id: it must not be taken for a copy of what is bought now.
    """
    of_slot = (images.c.batch_id, images.c.job_id, images.c.revision, images.c.slot)
    lost = current_slots(job_ids) & (images.c.state == ImageState.LOST)
    slots = [dict(row) for row in tx.execute(select(*of_slot).where(lost)).mappings()]
    if slots:
        tx.execute(update(images).where(lost).values(surplus=True))
        tx.execute(insert(images), [{**slot, "state": ImageState.MISSING.value} for slot in slots])


def cancel(tx: Connection, name: str, reason: str | None = None) -> int:
    """Ends new submits for good; returns how many rows will not be made. What is paid is polled, copied, stored.

    `reason`: None where a person says so.
    """
    batch_id = batch_id_of(tx, name)
    tx.execute(update(batches).where(batches.c.id == batch_id).values(state=BatchState.CANCELLED.value, reason=reason))
    open_jobs = (jobs.c.batch_id == batch_id, jobs.c.closed.is_(False), jobs.c.request.is_not(None))
    unfinished = (*open_jobs, jobs.c.state.in_(UNFINISHED))
    chosen = list(tx.execute(select(jobs.c.id).where(*unfinished)).scalars())
    told = {"closed": True, "cancelled": True}
    for start in range(0, len(chosen), _CHUNK):
        tx.execute(update(jobs).where(jobs.c.id.in_(chosen[start : start + _CHUNK])).values(**told))
    derive_jobs(tx, chosen)
    empty = (images.c.state == ImageState.MISSING) & images.c.attempt_id.is_(None)
    lacking = select(func.count(jobs.c.id.distinct())).select_from(jobs.join(images, IS_CURRENT))
    return tx.execute(lacking.where(jobs.c.batch_id == batch_id, jobs.c.cancelled, empty)).scalar_one()
