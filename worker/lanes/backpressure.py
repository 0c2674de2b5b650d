"""Backpressure: no new submits for a destination that refuses, or where paid images would die before they are copied.

Each process judges by itself and says so in the ledger, where every claim of submits reads it. What it says is
forgotten unless repeated, so a process that dies holds nothing up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.ledger.accounts.worker_values import DestinationTrouble
from jobs.policy import copy_headroom
from jobs.policy.copy_headroom import Backlog, HeadroomState
from jobs.states import TroubleKind
from worker.runtime.clock import timed
from worker.runtime.telemetry import emit
from worker.services import Services

#: Seconds between two looks at what waits.
LOOK_EVERY = 5.0
#: Part of the time that these looks may take.
LOOKING_PART = 0.02
#: Seconds after which what still holds is said again; the ledger forgets it after `SAID_FOR`.
REPEAT_EVERY = 10.0


@dataclass(slots=True, eq=False)
class BackpressureMonitor:
    """How this process judges its destinations, and what it has told the ledger of them."""

    services: Services
    _judged: dict[str, HeadroomState] = field(default_factory=dict)
    _watched_since: dict[str, float] = field(default_factory=dict)
    _behind: dict[str, DestinationTrouble] = field(default_factory=dict)
    _next_look: float = 0.0
    _said: tuple[DestinationTrouble, ...] = ()
    _said_at: float = 0.0

    async def refresh(self) -> None:
        """Refreshes the backlog estimate and publishes troubles, when due; cheap when nothing is."""
        services = self.services
        for dest in services.destinations.recovered():
            await services.executors.write(services.ledger.destinations.hasten_copies, dest, services.clock.now())
        if services.clock.now() >= self._next_look:
            await self._look()
        await self.publish()

    async def publish(self) -> None:
        """Tells the ledger what is wrong, when that is new or has not been told for a while."""
        services = self.services
        now = services.clock.now()
        wrong = tuple(sorted([*self._refusing(), *self._behind.values()], key=lambda one: (one.dest, one.kind)))
        if wrong == self._said and not (wrong and now - self._said_at >= REPEAT_EVERY):
            return
        await services.executors.write(services.ledger.destinations.say_troubles, services.holder, wrong, now)
        ended = {trouble.dest for trouble in self._said} - {trouble.dest for trouble in wrong}
        self._said, self._said_at = wrong, now
        if ended:
            for account in services.accounts:
                services.wakeups.wake(f"submit:{account}")

    def _refusing(self) -> list[DestinationTrouble]:
        return [
            DestinationTrouble(
                dest=one.dest, kind=TroubleKind.REFUSES, since=one.since, code=one.code, message=one.message
            )
            for one in self.services.destinations.troubles.values()
        ]

    # -- copy headroom -------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        services = self.services
        now = services.clock.now()
        self._next_look = now + LOOK_EVERY
        backlogs, took = await services.executors.read(
            timed, services.clock, lambda: services.ledger.destinations.backlogs(now)
        )
        self._next_look = now + max(LOOK_EVERY, took / LOOKING_PART)
        for dest in {*backlogs, *self._judged}:
            self._judge(dest, backlogs.get(dest, Backlog()), now)

    def _judge(self, dest: str, backlog: Backlog, now: float) -> None:
        if backlog.waiting < copy_headroom.ENOUGH_WAITING:
            self._watched_since.pop(dest, None)
        watched = (
            now - self._watched_since.setdefault(dest, now) if backlog.waiting >= copy_headroom.ENOUGH_WAITING else 0.0
        )
        a_second = copy_headroom.pace(backlog, watched)
        loaded = (
            0.0 if not backlog.waiting else None if a_second is None else copy_headroom.load(backlog, a_second, now)
        )
        before = self._judged.get(dest, HeadroomState())
        after = self._judged[dest] = copy_headroom.judge(before, loaded)
        if after.paused and not before.paused and a_second is not None:
            self._behind[dest] = _behind(dest, backlog, a_second, now)
            emit("copies_are_behind_here", level="debug", dest=dest, problem=self._behind[dest].message)
        elif before.paused and not after.paused:
            del self._behind[dest]
            emit("copies_keep_up_here", level="debug", dest=dest)
        if after == HeadroomState():
            del self._judged[dest]


def _behind(dest: str, backlog: Backlog, a_second: float, now: float) -> DestinationTrouble:
    spare = copy_headroom.least_slack(backlog, a_second, now) or 0.0
    waiting = "1 paid image waits" if backlog.waiting == 1 else f"{backlog.waiting:,} paid images wait"
    message = f"{waiting} and {a_second:.3g} a second are stored: " + (
        f"the tightest has {spare:.0f} s to spare" if spare > 0 else "some would die before they are copied"
    )
    return DestinationTrouble(dest=dest, kind=TroubleKind.BEHIND, since=now, code="copies_behind", message=message)
