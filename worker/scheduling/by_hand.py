"""A time that is fired by hand where nobody works by the clock: this process works for its schedule alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.ledger.reports.values import Progress
from jobs.ledger.schedules.values import Firing, Schedule
from jobs.results.completion import RunState
from jobs.results.stall import StallDetector
from jobs.states import FIRING_OPEN
from worker.registration.options import UNATTENDED_STALL, read_duration
from worker.services import Services


@dataclass(slots=True, eq=False, kw_only=True)
class FiredByHand:
    """Fires a schedule once its earlier times are over, and tells when all that was begun for it is over."""

    services: Services
    schedule: Schedule
    at: float | None = None  # when it was fired
    times: set[int] = field(default_factory=set)  # the times that went on meanwhile
    _stalls: dict[str, StallDetector] = field(default_factory=dict)  # by batch

    async def is_over(self) -> bool:
        """One look. Fires as soon as nothing is in the way; then, whether anything is still to be waited for."""
        services, ledger = self.services, self.services.ledger
        going_on = await services.executors.read(self._open)
        self.times |= {each.id for each in going_on}
        if going_on:
            return False
        is_there = await services.executors.read(ledger.schedules.find, self.schedule.name) is not None
        if self.at is None and is_there:
            now = services.clock.now()
            if await services.executors.write(ledger.schedules.fire_by_hand, self.schedule.name, now) is None:
                self.at = now
                services.wakeups.wake("sweep")
            return False
        return not await services.executors.read(self._has_images_on_their_way)

    def _open(self) -> list[Firing]:
        return [each for each in self.services.ledger.schedules.not_over(self.schedule.id) if each.state in FIRING_OPEN]

    def _has_images_on_their_way(self) -> bool:
        """Whether images are being made or copied, of any of its batches: a night's rows that waited, a `retry`."""
        ledger, now = self.services.ledger, self.services.clock.now()
        counted = [ledger.reports.progress(name, now) for name in ledger.conditions.batches_to_tell_of()]
        mine = [each for each in counted if each.schedule is not None and each.schedule.name == self.schedule.name]
        on_their_way = [self._is_on_its_way(each, now) for each in mine]  # of each, so that its stall is known
        return any(on_their_way)

    def _is_on_its_way(self, progress: Progress, now: float) -> bool:
        """As long as `run` would wait for it."""
        longest = self.schedule.options.get("max_stall")
        max_stall = read_duration(longest) if longest else UNATTENDED_STALL
        stall = self._stalls.setdefault(progress.batch.name, StallDetector(max_stall=max_stall))
        state = RunState(progress=progress, accounts=self.services.ledger.accounts.all(), now=now)
        has_stalled = stall.judge(state, self.services.clock.boot()) is not None
        return bool(progress.images_in_flight or progress.images_generated) and not has_stalled
