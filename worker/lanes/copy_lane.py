"""The lane that saves: claims paid images, those whose links die first before all others, and copies them."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.ledger.claims.values import DueCopy
from worker.lanes.backpressure import BackpressureMonitor
from worker.lanes.lane import Lane
from worker.runtime.deadline_semaphore import DeadlineSemaphore
from worker.stages import copy


@dataclass(slots=True, eq=False, kw_only=True)
class CopyLane(Lane):
    """Copies of this process, and probes of destinations that refuse."""

    backpressure: BackpressureMonitor
    _running: DeadlineSemaphore = field(init=False)
    _to: dict[str, DeadlineSemaphore] = field(default_factory=dict)  # of them, by destination

    def __post_init__(self) -> None:
        self._running = DeadlineSemaphore(self.services.timings.copies_at_once)

    async def claim(self) -> float | None:
        """Claims copies for which there is room, and starts them; probes destinations that refuse, when that is due."""
        services, timings = self.services, self.services.timings
        destinations, enough = services.destinations, 2 * timings.copies_at_once
        await copy.record_images_in_doubt(services)  # where the ledger did not take them before
        await self.backpressure.refresh()
        for dest in destinations.to_probe(services.clock.now()):
            self.start(self._probe(dest), most=enough)
        if len(self.on_its_way) >= enough:
            return None  # enough at hand; the first that is done wakes the lane
        due, next_at = await services.executors.write(
            services.ledger.claims.copies,
            services.clock.now(),
            holder=services.holder,
            lease=copy.LEASE,
            at_most=timings.copies_claimed - len(self.on_its_way),
            barred=list(destinations.troubles),
        )
        services.writes.worked()
        self.took = len(due)
        for one in due:
            self.start(self._copy(one), most=enough)
        probes = [trouble.next_probe_at for trouble in destinations.troubles.values()]
        return min([*probes, *([] if next_at is None else [next_at])], default=None)

    async def _copy(self, due: DueCopy) -> None:
        """One copy, in its turn: of those that are claimed, the one whose link dies first."""
        services = self.services
        to = self._to.setdefault(due.dest, DeadlineSemaphore(services.timings.copies_at_once))
        to.resize(services.destinations.width(due.dest))
        async with to.acquire(1, due.expires_at), self._running.acquire(1, due.expires_at):
            fact = await copy.fetch_and_put(services, due)
        await copy.record(services, due, fact)  # while it is written, the next may run
        to.resize(services.destinations.width(due.dest))

    async def _probe(self, dest: str) -> None:
        services = self.services
        if await services.executors.blocking(services.destinations.probe, dest, services.clock.now()):
            self.wakeup.set()
