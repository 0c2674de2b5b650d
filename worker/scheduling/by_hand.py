"""A time that is fired by hand where nobody works by the clock: this process works for its schedule alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jobs.ledger.accounts.worker_values import EmergencyStop
from jobs.ledger.reports.values import Progress
from jobs.ledger.schedules.values import Firing, Schedule
from jobs.results.completion import Reason, RunState, waits_for
from jobs.results.conditions import Standing
from jobs.results.stall import StallDetector
from jobs.states import FIRING_OPEN, FiringState
from worker.registration.options import UNATTENDED_STALL, read_duration
from worker.scheduling.following import why_it_waits
from worker.scheduling.reading import options_of
from worker.services import Services

#: Only a person lets these go on, who has stopped them: nothing is waited for.
_ON_A_WORD = (Reason.BATCH_PAUSED, Reason.ALL_PAUSED, Reason.AFTER_RESTORE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A batch of an earlier time that has rows left, and does not go on by itself."""

    batch: str
    reason: Reason
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _OneLook:
    """How it stands at one moment."""

    is_there: bool  # the schedule is on record
    going_on: Sequence[Firing]  # its times that are not over, but those that have stopped
    before: Sequence[str]  # batches with rows that a time which is fired now would buy again
    stopped: dict[str, Waiting]  # batches that do not go on by themselves
    on_its_way: bool  # images are being made or copied
    stop: EmergencyStop | None


@dataclass(slots=True, eq=False, kw_only=True)
class FiredByHand:
    """Fires a schedule once its earlier times are over, and tells when all that was begun for it is over."""

    services: Services
    schedule: Schedule
    at: float | None = None  # when it was fired
    times: set[int] = field(default_factory=set)  # the times that went on meanwhile
    batches: dict[str, None] = field(default_factory=dict)  # theirs, and others of the schedule that went on
    is_removed: bool = False
    stop: EmergencyStop | None = None  # what keeps its times from being begun
    waiting: Sequence[Waiting] = ()  # earlier batches because of which it was not fired
    _stalls: dict[str, StallDetector] = field(default_factory=dict)  # by batch

    async def is_over(self) -> bool:
        """One look. Fires as soon as nothing is in the way; then, whether anything is still to be waited for."""
        services, ledger = self.services, self.services.ledger
        look = await services.executors.read(self._look)
        self.times |= {each.id for each in look.going_on}
        self.is_removed = not look.is_there
        if self.is_removed:
            return not look.on_its_way
        is_begun = any(each.state in (FiringState.READING, FiringState.WORKING) for each in look.going_on)
        if look.stop is not None and not is_begun and (self.at is None or look.going_on):
            self.stop = look.stop
            return not look.on_its_way
        if look.going_on:
            return False
        if self.at is not None:
            return not look.on_its_way
        if look.before and all(name in look.stopped for name in look.before):
            self.waiting = [look.stopped[name] for name in look.before]
            return not look.on_its_way
        if not look.before:
            now = services.clock.now()
            if await services.executors.write(ledger.schedules.fire_by_hand, self.schedule.name, now) is None:
                self.at = now
                services.wakeups.wake("sweep")
        return False

    def _look(self) -> _OneLook:
        ledger, now = self.services.ledger, self.services.clock.now()
        # One that was removed, and added anew under its name, is another.
        schedule = ledger.schedules.find(self.schedule.name)
        is_there = schedule is not None and schedule.id == self.schedule.id
        going_on: list[Firing] = []
        before: tuple[str, ...] = ()
        if schedule is not None and is_there:
            going_on = [each for each in ledger.schedules.not_over(schedule.id) if each.state in FIRING_OPEN]
            in_the_way = ledger.schedules.in_the_way(schedule.id)
            before = in_the_way.batches if in_the_way else ()
            # Under their names before they are recorded: `remove` may come before the next look.
            named = (options_of(schedule, each.at, by_hand=each.by_hand).batch for each in going_on)
            self.batches |= dict.fromkeys([*before, *(each.batch for each in going_on if each.batch), *named])
        mine = self._counted(now)
        standing = Standing(now=now, accounts=ledger.accounts.all())
        stopped = {name: each for name, progress in mine.items() if (each := self._waiting(progress, standing))}
        flying = [name for name, each in mine.items() if each.images_in_flight or each.images_generated]
        return _OneLook(
            is_there=is_there,
            going_on=going_on,
            before=before,
            stopped=stopped,
            on_its_way=any(name not in stopped for name in flying),
            stop=ledger.emergency_stop.current(),
        )

    def _counted(self, now: float) -> dict[str, Progress]:
        """The schedule's batches that may go on, and those that did when it was still on record."""
        reports = self.services.ledger.reports
        every = [reports.progress(name, now) for name in self.services.ledger.conditions.batches_to_tell_of()]
        mine = {
            each.batch.name: each
            for each in every
            if each.batch.name in self.batches or (each.schedule and each.schedule.name == self.schedule.name)
        }
        self.batches |= dict.fromkeys(mine)
        others = [name for name in self.batches if name not in mine and self.services.ledger.batches.find(name)]
        return mine | {name: reports.progress(name, now) for name in others}

    def _waiting(self, progress: Progress, standing: Standing) -> Waiting | None:
        """A batch that `run` would not wait for any longer."""
        longest, name = self.schedule.options.get("max_stall"), progress.batch.name
        max_stall = read_duration(longest) if longest else UNATTENDED_STALL
        stall = self._stalls.setdefault(name, StallDetector(max_stall=max_stall))
        state = RunState(progress=progress, accounts=standing.accounts, now=standing.now)
        reason = stall.judge(state, self.services.clock.boot())
        if (told := waits_for(state)) in _ON_A_WORD:
            reason = told
        return Waiting(batch=name, reason=reason, why=why_it_waits(progress, standing, reason)) if reason else None
