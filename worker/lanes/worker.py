"""Runs the lanes of a process on one event loop: each claims, starts what it has claimed, and claims again.

A run of a lane ends by itself after some time. What it has started goes on, keeps its leases, and is waited for when
the worker drains. Wakeups only wake: a lane that hears none still looks for work every few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from jobs.facts import Fact, SubmitUnclear
from jobs.ledger import is_away
from worker.images.staging import remove_stale
from worker.lanes import maintenance
from worker.lanes.backpressure import BackpressureMonitor
from worker.lanes.copy_lane import CopyLane
from worker.lanes.lane import Lane
from worker.lanes.poll_lane import PollLane
from worker.lanes.submit_lane import SubmitLane
from worker.runtime.budgets import differing
from worker.runtime.limits import budget_of, limits_of
from worker.runtime.telemetry import emit, is_telling
from worker.services import Services
from worker.stages import copy

#: Seconds between two looks whether a worker that ends still waits for answers.
LOOK_EVERY = 0.25


def lanes_of(accounts: Iterable[str]) -> list[str]:
    """Every lane there is."""
    return [*(f"{kind}:{name}" for kind in ("submit", "poll") for name in accounts), "copy", "sweep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What the end of a worker left behind."""

    unknown: int  # submits that were sent and not answered
    money: int  # micro-dollars they may have cost
    rescued: int = 0  # facts that went to the rescue file
    rescue_file: str = ""  # its full name
    unsaved: int = 0  # facts that nothing has taken


@dataclass(slots=True, eq=False)
class Worker:
    """The lanes of a process, and everything they have on its way."""

    services: Services
    only: str | None = None  # the one batch that may spend; what others have paid for is still polled and copied
    of_schedule: int | None = None  # the one schedule whose batches may spend, and whose times are begun
    stopping: bool = False
    _lanes: dict[str, Lane] = field(default_factory=dict)
    _ran_at: float = field(init=False)  # boot clock: when a run of any lane last ended
    _backpressure: BackpressureMonitor = field(init=False)

    def __post_init__(self) -> None:
        self._backpressure = BackpressureMonitor(self.services)
        self._ran_at = self.services.clock.boot()

    async def start(self) -> None:
        """Tells the ledger of the accounts, takes its clock, and records what a dead process could not."""
        services = self.services
        services.wakeups.hear(self.wake)
        await services.executors.blocking(remove_stale)
        services.clock.offset = await services.executors.read(services.ledger.clock_offset)
        now = services.clock.now()
        settings = services.settings
        await self._tell_of_risks()
        await self._tell_of_other_budgets(now)
        daily_budget = budget_of(settings.daily_budget)
        await services.executors.write(services.ledger.accounts.sync, limits_of(settings), daily_budget=daily_budget)
        await maintenance.replay(services)

    async def _tell_of_risks(self) -> None:
        services = self.services
        for risk in await services.executors.read(services.ledger.risks, sandbox=services.settings.is_sandbox):
            emit("ledger_at_risk", level="warning", problem=risk)

    async def _tell_of_other_budgets(self, now: float) -> None:
        """Workers keep the budgets of the last start: what differs here changes for all of them."""
        services = self.services
        if services.ledger.is_sqlite:
            return  # nobody else works on it
        for one in await services.executors.read(differing, services.settings, services.ledger, now):
            emit("daily_budget_changes", level="warning", account=one.account, kept=one.kept, here=one.here)

    # -- the loop --------------------------------------------------------------------------------------------------

    async def run_lane(self, name: str, seconds: float = math.inf) -> bool:
        """Works in a lane for `seconds`, or until the worker stops; True when work is left.

        Where the lane runs already, it is only woken.
        """
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = self._make_lane(name)
        if lane.running or self.stopping:
            lane.wakeup.set()
            return False
        clock = self.services.clock
        lane.running, lane.looked_at = True, clock.boot()
        end = clock.boot() + seconds
        try:
            while True:
                lane.wakeup.clear()
                try:
                    next_at = await lane.claim()
                except Exception as trouble:  # noqa: BLE001  a ledger that is away for a minute ends no lane
                    wait = self._after_failure(lane, trouble)
                else:
                    lane.failures, lane.looked_at = 0, clock.boot()
                    wait = lane.idle if next_at is None else min(lane.idle, max(0.0, next_at - clock.now()))
                left = end - clock.boot()
                if left <= 0 or self.stopping:
                    return wait < lane.idle and not self.stopping
                await self._pause(lane, min(wait, left))
        finally:
            lane.running, self._ran_at = False, clock.boot()

    def _make_lane(self, name: str) -> Lane:
        kind, _, account = name.partition(":")
        services, timings = self.services, self.services.timings
        if kind == "submit":
            return SubmitLane(
                name=name,
                services=services,
                pause=timings.submit_pause,
                account=account,
                backpressure=self._backpressure,
                only=self.only,
                of_schedule=self.of_schedule,
            )
        if kind == "poll":
            return PollLane(name=name, services=services, pause=timings.poll_pause, account=account)
        if kind == "copy":
            return CopyLane(name=name, services=services, pause=timings.copy_pause, backpressure=self._backpressure)
        return maintenance.SweepLane(name=name, services=services, only=self.only, of_schedule=self.of_schedule)

    def _after_failure(self, lane: Lane, trouble: Exception) -> float:
        """Seconds until the lane looks again."""
        services = self.services
        lane.failures += 1
        if is_away(trouble):
            lane.looked_at = services.clock.boot()  # it looked; that nothing answers is not its fault
        services.writes.failed(trouble, services.clock.now())
        if is_telling(lane.failures):
            emit("claim_failed", level="warning", lane=lane.name, times=lane.failures, problem=repr(trouble)[:300])
        timings = services.timings
        return min(timings.longest_claim_backoff, timings.claim_backoff * 2.0 ** min(lane.failures - 1, 10))

    async def _pause(self, lane: Lane, seconds: float) -> None:
        """Waits for a wakeup, `seconds` at most; a wakeup does not shorten the pause between two claims."""
        if rest := lane.rest:
            await self.services.clock.sleep(rest)
        if seconds <= rest or self.stopping:
            return
        try:
            async with asyncio.timeout(seconds - rest):
                await lane.wakeup.wait()
        except TimeoutError:
            return

    def wake(self, name: str) -> bool:
        """Wakes a lane; False when it does not run here."""
        lane = self._lanes.get(name)
        if lane is None or not lane.running:
            return False
        lane.wakeup.set()
        return True

    # -- how it is -------------------------------------------------------------------------------------------------

    @property
    def open_submits(self) -> int:
        """Submits on their way."""
        return len(self._sends())

    def since_looks(self) -> dict[str, float]:
        """Seconds since the last look for work came back, in each lane that runs. From any thread."""
        now = self.services.clock.boot()
        return {lane.name: now - lane.looked_at for lane in list(self._lanes.values()) if lane.running}

    def since_run(self) -> float:
        """Seconds since any lane last ran; 0: one runs now. From any thread."""
        runs = any(lane.running for lane in list(self._lanes.values()))
        return 0.0 if runs else self.services.clock.boot() - self._ran_at

    async def tell_life(self) -> None:
        """Tells the ledger that this process lives, and when the laziest of its lanes last looked for work."""
        services = self.services
        # By a clock that has just been set, all others would seem silent, and their places free.
        services.clock.offset = await services.executors.read(services.ledger.clock_offset)
        now = services.clock.now()
        looked_at = now - max(self.since_looks().values(), default=0.0)
        await services.executors.write(services.ledger.workers.touch, services.holder, now, looked_at)

    # -- the end ---------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Claims nothing more; what has not left stays."""
        self.stopping = True
        for lane in self._lanes.values():
            if isinstance(lane, SubmitLane):
                lane.stop()
            lane.wakeup.set()

    async def drain(self, seconds: float, *, hurry: asyncio.Event | None = None) -> Drained:
        """Waits for the submits on their way, then briefly for the rest. `hurry`: from then on, waits for nothing."""
        self.stop()
        hurry = hurry or asyncio.Event()
        clock = self.services.clock
        end = clock.boot() + seconds
        # A claim that runs may still bring intents, which are given back.
        while any(lane.running for lane in self._lanes.values()) and clock.boot() < end and not hurry.is_set():
            await clock.sleep(0.01)
        while self._is_awaited() and clock.boot() < end and not hurry.is_set():
            await self._await(self._sends(), min(LOOK_EVERY, end - clock.boot()), hurry)
        await self._await(self._others(), min(self.services.timings.drain_rest, end - clock.boot()), hurry)
        return await self._cut_off()

    def _is_awaited(self) -> bool:
        """Whether answers are waited for. Those that wait for a ledger that takes nothing are in the rescue file."""
        claimed = [
            each for lane in self._lanes.values() if isinstance(lane, SubmitLane) for each in lane.sends.values()
        ]
        return bool(claimed) and (self.services.recorder.healthy or not all(each.answered for each in claimed))

    def _sends(self) -> list[asyncio.Task[Fact]]:
        return [task for lane in self._lanes.values() if isinstance(lane, SubmitLane) for task in lane.sends]

    def _others(self) -> list[asyncio.Task[None]]:
        return [task for lane in self._lanes.values() for task in lane.on_its_way]

    async def _await(
        self, tasks: Sequence[asyncio.Task[Fact]] | Sequence[asyncio.Task[None]], seconds: float, hurry: asyncio.Event
    ) -> None:
        if not tasks or seconds <= 0 or hurry.is_set():
            return
        ended = asyncio.ensure_future(asyncio.wait(tasks))
        hurried = asyncio.ensure_future(hurry.wait())
        await asyncio.wait({ended, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (ended, hurried):
            waiting.cancel()

    async def _cut_off(self) -> Drained:
        """Ends what is still on its way. A submit that was sent and not answered becomes unknown."""
        for lane in self._lanes.values():
            lane.closed = True
        tasks: list[asyncio.Task[Fact] | asyncio.Task[None]] = [*self._sends(), *self._others()]
        for task in tasks:
            task.cancel()
        facts = await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(Exception):  # a ledger that takes nothing even now: `verify` finds them
            await copy.record_images_in_doubt(self.services)
        unknown = {fact.attempt_id for fact in facts if isinstance(fact, SubmitUnclear)}
        rescued = await self.services.recorder.close(self.services.timings.last_records)
        return Drained(
            unknown=len(unknown),
            money=await self._money(unknown),
            rescued=rescued - self.services.recorder.unsaved,
            unsaved=self.services.recorder.unsaved,
            rescue_file=self.services.rescue_file.name or "",
        )

    async def _money(self, attempt_ids: set[int]) -> int:
        if not attempt_ids:
            return 0
        try:
            listed = await self.services.executors.read(self.services.ledger.unknowns.all)
        except Exception as trouble:
            if not is_away(trouble):
                raise
            return 0
        return sum(one.money for one in listed if one.attempt_id in attempt_ids)
