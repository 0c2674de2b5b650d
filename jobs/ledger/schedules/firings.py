"""The times of schedules: decided once when they come, taken by one process, and followed until they are over.

A time is decided under its schedule's lock, and (schedule, time) is unique besides. Its batch is recorded in one
transaction with the time itself, and only by the process that the time still belongs to. No time begins, and none is
recorded, while another batch of its schedule has rows that will still be bought or are on their way: `--reuse` takes no
images of rows that wait, so both batches would buy them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, func, insert, literal_column, select, update

from jobs.ledger.accounts import emergency_stop
from jobs.ledger.accounts.monthly_budgets import month_of
from jobs.ledger.database.schema import WILL_BE_BOUGHT, batches, firings, jobs, schedules, workers
from jobs.ledger.database.statements import has_row
from jobs.ledger.schedules.bought import attempts_so_far, by_times
from jobs.ledger.schedules.schedules import as_schedule
from jobs.ledger.schedules.values import (
    Attachment,
    Decided,
    Ended,
    Firing,
    InTheWay,
    InTheWayError,
    MissedTimes,
    NotOursError,
    Schedule,
)
from jobs.policy.cron import next_time
from jobs.policy.firing import LATE_AFTER, STOPPED_WITH, Into, at_its_time, fallen_due, is_lost_ahead, moment_of
from jobs.policy.liveness import SEEN_WITHIN
from jobs.states import FIRING_OPEN, FIRING_OVER, GOING_ON, FiringState, JobState

#: Seconds for which it stays on record what became of a time.
KEPT_FOR = 400 * 86_400.0
#: Times of a batch that are looked at to tell of its end.
_TIMES_OF_A_BATCH = 20
#: Batches that are named in a reason.
_NAMED = 3

STILL_RUNS = "the time before it is not over"
ALL_STOPPED = "all submits were stopped (pause --all)"
NEWER_CAME = "a newer time took its place in the queue"
OVERTAKEN = "the next time came before it began, and fired in its place"
#: The code of a time that waits for the monthly budget of its schedule.
MONTH_BUDGET_USED = "month_budget_used"
MISSED = "nobody was there to see it"
THE_NEXT_MAKES_THE_REST = "it went on after it had stopped, until the next time came, which made the rest"


def fall_due(tx: Connection, now: float) -> list[Decided]:
    """Decides what becomes of every time that has come. Safe in any number of processes at once."""
    lost = [row.id for row in tx.execute(select(schedules).where(schedules.c.next_at > now)) if _is_lost(row, now)]
    due = select(schedules).where((schedules.c.next_at <= now) | schedules.c.id.in_(lost)).order_by(schedules.c.id)
    stopped = emergency_stop.standing(tx) is not None
    found: list[Decided] = []
    for row in tx.execute(due.with_for_update(key_share=True)).all():
        if row.next_at <= now:
            found += _decide(tx, as_schedule(row), now, stopped=stopped)
        elif _is_lost(row, now):
            found.append(_put_right(tx, as_schedule(row), now))
    return found


def _is_lost(row: Any, now: float) -> bool:
    return is_lost_ahead(row.cron, row.timezone, row.next_at, now)


def _put_right(tx: Connection, schedule: Schedule, now: float) -> Decided:
    """The clock was far ahead, and is back: its times come again, but those for which a manifest was read.

    What else was decided of times that are still to come is taken back.
    """
    comes = next_time(schedule.cron, schedule.timezone, now)
    tx.execute(update(schedules).where(schedules.c.id == schedule.id).values(next_at=comes))
    mine = (firings.c.schedule_id == schedule.id, firings.c.batch_id.is_(None), firings.c.by_hand.is_(False))
    unread = [FiringState.DUE, FiringState.QUEUED, FiringState.SKIPPED, FiringState.MISSED]
    to_come = (firings.c.at > now, firings.c.state.in_([state.value for state in unread]))
    tx.execute(delete(firings).where(*mine, *to_come))
    waits = (firings.c.schedule_id == schedule.id, firings.c.state == FiringState.DUE.value)
    tx.execute(update(firings).where(*waits, firings.c.acts_at > now + schedule.jitter).values(acts_at=now))
    return Decided(schedule=schedule.name, at=comes, state=None)


def _decide(tx: Connection, schedule: Schedule, now: float, *, stopped: bool) -> list[Decided]:
    assert schedule.next_at is not None  # noqa: S101  it was selected by it
    due = fallen_due(schedule.cron, schedule.timezone, schedule.next_at, now, schedule.catch_up)
    tx.execute(update(schedules).where(schedules.c.id == schedule.id).values(next_at=due.next_at))
    tx.execute(_FORGET, {"of_schedule": schedule.id, "before": now - KEPT_FOR})
    decided = [_put(tx, schedule, at, FiringState.MISSED, now, MISSED) for at in due.missed]
    decided += [_put(tx, schedule, at, FiringState.SKIPPED, now, OVERTAKEN) for at in due.overtaken]
    if due.fires is not None:
        decided.append(_fire(tx, schedule, due.fires, now, stopped=stopped))
    return [one for one in decided if one is not None]


_FORGET = delete(firings).where(
    firings.c.schedule_id == bindparam("of_schedule"),
    firings.c.at < bindparam("before"),
    firings.c.state.in_([state.value for state in FIRING_OVER]),
)


def _fire(tx: Connection, schedule: Schedule, at: float, now: float, *, stopped: bool) -> Decided | None:
    if _is_on_record(tx, schedule.id, at):
        return None
    if stopped:
        return _put(tx, schedule, at, FiringState.SKIPPED, now, ALL_STOPPED)
    before = _before(tx, schedule)
    state = at_its_time(before.states, schedule.overlap)
    if state is FiringState.SKIPPED and before.goes_on_in_a_new_month(now):
        state = FiringState.QUEUED
    if state is FiringState.QUEUED:
        older = [row.id for row in before.times if row.state == FiringState.QUEUED]
        _set(tx, older, state=FiringState.SKIPPED.value, message=NEWER_CAME, ended_at=now)
    if state is not FiringState.SKIPPED:
        return _put(tx, schedule, at, state, now)
    why = before.why
    if now - at > LATE_AFTER:
        return _put(tx, schedule, at, FiringState.MISSED, now, f"{MISSED}, and it is not made up: {why}")
    return _put(tx, schedule, at, state, now, why)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Before:
    """What a time finds before it, and does not go on with."""

    times: Sequence[Any]  # those that are not over, the oldest first
    batches: Sequence[str]  # of times that are over, begun again: by `retry`, `resume`, `redo`, `unknown`

    @property
    def states(self) -> list[FiringState]:
        """Of the times that are not over; a batch that was begun again is one that goes on."""
        return [*(FiringState(row.state) for row in self.times), *(FiringState.WORKING for _ in self.batches)]

    @property
    def why(self) -> str:
        """Why a time does not begin, in words."""
        stopped = [row for row in self.times if row.state == FiringState.STOPPED]
        if stopped:
            return f"the time before it has stopped, and its batch waits: {stopped[-1].message}"
        if self.times or not self.batches:
            return STILL_RUNS
        more = " …" if len(self.batches) > _NAMED else ""
        return f"rows of an earlier batch wait, or are being made: {', '.join(self.batches[:_NAMED])}{more}"

    def goes_on_in_a_new_month(self, now: float) -> bool:
        """Whether all waits for a monthly budget that has begun anew: it goes on by itself, and is soon over."""
        return not self.batches and all(
            row.state == FiringState.STOPPED
            and row.code == MONTH_BUDGET_USED
            and row.ended_at is not None
            and month_of(row.ended_at) < month_of(now)
            for row in self.times
        )


def _before(tx: Connection, schedule: Schedule, besides: int | None = None) -> _Before:
    """`besides`: the number of the time itself, where it is on record."""
    own = schedule.name if schedule.into is Into.SAME else None
    times = [
        row
        for row in _not_over(tx, schedule.id)
        if row.id != besides and not (row.state == FiringState.STOPPED and row.batch == own)
    ]
    theirs = {own, *(row.batch for row in times)}
    again = [name for name in tx.execute(_OPEN_BATCHES, {"of_schedule": schedule.id}).scalars() if name not in theirs]
    return _Before(times=times, batches=again)


def _recorded_before(tx: Connection, schedule: Schedule, number: int) -> _Before:
    """The same for a time that was to begin: what waits behind it is not in its way, nor its own batch that goes on."""
    before, own = _before(tx, schedule, number), schedule.name if schedule.into is Into.SAME else None
    is_recorded = (FiringState.WORKING, FiringState.STOPPED)
    recorded = [row for row in before.times if row.state in is_recorded and row.batch != own]
    return _Before(times=recorded, batches=before.batches)


_GOES_ON = (
    # Both states by name, so that the index leads to them: else all rows of every batch would be read.
    jobs.c.state.in_([literal_column(f"'{state.value}'") for state in GOING_ON]),
    WILL_BE_BOUGHT | (jobs.c.state == JobState.WORKING.value),
)
_OPEN_BATCHES = (
    select(batches.c.name)
    .where(
        batches.c.schedule_id == bindparam("of_schedule"),
        has_row(select(jobs.c.id).where(jobs.c.batch_id == batches.c.id, *_GOES_ON)),
    )
    .order_by(batches.c.id)
)


def _not_over(tx: Connection, schedule_id: int) -> Sequence[Any]:
    over = [state.value for state in FIRING_OVER]
    mine = (firings.c.schedule_id == schedule_id, firings.c.state.not_in(over))
    return tx.execute(_with_batch().where(*mine).order_by(firings.c.at)).all()


def _put(
    tx: Connection, schedule: Schedule, at: float, state: FiringState, now: float, message: str | None = None
) -> Decided | None:
    """None: it is on record already, whatever the schedule's own row says."""
    if _is_on_record(tx, schedule.id, at):
        return None
    acts_at = moment_of(schedule.name, at, schedule.jitter)
    ended_at = now if state in FIRING_OVER else None
    known = {"schedule_id": schedule.id, "at": at, "acts_at": acts_at, "state": state.value}
    tx.execute(insert(firings).values(**known, message=message, ended_at=ended_at))
    return Decided(schedule=schedule.name, at=at, state=state, message=message)


def _is_on_record(tx: Connection, schedule_id: int, at: float) -> bool:
    there = select(firings.c.id).where(firings.c.schedule_id == schedule_id, firings.c.at == at)
    return tx.execute(there).first() is not None


def next_at(tx: Connection) -> float | None:
    """When the next time comes, or one that has come is acted on; None: there is none."""
    comes = tx.execute(select(func.min(schedules.c.next_at))).scalar()
    waits = tx.execute(select(func.min(firings.c.acts_at)).where(firings.c.state == FiringState.DUE.value)).scalar()
    return min((at for at in (comes, waits) if at is not None), default=None)


def by_hand(tx: Connection, name: str, now: float) -> InTheWay | None:
    """A time of its own, now; or what is in its way."""
    schedule = as_schedule(
        tx.execute(select(schedules).where(schedules.c.name == name).with_for_update(key_share=True)).one()
    )
    before = _before(tx, schedule)
    if before.states:
        return _in_its_way(before)
    known = {"schedule_id": schedule.id, "at": now, "acts_at": now, "state": FiringState.DUE.value, "by_hand": True}
    tx.execute(insert(firings).values(**known))
    return None


def in_the_way(tx: Connection, schedule_id: int) -> InTheWay | None:
    """What keeps a schedule from being fired now."""
    before = _before(tx, as_schedule(tx.execute(select(schedules).where(schedules.c.id == schedule_id)).one()))
    return _in_its_way(before) if before.states else None


def _in_its_way(before: _Before) -> InTheWay:
    found = dict.fromkeys([*(row.batch for row in before.times if row.batch), *before.batches])
    return InTheWay(why=before.why, batches=tuple(found), needs_a_person=FiringState.STOPPED in before.states)


# -- whoever reads the manifest ------------------------------------------------------------------------------------


def take(
    tx: Connection, holder: str, now: float, reading: Collection[int] = (), of_schedule: int | None = None
) -> tuple[Schedule, Firing] | None:
    """The next time whose manifest is to be read; one that a process had that shows life no more is taken over.

    `reading`: what `holder` reads now, and does not get again before that has ended, even if it was edited meanwhile.
    What else is in its hands is left, too: the ledger was away when it was to say how that went. `of_schedule`: of that
    one alone.
    """
    waits = (firings.c.state == FiringState.DUE.value) & (firings.c.acts_at <= now)
    # Not those that were seen last while the clock was ahead.
    alive = select(workers.c.name).where(workers.c.seen_at.between(now - SEEN_WITHIN, now + SEEN_WITHIN))
    # A process may take one before its first sign of life.
    began = ~firings.c.taken_at.between(now - SEEN_WITHIN, now + SEEN_WITHIN)
    is_left = firings.c.holder.not_in(alive) | (firings.c.holder == holder)
    left = (firings.c.state == FiringState.READING.value) & began & is_left
    mine = () if of_schedule is None else (firings.c.schedule_id == of_schedule,)
    wanted = (
        select(firings.c.id)
        .where(waits | left, firings.c.id.not_in(list(reading)), *mine)
        .order_by(firings.c.acts_at, firings.c.id)
        .limit(1)
    )
    number = tx.execute(wanted.with_for_update(skip_locked=True)).scalar()
    if number is None:
        return None
    row = tx.execute(select(firings).where(firings.c.id == number)).one()
    values = {"state": FiringState.READING.value, "holder": holder, "taken_at": now}
    _set(tx, [number], **values, tries=row.tries + 1, began_at=row.began_at or now)
    owner = tx.execute(select(schedules).where(schedules.c.id == row.schedule_id)).one()
    return as_schedule(owner), one(tx, number)


def release(tx: Connection, now: float) -> None:
    """For the one who knows that all other processes are dead: what they were reading is read anew."""
    reading = firings.c.state == FiringState.READING.value
    tx.execute(update(firings).where(reading).values(state=FiringState.DUE.value, acts_at=now, holder=None))


def _is_held(tx: Connection, number: int, holder: str) -> bool:
    """Whether it is still this process's to read. Its row is held from here on."""
    mine = (firings.c.id == number, firings.c.holder == holder, firings.c.state == FiringState.READING.value)
    return tx.execute(select(firings.c.id).where(*mine).with_for_update()).first() is not None


def put_off(tx: Connection, number: int, holder: str, until: float, message: str) -> None:
    """What may pass by itself: it is tried again at `until`."""
    if _is_held(tx, number, holder):
        _set(tx, [number], state=FiringState.DUE.value, acts_at=until, holder=None, message=message)


def stand_back(tx: Connection, number: int, holder: str, now: float) -> Decided | None:
    """A time that was to begin waits, or is skipped, where an earlier one was begun again; None: it may begin."""
    owner = _owner_of(tx, number)
    if owner is None or not _is_held(tx, number, holder):
        return None
    before = _recorded_before(tx, owner, number)
    state = at_its_time(before.states, owner.overlap)
    if state is FiringState.DUE:
        return None
    ended_at = None if state is FiringState.QUEUED else now
    why = None if state is FiringState.QUEUED else before.why
    _set(tx, [number], state=state.value, holder=None, message=why, ended_at=ended_at)
    return Decided(schedule=owner.name, at=one(tx, number).at, state=state, message=why)


def _owner_of(tx: Connection, number: int) -> Schedule | None:
    """The schedule of a time. Its row is held: before its times, as everybody takes these locks."""
    schedule_id = tx.execute(select(firings.c.schedule_id).where(firings.c.id == number)).scalar()
    row = tx.execute(select(schedules).where(schedules.c.id == schedule_id).with_for_update(key_share=True)).first()
    return as_schedule(row) if row else None


def attach(tx: Connection, attachment: Attachment, batch_id: int, now: float) -> None:
    """The batch is recorded for this time, in the transaction that records it. The batch's row is held.

    Raises:
        NotOursError: Somebody else reads its manifest by now.
        InTheWayError: Rows of an earlier time were begun again meanwhile.
    """
    owner = _owner_of(tx, attachment.firing_id)  # this transaction is not run again after a deadlock
    if owner is None or not _is_held(tx, attachment.firing_id, attachment.holder):
        raise NotOursError
    if _recorded_before(tx, owner, attachment.firing_id).states:
        raise InTheWayError
    schedule_id = owner.id
    tx.execute(update(batches).where(batches.c.id == batch_id).values(schedule_id=schedule_id))
    seen = json.dumps(dict(attachment.seen)) if attachment.seen is not None else None
    tx.execute(update(schedules).where(schedules.c.id == schedule_id).values(seen=seen))
    stopped = (firings.c.schedule_id == schedule_id, firings.c.state == FiringState.STOPPED.value)
    goes_on = (firings.c.batch_id == batch_id, firings.c.id != attachment.firing_id)
    tx.execute(update(firings).where(*stopped, *goes_on).values(state=FiringState.ENDED.value))
    # One that had stopped and goes on, since its month was raised, ends here: what is sent from now on is not its own.
    overtaken = update(firings).where(*goes_on, firings.c.state == FiringState.WORKING.value)
    ends = {"state": FiringState.ENDED.value, "exit_code": STOPPED_WITH, "message": THE_NEXT_MAKES_THE_REST}
    tx.execute(overtaken.values(**ends, ended_at=now))
    values = {"batch_id": batch_id, "attempts_before": attempts_so_far(tx), "message": None, "code": None}
    _set(
        tx,
        [attachment.firing_id],
        state=FiringState.WORKING.value,
        holder=None,
        **values,
        detail=_json(attachment.detail),
    )


def forget_seen(tx: Connection, batch_id: int) -> None:
    """Somebody else has recorded a manifest for the batch: its schedule reads its own anew, though it has not changed.

    The batch's row is held.
    """
    owner = select(batches.c.schedule_id).where(batches.c.id == batch_id).scalar_subquery()
    tx.execute(update(schedules).where(schedules.c.id == owner, schedules.c.seen.is_not(None)).values(seen=None))


def fail(tx: Connection, number: int, holder: str, ended: Ended, now: float) -> bool:
    """Nothing is recorded for it. False: it is somebody else's by now."""
    if not _is_held(tx, number, holder):
        return False
    end(tx, number, ended, now)
    return True


# -- until it is over ----------------------------------------------------------------------------------------------


def going_on(tx: Connection) -> list[tuple[Schedule, Firing]]:
    """Times whose batches are on record and not over, or wait for a person, with their schedules."""
    states = (FiringState.WORKING.value, FiringState.STOPPED.value)
    wanted = _with_batch().where(firings.c.state.in_(states)).order_by(firings.c.id)
    owners = {row.id: as_schedule(row) for row in tx.execute(select(schedules))}
    return [(owners[row.schedule_id], as_firing(row)) for row in tx.execute(wanted)]


def note_headway(tx: Connection, number: int, headway: str, now: float) -> None:
    """Its batch has got further since the last look."""
    _set(tx, [number], headway=headway, headway_at=now)


def end(tx: Connection, number: int, ended: Ended, now: float) -> None:
    """How it ended, or that it waits for a person. What is queued behind it is due when it is over."""
    row = tx.execute(select(firings).where(firings.c.id == number)).one()
    values = {"exit_code": ended.exit_code, "code": ended.code, "message": ended.message}
    _set(tx, [number], state=ended.state.value, ended_at=now, holder=None, **values)
    if ended.detail is not None:
        _set(tx, [number], detail=_json({**json.loads(row.detail), **ended.detail}))
    owner = as_schedule(tx.execute(select(schedules).where(schedules.c.id == row.schedule_id)).one())
    _let_go(tx, owner, now, skips=True)


def _let_go(tx: Connection, schedule: Schedule, now: float, *, skips: bool = False) -> None:
    """What is queued begins, where nothing is in its way any more. `skips`: it waits for none that has stopped.

    One that was queued behind a time that had stopped already knows that this goes on by itself.
    """
    for queued in [each for each in _not_over(tx, schedule.id) if each.state == FiringState.QUEUED]:
        before = _before(tx, schedule, queued.id)
        state = at_its_time(before.states, schedule.overlap)
        if state is FiringState.DUE:
            _set(tx, [queued.id], state=state.value, acts_at=now)
        elif skips and FiringState.STOPPED in before.states:
            _set(tx, [queued.id], state=FiringState.SKIPPED.value, message=before.why, ended_at=now)


def has_queued(tx: Connection, of_schedule: int | None) -> bool:
    """Whether a time waits for an earlier one. `of_schedule`: of that one alone."""
    mine = () if of_schedule is None else (firings.c.schedule_id == of_schedule,)
    return (
        tx.execute(select(firings.c.id).where(firings.c.state == FiringState.QUEUED.value, *mine)).first() is not None
    )


def let_go(tx: Connection, now: float, of_schedule: int | None) -> None:
    """What is queued begins, where nothing is in its way any more: also behind a batch whose own time was over."""
    waits = exists().where(firings.c.schedule_id == schedules.c.id, firings.c.state == FiringState.QUEUED.value)
    mine = () if of_schedule is None else (schedules.c.id == of_schedule,)
    wanted = select(schedules).where(waits, *mine).order_by(schedules.c.id)
    for row in tx.execute(wanted.with_for_update(key_share=True)).all():
        _let_go(tx, as_schedule(row), now)


def goes_on(tx: Connection, number: int, now: float) -> None:
    """One that waited for a person goes on: somebody has helped."""
    _set(tx, [number], state=FiringState.WORKING.value, ended_at=None, exit_code=None, message=None, headway_at=now)


def note_why(tx: Connection, number: int, code: str, message: str) -> None:
    """One that waits for a person waits for this now."""
    is_other = (firings.c.code != code) | (firings.c.message != message)
    waits = (firings.c.id == number, firings.c.state == FiringState.STOPPED.value, is_other)
    tx.execute(update(firings).where(*waits).values(code=code, message=message))


# -- reading -------------------------------------------------------------------------------------------------------


def history(tx: Connection, schedule_id: int, most: int, *, with_charges: bool = False) -> list[Firing]:
    """A schedule's times, the newest first."""
    mine = _with_batch().where(firings.c.schedule_id == schedule_id)
    found = [as_firing(row) for row in tx.execute(mine.order_by(firings.c.at.desc()).limit(most))]
    return _with_charges(tx, found) if with_charges else found


def newest(tx: Connection, now: float, *, with_charges: bool = False, settled: bool = False) -> dict[int, Firing]:
    """Each schedule's newest time that was neither skipped nor missed, by the schedule's number.

    `settled`: only of those that have ended or stopped.
    """
    # One that a clock has fired a year ahead does not stand for those until then.
    has_come = firings.c.at <= now + LATE_AFTER
    others = [FiringState.SKIPPED, FiringState.MISSED, *(FIRING_OPEN if settled else ())]
    told = has_come & firings.c.state.not_in([state.value for state in others])
    found: list[Firing] = []
    for schedule_id in tx.execute(select(schedules.c.id)).scalars().all():
        mine = _with_batch().where(firings.c.schedule_id == schedule_id, told)
        if row := tx.execute(mine.order_by(firings.c.at.desc()).limit(1)).first():
            found.append(as_firing(row))
    return {each.schedule_id: each for each in (_with_charges(tx, found) if with_charges else found)}


def missed(tx: Connection, since: float) -> dict[int, MissedTimes]:
    """The times in a row that nobody saw, by the schedule's number; of those that were found so since then."""
    unseen = firings.c.state == FiringState.MISSED.value
    began = firings.c.state.not_in([FiringState.SKIPPED.value, FiringState.MISSED.value])
    newest = select(firings.c.schedule_id, func.max(firings.c.at)).where(unseen, firings.c.ended_at >= since)
    found: dict[int, MissedTimes] = {}
    for schedule_id, last in tx.execute(newest.group_by(firings.c.schedule_id)).all():
        mine = (firings.c.schedule_id == schedule_id, firings.c.at <= last)
        before = tx.execute(select(func.max(firings.c.at)).where(*mine, began)).scalar() or 0.0
        in_a_row = select(func.count(), func.min(firings.c.at)).where(*mine, unseen, firings.c.at > before)
        count, first = tx.execute(in_a_row).one()
        found[schedule_id] = MissedTimes(count=count, first=first, last=last)
    return found


def of_batch(tx: Connection, name: str) -> list[Firing]:
    """The last times that were recorded for a batch, the newest first, with what each has bought."""
    mine = _with_batch().where(batches.c.name == name).order_by(firings.c.id.desc()).limit(_TIMES_OF_A_BATCH)
    return _with_charges(tx, [as_firing(row) for row in tx.execute(mine)])


def _with_charges(tx: Connection, found: Sequence[Firing]) -> list[Firing]:
    bought = by_times(tx, [each.id for each in found if each.batch is not None])
    return [replace(each, bought=bought.get(each.id)) for each in found]


def not_over(tx: Connection, schedule_id: int) -> list[Firing]:
    """A schedule's times that are not over, those that wait for a person too; the oldest first."""
    over = [state.value for state in FIRING_OVER]
    mine = _with_batch().where(firings.c.schedule_id == schedule_id, firings.c.state.not_in(over))
    return [as_firing(row) for row in tx.execute(mine.order_by(firings.c.at))]


def rows_before(tx: Connection, schedule_id: int) -> int | None:
    """How many rows the manifest had that was recorded last for a schedule; None: none was."""
    mine = (firings.c.schedule_id == schedule_id, firings.c.batch_id.is_not(None))
    detail = tx.execute(select(firings.c.detail).where(*mine).order_by(firings.c.id.desc()).limit(1)).scalar()
    return None if detail is None else json.loads(detail).get("rows")


def one(tx: Connection, number: int) -> Firing:
    """The time of that number."""
    return as_firing(tx.execute(_with_batch().where(firings.c.id == number)).one())


def _with_batch() -> Any:
    joined = firings.outerjoin(batches, batches.c.id == firings.c.batch_id)
    return select(firings, batches.c.name.label("batch")).select_from(joined)


def as_firing(row: Any) -> Firing:
    """A time's row as a value."""
    return Firing(
        id=row.id,
        schedule_id=row.schedule_id,
        at=row.at,
        acts_at=row.acts_at,
        by_hand=row.by_hand,
        state=FiringState(row.state),
        batch=row.batch,
        holder=row.holder,
        tries=row.tries,
        headway=row.headway,
        headway_at=row.headway_at,
        began_at=row.began_at,
        ended_at=row.ended_at,
        exit_code=row.exit_code,
        code=row.code,
        message=row.message,
        detail=json.loads(row.detail),
    )


def _set(tx: Connection, numbers: Sequence[int], **values: Any) -> None:
    if numbers:
        tx.execute(_OF_THESE.values(**values), {"these": list(numbers)})


_OF_THESE = update(firings).where(firings.c.id.in_(bindparam("these", expanding=True)))


def _json(detail: Mapping[str, Any]) -> str:
    return json.dumps(dict(detail), ensure_ascii=False)
