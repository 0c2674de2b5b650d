"""The lane that asks: claims provider tasks of one account that are due, and what callbacks have named."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from worker.lanes.lane import Lane
from worker.stages import hint, poll, poll_batch


@dataclass(slots=True, eq=False, kw_only=True)
class PollLane(Lane):
    """Polls of one account."""

    account: str

    @property
    def idle(self) -> float:
        """Shorter where callbacks may make polls due in a process that cannot wake this one."""
        services = self.services
        hinted = not services.wakeups.far and services.accounts[self.account].webhook_base_url
        return services.timings.idle_hinted if hinted else services.timings.idle

    async def claim(self) -> float | None:
        """Claims polls that are due, a request's worth of tasks together, and starts them."""
        services = self.services
        most = services.timings.polls_at_once
        free = most - len(self.on_its_way)
        if free <= 0:
            return None  # the first that comes back wakes the lane
        if services.accounts[self.account].webhook_base_url:
            hints = await services.executors.write(
                services.ledger.hints.claim, self.account, services.clock.now(), lease=hint.LEASE
            )
            for one in hints:  # may make polls due
                self.start(hint.look_into(services, one), most=most)
        await services.poll_scheduler.refresh()
        due, next_at = await services.executors.write(
            services.ledger.claims.polls,
            self.account,
            services.clock.now(),
            lease=poll.LEASE,
            at_most=free,
            together=services.poll_batching.most(self.account),
            alone=services.poll_batching.alone,
        )
        services.writes.worked()
        self.took = len(due)
        requests = [list(tasks) for _, tasks in groupby(due, key=lambda one: one.request)]
        for tasks in requests:
            work = poll.poll(services, tasks[0]) if len(tasks) == 1 else poll_batch.poll_batch(services, tasks)
            self.start(work, most=most)
        if requests:
            services.poll_batching.note(self.account, len(due), len(requests))
        return next_at
