"""The lane that buys: claims rows of one account and sends each once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from jobs.facts import Fact
from jobs.ledger.claims.values import Claim
from jobs.policy import rate
from worker.lanes.backpressure import BackpressureMonitor
from worker.lanes.lane import Lane
from worker.stages import submit


@dataclass(slots=True, eq=False, kw_only=True)
class SubmitLane(Lane):
    """Submits of one account."""

    account: str
    backpressure: BackpressureMonitor
    only: str | None  # the one batch that may spend; None: every active one
    of_schedule: int | None = None  # the one schedule whose batches may spend
    stopping: bool = False  # what is claimed now is not sent any more
    sends: dict[asyncio.Task[Fact], submit.ClaimedSubmit] = field(default_factory=dict)
    _took: float = 0.0  # seconds of the last claim

    async def claim(self) -> float | None:
        """Claims submits while the ledger takes records, and starts them."""
        services = self.services
        if not services.recorder.healthy:
            return services.clock.now() + services.timings.claim_backoff
        horizon = rate.horizon_of(self._took)
        if (behind := services.departures.behind(self.account)) > horizon:
            return services.clock.now() + behind - horizon  # what is claimed is late as it is
        await self.backpressure.publish()  # of a destination that has just refused, before more is claimed for it
        lease = submit.lease_for(services, self.account)
        boot = services.clock.boot()
        claim = await services.executors.write(self._claim_or_give_back, services.clock.now(), lease, horizon)
        services.writes.worked()
        self._took = services.clock.boot() - boot
        for intent in claim.intents:
            self.send(submit.ClaimedSubmit(intent=intent, boot_until=boot + lease, stopped=self.stopping))
        return claim.next_at

    def _claim_or_give_back(self, now: float, lease: float, horizon: float) -> Claim:
        """On a writer's thread. A ledger that was locked may answer when the worker has ended: nobody would send."""
        services = self.services
        claim = services.ledger.claims.submits(
            self.account,
            now,
            lease=lease,
            at_most=services.timings.submits_at_once,
            horizon=horizon,
            only=self.only,
            of_schedule=self.of_schedule,
            holder=services.holder,
        )
        if self.closed and claim.intents:
            services.ledger.facts.record([submit.given_back(intent, now) for intent in claim.intents])
        return claim

    def send(self, attempt: submit.ClaimedSubmit) -> None:
        """Starts one paid try."""
        task = asyncio.get_running_loop().create_task(submit.submit(self.services, attempt))
        self.sends[task] = attempt
        task.add_done_callback(lambda done: self.sends.pop(done, None))

    def stop(self) -> None:
        """What has not left stays."""
        self.stopping = True
        for attempt in self.sends.values():
            attempt.stopped = True
