"""Which batches may be archived: finished ones of which nothing more can come."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from jobs.formatting import count, utc
from jobs.ledger.batches.batches import as_batch, first_number
from jobs.ledger.database.schema import attempts, batches, events, firings, images, jobs, schedules
from jobs.ledger.pruning.values import Candidate
from jobs.policy.firing import Into
from jobs.states import (
    FIRING_OVER,
    IN_ARCHIVE,
    ArchiveStep,
    AttemptState,
    BatchState,
    ImageState,
    JobState,
)

#: Seconds for which what was lost stays in the ledger: somebody may still ask its provider about it.
LOST_WITHIN = 90 * 86_400
#: Seconds without a sign of life after which nobody is taken to write an archive any more.
SILENT = 600.0


def candidates(tx: Connection, now: float, older_than: float, names: Sequence[str] = ()) -> list[Candidate]:
    """Batches that are not archived, oldest first: of these names, or all. `older_than`: seconds after the end."""
    wanted = select(batches).order_by(batches.c.id)
    if names:
        wanted = wanted.where(batches.c.name.in_(names))
    else:
        wanted = wanted.where(batches.c.archive_step.is_distinct_from(ArchiveStep.ARCHIVED.value))
    return [candidate(tx, row, now, older_than) for row in tx.execute(wanted).all()]


def due(tx: Connection, now: float, besides: Collection[str] = ()) -> Candidate | None:
    """The first batch of a schedule that it does not keep any longer, or whose pruning broke off; none of `besides`.

    One that was brought back is kept as long again.
    """
    kept = (
        select(batches, schedules.c.keep)
        .select_from(batches.join(schedules, schedules.c.id == batches.c.schedule_id))
        .where(
            schedules.c.goes_into == Into.NEW.value,
            schedules.c.keep.is_not(None),
            batches.c.created_at <= now - schedules.c.keep,
            batches.c.name.not_in(list(besides)),
            (
                batches.c.archive_step.is_(None)
                & (batches.c.archive_at.is_(None) | (batches.c.archive_at <= now - schedules.c.keep))
            )
            | (
                batches.c.archive_step.in_([ArchiveStep.WRITING.value, ArchiveStep.SLIMMING.value])
                & (batches.c.archive_at <= now - SILENT)
            ),
        )
        .order_by(batches.c.id)
    )
    found = (candidate(tx, row, now, row.keep) for row in tx.execute(kept).all())
    return next((each for each in found if each.reason is None), None)


def candidate(tx: Connection, row: Any, now: float, older_than: float) -> Candidate:
    """Whether this batch may be archived. `row`: of the table."""
    batch = as_batch(row)
    if row.archive_step in IN_ARCHIVE:
        goes_on = row.archive_step == ArchiveStep.SLIMMING
        words = {ArchiveStep.ARCHIVED: "it is archived already", ArchiveStep.RESTORING: "it is being brought back"}
        reason = None if goes_on else words[ArchiveStep(row.archive_step)]
        return Candidate(batch=batch, reason=reason, ended_at=0.0, rows=0, kept_for=older_than, begun=goes_on)
    reason = next(_reasons(tx, row), None)
    ended_at = ended(tx, row.id, now) if reason is None else 0.0
    if reason is None:
        reason = _too_young(tx, row.id, now, ended_at, older_than)
    number = tx.execute(select(func.count()).where(jobs.c.batch_id == row.id)).scalar_one()
    return Candidate(batch=batch, reason=reason, ended_at=ended_at, rows=number, kept_for=older_than)


def _too_young(tx: Connection, batch_id: int, now: float, ended_at: float, older_than: float) -> str | None:
    if ended_at > now - older_than:
        return f"it ended {utc(ended_at)}, which is not {_days(older_than)} ago"
    lost = _number_of_lost(tx, batch_id)
    if lost and ended_at > now - LOST_WITHIN:
        return f"{count(lost, 'paid image')} of it {'was' if lost == 1 else 'were'} lost within {_days(LOST_WITHIN)}"
    return None


def _days(seconds: float) -> str:
    days = seconds / 86_400
    return "1 day" if days == 1 else f"{days:g} days"


def _reasons(tx: Connection, row: Any) -> Iterator[str]:
    """Why the batch has to stay, whatever its age; the cheapest questions first."""
    into = tx.execute(select(schedules.c.goes_into).where(schedules.c.id == row.schedule_id)).scalar()
    if into == Into.SAME:
        yield "a schedule compares each manifest with it (--into same)"
    if row.state == BatchState.PAUSED:
        yield "it is paused"
    going_on = select(firings.c.id).where(
        firings.c.batch_id == row.id, firings.c.state.not_in([state.value for state in FIRING_OVER])
    )
    if tx.execute(going_on.limit(1)).first():
        yield "a schedule's time is not over yet, and works on it"
    yield from _of_rows(tx, row.id)
    yield from _of_images(tx, row.id)
    yield from _of_attempts(tx, row.id)


def _of_rows(tx: Connection, batch_id: int) -> Iterator[str]:
    counted = select(jobs.c.state, func.count()).where(jobs.c.batch_id == batch_id).group_by(jobs.c.state)
    # Rows that are in the newest manifest no more are not sent.
    gone = (jobs.c.batch_id == batch_id, jobs.c.state == JobState.READY.value, jobs.c.position.is_(None))
    found = {JobState(state): int(number) for state, number in tx.execute(counted)}
    if JobState.READY in found:
        found[JobState.READY] -= int(tx.execute(select(func.count()).where(*gone)).scalar_one())
    words = {JobState.READY: "wait to be sent", JobState.WORKING: "are being made", JobState.HELD: "are held"}
    for state, said in words.items():
        if number := found.get(state):
            yield f"{count(number, 'row')} {said}"
    if not found:
        yield "it has no rows"


def _of_images(tx: Connection, batch_id: int) -> Iterator[str]:
    made = (images.c.batch_id == batch_id, images.c.state == ImageState.GENERATED.value)
    if number := tx.execute(select(func.count()).where(*made)).scalar_one():
        yield f"{count(number, 'paid image')} of it {'is' if number == 1 else 'are'} not stored yet"


def _of_attempts(tx: Connection, batch_id: int) -> Iterator[str]:
    mine = attempts.c.batch_id == batch_id
    counted = select(attempts.c.state, func.count()).where(mine).group_by(attempts.c.state)
    found = {AttemptState(state): int(number) for state, number in tx.execute(counted)}
    if number := found.get(AttemptState.UNKNOWN):
        yield f"the outcome of {count(number, 'attempt')} is unknown"
    if number := found.get(AttemptState.SUBMITTING, 0) + found.get(AttemptState.RUNNING, 0):
        yield f"{count(number, 'attempt')} of it {'is' if number == 1 else 'are'} in flight"
    if number := found.get(AttemptState.ABANDONED):
        was = "was" if number == 1 else "were"
        yield f"{count(number, 'attempt')} of it {was} given up, whose task may still be found"
    open_ = (mine, attempts.c.next_poll_at.is_not(None) | (attempts.c.reserved > 0))
    if tx.execute(select(attempts.c.id).where(*open_).limit(1)).first():
        yield "a provider is still asked about a task of it"


def _number_of_lost(tx: Connection, batch_id: int) -> int:
    """Images whose links died, and tasks that the provider has forgotten."""
    of_images = (images.c.batch_id == batch_id, images.c.state == ImageState.LOST.value)
    of_tasks = (attempts.c.batch_id == batch_id, attempts.c.state == AttemptState.LOST.value)
    sums = select(func.coalesce(func.sum(attempts.c.n - attempts.c.came), 0)).where(*of_tasks)
    dead = tx.execute(select(func.count()).where(*of_images)).scalar_one()
    return int(dead) + int(tx.execute(sums).scalar_one())


def ended(tx: Connection, batch_id: int, now: float) -> float:
    """When something last happened to the batch."""
    mine = attempts.c.batch_id == batch_id
    dead = (images.c.batch_id == batch_id, images.c.state == ImageState.LOST.value, images.c.expires_at <= now)
    of_jobs = (events.c.job_id >= first_number(batch_id), events.c.job_id < first_number(batch_id + 1))
    times = (
        select(batches.c.created_at).where(batches.c.id == batch_id),
        select(func.max(images.c.stored_at)).where(images.c.batch_id == batch_id, images.c.stored_at.is_not(None)),
        select(func.max(images.c.expires_at)).where(*dead),
        select(func.max(func.coalesce(attempts.c.finished_at, attempts.c.created_at))).where(mine),
        select(func.max(events.c.at)).where(*of_jobs),
    )
    return max(float(tx.execute(each).scalar() or 0.0) for each in times)
