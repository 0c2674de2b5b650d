"""Jobs are derived from their slots."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Boolean, Connection, Text, bindparam, case, func, null, select, update

from jobs.ledger.database.many import update_many
from jobs.ledger.database.schema import IS_CURRENT, attempts, batches, images, jobs
from jobs.ledger.database.statements import among, fetch
from jobs.states import AttemptState, ImageState, JobState, Slots, derive

#: Its flag stands in an image's JSON list of flags.
HAS_WRONG_PIXELS = '%"wrong-pixels"%'
#: The code of a row whose images have other pixels than asked for, where the batch takes no others.
WRONG_PIXELS = "wrong_pixels"
_COUNTED = ("stored", "wrong", "generated", "stuck", "lost", "open", "unknown", "free")


def _count(condition: Any) -> Any:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def derive_jobs(tx: Connection, job_ids: Iterable[int]) -> None:
    """Derives the state of these jobs from their slots, and writes it."""
    wanted = sorted(set(job_ids))
    for start in range(0, len(wanted), 500):
        rows = [_derived(row) for row in fetch(tx, _SLOTS, {"of_jobs": wanted[start : start + 500]})]
        if rows:
            update_many(tx, _DERIVED, rows)


def _count_slots() -> Any:
    missing = images.c.state == ImageState.MISSING
    wrong = (images.c.state == ImageState.STORED) & batches.c.strict_size & images.c.flags.like(HAS_WRONG_PIXELS)
    stuck = (images.c.state == ImageState.GENERATED) & images.c.next_copy_at.is_(None)
    open_ = attempts.c.state.in_([AttemptState.SUBMITTING.value, AttemptState.RUNNING.value])
    return (
        select(
            jobs.c.id,
            jobs.c.closed,
            jobs.c.cancelled,
            _count(images.c.state == ImageState.STORED).label("stored"),
            _count(wrong).label("wrong"),
            _count(images.c.state == ImageState.GENERATED).label("generated"),
            _count(stuck).label("stuck"),
            _count(images.c.state == ImageState.LOST).label("lost"),
            _count(missing & open_).label("open"),
            _count(missing & (attempts.c.state == AttemptState.UNKNOWN)).label("unknown"),
            _count(missing & images.c.attempt_id.is_(None)).label("free"),
            func.max(images.c.stored_at).label("stored_at"),
            func.max(case((images.c.state == ImageState.LOST, images.c.error_code))).label("lost_code"),
            func.max(case((images.c.state == ImageState.LOST, images.c.message))).label("lost_message"),
            func.max(case((stuck, images.c.error_code))).label("stuck_code"),
            func.max(case((stuck, images.c.message))).label("stuck_message"),
        )
        .select_from(
            jobs.join(images, IS_CURRENT)
            .join(batches, batches.c.id == jobs.c.batch_id)
            .outerjoin(attempts, attempts.c.id == images.c.attempt_id)
        )
        .where(among(jobs.c.id, "of_jobs"))
        .group_by(jobs.c.id, jobs.c.closed, jobs.c.cancelled)
    )


_SLOTS = _count_slots()  # built once: to build it costs more than to run it


def _derived(row: Any) -> dict[str, Any]:
    counted = {name: int(getattr(row, name)) for name in _COUNTED}
    state = derive(Slots(**counted, closed=bool(row.closed), cancelled=bool(row.cancelled)))
    ended = state in (JobState.DONE, JobState.PARTIAL, JobState.LOST) or counted["wrong"]
    code, said = row.lost_code, row.lost_message
    if state is JobState.HELD and counted["stuck"]:
        code, said = row.stuck_code, row.stuck_message
    if counted["wrong"] and code is None:
        code, said = WRONG_PIXELS, f"{counted['wrong']} of {counted['stored']} stored images have other pixels"
    return {
        "of_job": row.id,
        "new_state": state.value,
        "ended_at": row.stored_at if ended else None,
        "code": code,
        "said": said,
        "is_sound": state is JobState.DONE and not counted["wrong"],
        "is_closed": bool(row.closed),
    }


def _error(kept: Any, told: Any) -> Any:
    """A row whose image came after all, when it had been given up, called lost or stuck, has no error.

    What a closed row ended with stays; one that is open has no error but its images'.
    """
    sound, closed = bindparam("is_sound", type_=Boolean), bindparam("is_closed", type_=Boolean)
    return case((sound, null()), (closed, func.coalesce(kept, told)), else_=told)


_DERIVED = (
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"))
    .values(
        state=bindparam("new_state"),
        done_at=bindparam("ended_at"),
        error_code=_error(jobs.c.error_code, bindparam("code", type_=Text)),
        message=_error(jobs.c.message, bindparam("said", type_=Text)),
    )
)
