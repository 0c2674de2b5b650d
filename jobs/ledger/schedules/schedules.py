"""Schedules on record: added, edited, paused, removed."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from jobs.ledger.database.schema import batches, firings, schedule_months, schedules
from jobs.ledger.schedules.values import NewSchedule, Schedule
from jobs.policy.cron import next_time
from jobs.policy.firing import CatchUp, Into, OverlapPolicy
from jobs.states import FIRING_UNRECORDED, FiringState

#: What becomes of times that a pause found before anything was recorded for them.
PAUSED = "the schedule was paused (schedule pause)"


def find(tx: Connection, name: str) -> Schedule | None:
    """The schedule of that name."""
    row = tx.execute(select(schedules).where(schedules.c.name == name)).first()
    return as_schedule(row) if row else None


def every(tx: Connection) -> list[Schedule]:
    """All schedules, by name."""
    return [as_schedule(row) for row in tx.execute(select(schedules).order_by(schedules.c.name))]


def as_schedule(row: Any) -> Schedule:
    """A schedule's row as a value."""
    return Schedule(
        id=row.id,
        name=row.name,
        cron=row.cron,
        timezone=row.timezone,
        options=json.loads(row.options),
        into=Into(row.goes_into),
        overlap=OverlapPolicy(row.overlap),
        catch_up=CatchUp(row.catch_up),
        jitter=row.jitter,
        budget=row.budget,
        monthly_budget=row.monthly_budget,
        keep=row.keep,
        next_at=row.next_at,
        seen=json.loads(row.seen) if row.seen else None,
        created_at=row.created_at,
    )


def add(tx: Connection, new: NewSchedule, now: float) -> bool:
    """Puts it on record, its first time being the next; False: there is one of that name."""
    if find(tx, new.name) is not None:
        return False
    tx.execute(insert(schedules).values(name=new.name, created_at=now, **_values(new), next_at=_next(new, now)))
    return True


def edit(tx: Connection, new: NewSchedule, now: float) -> bool:
    """What is asked from now on; its next time is the first later than now, and its manifest is read anew.

    Whoever is reading it for the schedule as it was records nothing: that time begins again as it is asked for now.
    False: there is none of that name. One that is paused stays so.
    """
    before = find(tx, new.name)
    if before is None:
        return False
    next_at = None if before.next_at is None else _next(new, now)
    values = {**_values(new), "next_at": next_at, "seen": None}
    tx.execute(update(schedules).where(schedules.c.id == before.id).values(**values))
    reading = (firings.c.schedule_id == before.id, firings.c.state == FiringState.READING.value)
    tx.execute(update(firings).where(*reading).values(state=FiringState.DUE.value, holder=None))
    return True


def _values(new: NewSchedule) -> dict[str, Any]:
    return {
        "cron": new.cron,
        "timezone": new.timezone,
        "jitter": new.jitter,
        "goes_into": new.into.value,
        "overlap": new.overlap.value,
        "catch_up": new.catch_up.value,
        "options": json.dumps(dict(new.options), ensure_ascii=False, sort_keys=True),
        "budget": new.budget,
        "monthly_budget": new.monthly_budget,
        "keep": new.keep,
    }


def _next(schedule: NewSchedule, now: float) -> float:
    return next_time(schedule.cron, schedule.timezone, now)


def pause(tx: Connection, name: str, now: float) -> None:
    """No time of it fires until it is resumed, and none that waits, but those fired by hand.

    What is recorded goes on.
    """
    paused = update(schedules).where(schedules.c.name == name).values(next_at=None).returning(schedules.c.id)
    number = tx.execute(paused).scalar()
    waits = firings.c.state.in_([state.value for state in FIRING_UNRECORDED]) & firings.c.by_hand.is_(False)
    told = {"state": FiringState.SKIPPED.value, "message": PAUSED, "ended_at": now, "holder": None}
    tx.execute(update(firings).where(firings.c.schedule_id == number, waits).values(**told))


def resume(tx: Connection, name: str, now: float) -> None:
    """Its next time fires; those that passed meanwhile do not. One that was not paused stays as it is."""
    found = find(tx, name)
    if found is not None and found.next_at is None:
        tx.execute(update(schedules).where(schedules.c.id == found.id).values(next_at=_next(found, now)))


def remove(tx: Connection, name: str) -> None:
    """Takes it and its history off the record. Its batches stay, and what has begun goes on."""
    found = find(tx, name)
    if found is None:
        return
    # Batches before the schedule, and that before its times, as everybody takes these locks.
    tx.execute(update(batches).where(batches.c.schedule_id == found.id).values(schedule_id=None))
    tx.execute(select(schedules.c.id).where(schedules.c.id == found.id).with_for_update())
    tx.execute(delete(firings).where(firings.c.schedule_id == found.id))
    tx.execute(delete(schedule_months).where(schedule_months.c.schedule_id == found.id))
    tx.execute(delete(schedules).where(schedules.c.id == found.id))
