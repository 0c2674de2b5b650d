"""Jobs are derived from their slots."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, bindparam, case, func, select, update

from jobs.ledger.schema import attempts, images, jobs
from jobs.states import Attempt, Image, Job, Slots, derive


def _count(condition: Any) -> Any:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def derive_jobs(tx: Connection, job_ids: Iterable[int]) -> None:
    """Derives the state of these jobs from their slots, and writes it."""
    wanted = sorted(set(job_ids))
    for start in range(0, len(wanted), 500):
        rows = [_derived(row) for row in tx.execute(_SLOTS, {"of_jobs": wanted[start : start + 500]})]
        if rows:
            tx.execute(_DERIVED, rows)


def _count_slots() -> Any:
    missing = images.c.state == Image.MISSING
    open_ = attempts.c.state.in_([Attempt.SUBMITTING.value, Attempt.RUNNING.value])
    mine = (images.c.job_id == jobs.c.id) & (images.c.revision == jobs.c.revision) & images.c.surplus.is_(False)
    return (
        select(
            jobs.c.id,
            jobs.c.closed,
            jobs.c.cancelled,
            _count(images.c.state == Image.STORED).label("stored"),
            _count(images.c.state == Image.GENERATED).label("generated"),
            _count(images.c.state == Image.LOST).label("lost"),
            _count(missing & open_).label("open"),
            _count(missing & (attempts.c.state == Attempt.UNKNOWN)).label("unknown"),
            _count(missing & images.c.attempt_id.is_(None)).label("free"),
            func.max(images.c.stored_at).label("stored_at"),
            func.max(case((images.c.state == Image.LOST, images.c.error_code))).label("lost_code"),
            func.max(case((images.c.state == Image.LOST, images.c.message))).label("lost_message"),
        )
        .select_from(jobs.join(images, mine).outerjoin(attempts, attempts.c.id == images.c.attempt_id))
        .where(jobs.c.id.in_(bindparam("of_jobs", expanding=True)))
        .group_by(jobs.c.id, jobs.c.closed, jobs.c.cancelled)
    )


_SLOTS = _count_slots()  # built once: to build it costs more than to run it


def _derived(row: Any) -> dict[str, Any]:
    counted = {name: int(getattr(row, name)) for name in ("stored", "generated", "lost", "open", "unknown", "free")}
    state = derive(Slots(**counted, closed=bool(row.closed), cancelled=bool(row.cancelled)))
    ended = state in (Job.DONE, Job.PARTIAL, Job.LOST)
    return {
        "of_job": row.id,
        "new_state": state.value,
        "ended_at": row.stored_at if ended else None,
        "code": row.lost_code,
        "said": row.lost_message,
    }


_DERIVED = (
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"))
    .values(
        state=bindparam("new_state"),
        done_at=bindparam("ended_at"),
        error_code=func.coalesce(jobs.c.error_code, bindparam("code")),
        message=func.coalesce(jobs.c.message, bindparam("said")),
    )
)
