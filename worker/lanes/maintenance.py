"""The lane that sweeps: submits whose sender died, facts in rescue files, and lanes with work that nobody woke."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jobs.facts import Fact
from providers.types import MICROS
from worker.lanes.lane import Lane
from worker.lanes.retention import Retention
from worker.runtime.telemetry import emit
from worker.scheduling.clock import Taken, fall_due, let_go, read_taken, take
from worker.scheduling.reading import settings_words
from worker.services import Services

#: Seconds between two sweeps at least, where a time has come and cannot be acted on: all submits are stopped.
LEAST_PAUSE = 5.0
#: Manifests of schedules that one process reads at once: a source that answers slowly holds up no other schedule.
READINGS = 4


@dataclass(slots=True, eq=False, kw_only=True)
class SweepLane(Lane):
    """Sweeps, of which several processes may run one each."""

    @property
    def idle(self) -> float:
        """From one sweep to the next."""
        return self.services.timings.sweep_every

    reading: set[int] = field(default_factory=set)  # schedules' times whose manifests are read here
    is_archiving: bool = False
    has_told_of_settings: bool = False
    retention: Retention = field(default_factory=Retention)
    only: str | None = None  # the one batch that is worked on here; None: every one, and what is done by the clock
    of_schedule: int | None = None  # the one schedule that is worked for here: no time begins that is not on record

    async def claim(self) -> float | None:
        """One sweep."""
        await run_once(self.services)
        if self.only is not None:
            return None
        if self.of_schedule is None:
            self._archive()
        self._look_at_settings()
        return await self._by_the_clock()

    async def _by_the_clock(self) -> float | None:
        """Times that have come are decided, and manifests of some are read beside the sweeps; when the next comes."""
        services = self.services
        if self.of_schedule is None:
            await fall_due(services)
        await let_go(services, self.of_schedule)
        while len(self.reading) < READINGS and (taken := await take(services, self.reading, self.of_schedule)):
            self.reading.add(taken[1].id)
            self.start(self._read(taken), most=0)
        if self.of_schedule is not None or len(self.reading) == READINGS:
            return None  # the end of one wakes this lane
        next_at = await services.executors.read(services.ledger.schedules.next_at)
        return None if next_at is None else max(next_at, services.clock.now() + LEAST_PAUSE)

    async def _read(self, taken: Taken) -> None:
        try:
            await read_taken(self.services, taken, lambda: self.closed)
        finally:
            self.reading.discard(taken[1].id)
            self.wakeup.set()

    def _look_at_settings(self) -> None:
        """Says once that the files of settings have changed: a process that works for weeks keeps what it has read."""
        if not self.has_told_of_settings and (changed := self.services.settings.changed_files):
            self.has_told_of_settings = True
            emit("settings_changed", level="warning", files=changed, problem=settings_words(changed))

    def _archive(self) -> None:
        """Beside the sweeps, one batch that its schedule does not keep any longer goes into an archive."""
        if not self.is_archiving and self.services.clock.now() >= self.retention.looks_at:
            self.is_archiving = True
            self.start(self._archive_one(), most=0)

    async def _archive_one(self) -> None:
        try:
            await self.retention.archive_one(self.services, lambda: self.closed)
        finally:
            self.is_archiving = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceCounts:
    """What one sweep did."""

    unknown: int  # submits that nobody can know about any more
    replayed: int  # facts from rescue files
    woken: int  # lanes with work


async def run_once(services: Services) -> MaintenanceCounts:
    """One sweep; safe at any time, in any number of processes at once."""
    services.clock.offset = await services.executors.read(services.ledger.clock_offset)
    replayed = await replay(services)
    swept = await services.executors.write(services.ledger.facts.sweep, services.clock.now())
    for lane in swept.wakeups:
        services.wakeups.wake(lane)
    if swept.unknown:
        emit("submits_became_unknown", level="warning", count=swept.unknown)
    await _pay_again(services)
    await _fail_over(services)
    await services.executors.write(services.ledger.accounts.note_minute, services.clock.now())
    if not services.ledger.is_sqlite:  # there the one run asks for it at its looks, which is sooner
        await pause_failing(services)
    return MaintenanceCounts(unknown=swept.unknown, replayed=replayed, woken=len(swept.wakeups))


async def _pay_again(services: Services) -> None:
    """The policy for outcomes that stay unknown, where the settings allow money for it."""
    settings = services.settings
    if settings.on_unknown != "pay-again" or settings.unknown_budget <= 0:
        return
    budget = round(settings.unknown_budget * MICROS)
    settled = await services.executors.write(services.ledger.unknowns.pay_again, services.clock.now(), budget)
    if settled:
        emit("unknown_paid_again", level="warning", count=settled)
        for account in services.accounts:
            services.wakeups.wake(f"submit:{account}")


async def _fail_over(services: Services) -> None:
    """Rows that wait where nothing is taken, of batches that may go elsewhere."""
    moved = await services.executors.write(services.ledger.facts.fail_over, services.clock.now())
    if moved:
        emit("rows_moved", level="warning", count=moved)
        for account in services.accounts:
            services.wakeups.wake(f"submit:{account}")


async def pause_failing(services: Services, only: str | None = None) -> None:
    """Pauses batches most of whose rows fail alike, which the news tell of. `only`: that batch."""
    await services.executors.write(services.ledger.batches.pause_failing, only)


async def replay(services: Services) -> int:
    """Records what dead processes could not; returns how many facts that were."""
    return await services.executors.write(services.rescue_file.replay, lambda facts: _record(services, facts))


def _record(services: Services, facts: Sequence[Fact]) -> None:
    recorded = services.ledger.facts.record(facts)
    emit("facts_replayed", lanes=sorted(recorded.wakeups))
