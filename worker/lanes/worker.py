"""Works shifts in lanes, on one event loop. What is in the air belongs to the crew and outlives the shift it began in.

A shift claims and starts work; it ends by itself. Sends, polls and copies go on after it, keep their leases, and are
waited for when the crew drains. Bells only wake: a shift that hears none still looks for itself every few seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from jobs.facts import Fact, SubmitUnclear
from jobs.ledger import is_away
from jobs.ledger.claims.values import Claim, DueCopy, DuePoll
from jobs.policy import rate
from worker.images.staging import remove_stale_bodies
from worker.lanes import maintenance
from worker.lanes.backpressure import BackpressureMonitor
from worker.runtime.budgets import differing
from worker.runtime.deadline_semaphore import DeadlineSemaphore
from worker.runtime.limits import budget_of, limits_of
from worker.runtime.telemetry import emit
from worker.services import Services
from worker.stages import copy, hint, poll, poll_batch, submit

#: Seconds of one shift in a Celery worker: short, so that a process that must end is never kept.
LANE_SECONDS = 20.0
#: Seconds after which a lane looks for work although no bell rang: another process may have made some.
IDLE = 3.0
#: The same for polls that callbacks may make due, where the process that takes them has no bell to ring.
HINTED = 0.4
#: Seconds between two sweeps.
SWEEP_EVERY = 30.0
#: Seconds a lane rests after its claim failed; doubled up to the longest.
FIRST_REST = 1.0
LONGEST_REST = 15.0
#: Seconds between two claims of a lane: work that comes in the meantime shares one transaction.
BREATH = {"submit": 0.05, "poll": 0.1, "copy": 0.03, "sweep": 0.0}

#: Submits claimed at once; the ledger bounds what is in flight.
SUBMITS_AT_ONCE = 64
#: Polls of one account on their way.
POLLS_AT_ONCE = 32
#: Copies that run, and those that are claimed in all: the next are at hand without another claim. With the limit of one
#: image this bounds what downloads may fill a disk with: 4 GB.
COPIES_AT_ONCE = 16
COPIES_CLAIMED = 48

#: Seconds that polls and copies are waited for when the crew ends; none of them is lost when it is cut off.
BRIEFLY = 3.0
#: Seconds for the last records.
LAST_RECORDS = 5.0


def lanes_of(accounts: Iterable[str]) -> list[str]:
    """Every lane there is."""
    return [*(f"{kind}:{name}" for kind in ("submit", "poll") for name in accounts), "copy", "sweep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What the end of a crew left behind."""

    unknown: int  # submits that were sent and not answered
    money: int  # micro-dollars they may have cost
    rescued: int = 0  # facts that went to the rescue file


@dataclass(slots=True, eq=False)
class _Lane:
    """One lane of this process."""

    name: str
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    running: bool = False
    troubles: int = 0
    looked_at: float = 0.0  # boot clock: when a look for work last came back
    took: float = 0.0  # seconds of its last claim

    @property
    def kind(self) -> str:
        return self.name.partition(":")[0]

    @property
    def account(self) -> str:
        return self.name.partition(":")[2]


@dataclass(slots=True, eq=False)
class Worker:
    """All shifts of a process, and everything they have in the air."""

    services: Services
    only: str | None = None  # the one batch that may spend; what others have paid for is still polled and copied
    stopping: bool = False
    _lanes: dict[str, _Lane] = field(default_factory=dict)
    _sends: dict[asyncio.Task[Fact], submit.ClaimedSubmit] = field(default_factory=dict)
    _polls: dict[str, set[asyncio.Task[None]]] = field(default_factory=dict)
    _copies: set[asyncio.Task[None]] = field(default_factory=set)
    _copying: DeadlineSemaphore = field(default_factory=lambda: DeadlineSemaphore(COPIES_AT_ONCE))
    _to: dict[str, DeadlineSemaphore] = field(default_factory=dict)  # of them, by destination
    _gone: bool = False  # it has drained
    _backpressure: BackpressureMonitor = field(init=False)

    def __post_init__(self) -> None:
        self._backpressure = BackpressureMonitor(self.services)

    async def start(self) -> None:
        """Tells the ledger of the accounts, takes its clock, and records what a dead process could not."""
        services = self.services
        services.wakeups.hear(self.wake)
        await services.executors.blocking(remove_stale_bodies)
        services.clock.offset = await services.executors.read(services.ledger.clock_offset)
        now = services.clock.now()
        settings = services.settings
        await self._tell_of_other_budgets(now)
        daily_budget = budget_of(settings.daily_budget)
        await services.executors.write(
            services.ledger.sync_accounts, limits_of(settings), now, daily_budget=daily_budget
        )
        await maintenance.replay(services)

    async def _tell_of_other_budgets(self, now: float) -> None:
        """What workers keep is what the last start has said: here it changes for all of them."""
        services = self.services
        if services.ledger.is_sqlite:
            return  # nobody else works on it
        for one in await services.executors.read(differing, services.settings, services.ledger, now):
            emit("daily_budget_changes", level="warning", account=one.account, kept=one.kept, here=one.here)

    def wake(self, lane: str) -> bool:
        """Wakes the lane's shift; False when none is at work there."""
        at_work = self._lanes.get(lane)
        if at_work is None or not at_work.running:
            return False
        at_work.wake.set()
        return True

    async def run_lane(self, name: str, seconds: float = LANE_SECONDS) -> bool:
        """Works in a lane for so long; True when there is work left. A second shift in a lane only wakes the first."""
        lane = self._lanes.setdefault(name, _Lane(name))
        if lane.running or self.stopping:
            self.wake(name)
            return False
        lane.running, lane.looked_at = True, self.services.clock.boot()
        try:
            return await self._work(lane, seconds)
        finally:
            lane.running = False

    async def keep(self, lane: str) -> None:
        """Works in a lane until the crew ends."""
        while not self.stopping:
            await self.run_lane(lane, 3600.0)

    @property
    def open_submits(self) -> int:
        """Submits on their way."""
        return len(self._sends)

    def since_looks(self) -> dict[str, float]:
        """Seconds since the last look for work came back, in each lane where a shift is at work."""
        now = self.services.clock.boot()
        return {lane.name: now - lane.looked_at for lane in list(self._lanes.values()) if lane.running}

    async def tell_life(self) -> None:
        """Tells the ledger that this process lives, and when the laziest of its lanes last looked for work."""
        services = self.services
        # By a clock that has just been set, all others would seem silent, and their places free.
        services.clock.offset = await services.executors.read(services.ledger.clock_offset)
        now = services.clock.now()
        looked_at = now - max(self.since_looks().values(), default=0.0)
        await services.executors.write(services.ledger.touch_worker, services.holder, now, looked_at)

    # -- one shift -------------------------------------------------------------------------------------------------

    async def _work(self, lane: _Lane, seconds: float) -> bool:
        end = self.services.clock.boot() + seconds
        while True:
            lane.wake.clear()
            wait = await self._turn(lane)
            left = end - self.services.clock.boot()
            if left <= 0 or self.stopping:
                return wait < IDLE and not self.stopping
            await self._rest(lane, min(wait, left))

    async def _turn(self, lane: _Lane) -> float:
        """Claims what may be started now and starts it; seconds until the lane should look again."""
        try:
            next_at = await self._claim(lane)
        except Exception as trouble:  # noqa: BLE001  a ledger that is away for a minute ends no lane
            lane.troubles += 1
            if is_away(trouble):
                lane.looked_at = self.services.clock.boot()  # it looked; that nothing answers is not its fault
            self.services.writes.failed(trouble, self.services.clock.now())
            emit("claim_failed", level="warning", lane=lane.name, problem=repr(trouble)[:300])
            return min(LONGEST_REST, FIRST_REST * 2.0 ** min(lane.troubles - 1, 10))
        lane.troubles, lane.looked_at = 0, self.services.clock.boot()
        if lane.kind == "sweep":
            return SWEEP_EVERY
        idle = HINTED if self._may_be_hinted(lane) else IDLE
        return idle if next_at is None else min(idle, max(0.0, next_at - self.services.clock.now()))

    def _may_be_hinted(self, lane: _Lane) -> bool:
        services = self.services
        return (
            lane.kind == "poll" and not services.wakeups.far and bool(services.accounts[lane.account].webhook_base_url)
        )

    async def _claim(self, lane: _Lane) -> float | None:
        claims = {
            "submit": self._claim_submits,
            "poll": self._claim_polls,
            "copy": self._claim_copies,
            "sweep": self._sweep,
        }
        return await claims[lane.kind](lane)

    async def _rest(self, lane: _Lane, seconds: float) -> None:
        breath = BREATH[lane.kind]
        if breath:
            await self.services.clock.sleep(breath)
        if seconds <= breath or self.stopping:
            return
        try:
            async with asyncio.timeout(seconds - breath):
                await lane.wake.wait()
        except TimeoutError:
            return

    # -- submits ---------------------------------------------------------------------------------------------------

    async def _claim_submits(self, lane: _Lane) -> float | None:
        services = self.services
        if not services.recorder.healthy:
            return services.clock.now() + FIRST_REST
        await self._backpressure.tell()  # of a destination that has just refused, before more is claimed for it
        lease = submit.lease_for(services, lane.account)
        boot = services.clock.boot()
        claim = await services.executors.write(
            self._claim_or_give_back, lane.account, services.clock.now(), lease, rate.ahead(lane.took)
        )
        services.writes.worked()
        lane.took = services.clock.boot() - boot
        for intent in claim.intents:
            attempt = submit.ClaimedSubmit(intent=intent, boot_until=boot + lease, stopped=self.stopping)
            self._send(attempt)
        return claim.next_at

    def _claim_or_give_back(self, account: str, now: float, lease: float, ahead: float) -> Claim:
        """On a writer's thread. A ledger that was locked may answer when the crew has ended and nobody would send."""
        ledger, holder = self.services.ledger, self.services.holder
        claim = ledger.claim_submits(
            account, now, lease=lease, at_most=SUBMITS_AT_ONCE, ahead=ahead, only=self.only, holder=holder
        )
        if self._gone and claim.intents:
            ledger.record([submit.given_back(intent, now) for intent in claim.intents], now)
        return claim

    def _send(self, attempt: submit.ClaimedSubmit) -> None:
        task = asyncio.get_running_loop().create_task(submit.submit(self.services, attempt))
        self._sends[task] = attempt
        task.add_done_callback(lambda done: self._sends.pop(done, None))

    # -- polls -----------------------------------------------------------------------------------------------------

    async def _claim_polls(self, lane: _Lane) -> float | None:
        services = self.services
        flying = self._polls.setdefault(lane.account, set())
        room = POLLS_AT_ONCE - len(flying)
        if room <= 0:
            return None  # the first that comes back rings
        if services.accounts[lane.account].webhook_base_url:
            await self._claim_hints(lane, flying)  # may make polls due
        await services.poll_scheduler.refresh()
        due, next_at = await services.executors.write(
            services.ledger.claim_polls,
            lane.account,
            services.clock.now(),
            lease=poll.LEASE,
            at_most=room,
            together=services.poll_batching.most(lane.account),
            alone=services.poll_batching.alone,
        )
        services.writes.worked()
        requests = [list(asked) for _, asked in groupby(due, key=lambda one: one.request)]
        for asked in requests:
            self._fly(flying, self._poll(asked), lane, most=POLLS_AT_ONCE)
        if requests:
            services.poll_batching.note(lane.account, len(due), len(requests))
        return next_at

    def _poll(self, asked: Sequence[DuePoll]) -> Coroutine[Any, Any, None]:
        return poll.poll(self.services, asked[0]) if len(asked) == 1 else poll_batch.poll_many(self.services, asked)

    async def _claim_hints(self, lane: _Lane, flying: set[asyncio.Task[None]]) -> None:
        services = self.services
        heard = await services.executors.write(
            services.ledger.claim_hints, lane.account, services.clock.now(), lease=hint.LEASE
        )
        for one in heard:
            self._fly(flying, hint.look_into(services, one), lane, most=POLLS_AT_ONCE)

    # -- copies ----------------------------------------------------------------------------------------------------

    async def _claim_copies(self, lane: _Lane) -> float | None:
        services = self.services
        await self._backpressure.mind()
        for dest in services.destinations.to_probe(services.clock.now()):
            self._fly(self._copies, self._probe(dest, lane), lane, most=2 * COPIES_AT_ONCE)
        room = COPIES_CLAIMED - len(self._copies)
        if room <= COPIES_CLAIMED - 2 * COPIES_AT_ONCE:
            return None  # enough at hand; the first that is done rings
        due, next_at = await services.executors.write(
            services.ledger.claim_copies,
            services.clock.now(),
            holder=services.holder,
            lease=copy.LEASE,
            at_most=room,
            barred=list(services.destinations.troubles),
        )
        services.writes.worked()
        for one in due:
            self._fly(self._copies, self._copy(one), lane, most=2 * COPIES_AT_ONCE)
        return self._sooner_for_probes(next_at)

    async def _copy(self, due: DueCopy) -> None:
        """One copy, in its turn: of those that are claimed, the one whose link dies first."""
        to = self._to.setdefault(due.dest, DeadlineSemaphore(COPIES_AT_ONCE))
        to.resize(self.services.destinations.width(due.dest))
        async with to.share(1, due.expires_at), self._copying.share(1, due.expires_at):
            await copy.copy(self.services, due)
        to.resize(self.services.destinations.width(due.dest))

    async def _probe(self, dest: str, lane: _Lane) -> None:
        destinations = self.services.destinations
        if await self.services.executors.blocking(destinations.probe, dest, self.services.clock.now()):
            lane.wake.set()

    def _sooner_for_probes(self, next_at: float | None) -> float | None:
        probes = [trouble.next_probe_at for trouble in self.services.destinations.troubles.values()]
        return min([*probes, *([] if next_at is None else [next_at])], default=None)

    def _fly(self, flying: set[asyncio.Task[None]], work: Coroutine[Any, Any, None], lane: _Lane, *, most: int) -> None:
        if self._gone:  # a claim that came back after the end: whoever finds its leases over does the work
            work.close()
            return
        task = asyncio.ensure_future(work)
        flying.add(task)

        def down(done: asyncio.Task[None]) -> None:
            flying.discard(done)
            if len(flying) == most - 1:
                lane.wake.set()
            if not done.cancelled() and (error := done.exception()):
                emit("work_failed", level="error", lane=lane.name, problem=repr(error))

        task.add_done_callback(down)

    async def _sweep(self, _lane: _Lane) -> float | None:
        await maintenance.run_once(self.services)
        return None

    # -- the end ---------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Claims nothing more; what has not left stays."""
        self.stopping = True
        for attempt in self._sends.values():
            attempt.stopped = True
        for lane in self._lanes.values():
            lane.wake.set()

    async def drain(self, seconds: float, *, hurry: asyncio.Event | None = None) -> Drained:
        """Waits for the submits in the air, then briefly for the rest. `hurry`: from then on, waits for nothing."""
        self.stop()
        hurry = hurry or asyncio.Event()
        end = self.services.clock.boot() + seconds
        while self._claims_run() and self.services.clock.boot() < end and not hurry.is_set():
            await self.services.clock.sleep(0.01)  # a claim that runs may still bring intents, which are given back
        await self._await(self._sends, end - self.services.clock.boot(), hurry)
        rest = {*self._copies, *(task for tasks in self._polls.values() for task in tasks)}
        await self._await(rest, min(BRIEFLY, end - self.services.clock.boot()), hurry)
        return await self._cut_off()

    def _claims_run(self) -> bool:
        return any(lane.running for lane in self._lanes.values())

    async def _await(
        self, tasks: Iterable[asyncio.Task[Fact]] | Iterable[asyncio.Task[None]], seconds: float, hurry: asyncio.Event
    ) -> None:
        flying = set(tasks)
        if not flying or seconds <= 0 or hurry.is_set():
            return
        landed = asyncio.ensure_future(asyncio.wait(flying))
        hurried = asyncio.ensure_future(hurry.wait())
        await asyncio.wait({landed, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (landed, hurried):
            waiting.cancel()

    async def _cut_off(self) -> Drained:
        """Ends what is still in the air. A submit that was sent and not answered becomes unknown."""
        self._gone = True
        sends = dict(self._sends)
        rest = {*self._copies, *(task for tasks in self._polls.values() for task in tasks)}
        for task in (*sends, *rest):
            task.cancel()
        facts = await asyncio.gather(*sends, *rest, return_exceptions=True)
        unknown = {fact.attempt_id for fact in facts if isinstance(fact, SubmitUnclear)}
        rescued = await self.services.recorder.close(LAST_RECORDS)
        return Drained(unknown=len(unknown), money=await self._money(unknown), rescued=rescued)

    async def _money(self, attempt_ids: set[int]) -> int:
        if not attempt_ids:
            return 0
        listed = await self.services.executors.read(self.services.ledger.unknown)
        return sum(one.money for one in listed if one.attempt_id in attempt_ids)
