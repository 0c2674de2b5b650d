"""A worker in this process: its lanes, its signs of life, what it tells the log, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any

from worker.lanes.liveness import show_end, show_life, watch_health
from worker.lanes.news import News
from worker.lanes.worker import Drained, Worker, lanes_of
from worker.runtime.shutdown import TERMINATED, StopSignal
from worker.services import Services

#: Seconds beyond a submit's own timeout that are waited for its record.
MARGIN = 5.0


@dataclass(slots=True)
class AtWork:
    """A worker while it works, and what its end left behind."""

    news: News
    drained: Drained


@contextlib.asynccontextmanager
async def at_work(worker: Worker, stop: StopSignal) -> AsyncIterator[AtWork]:
    """Works for as long as the context lasts, then waits for what is on its way. The caller holds the ledger."""
    services = worker.services
    await worker.start()
    work = AtWork(
        news=News(services, only=worker.only, of_schedule=worker.of_schedule), drained=Drained(unknown=0, money=0)
    )
    doing: list[Coroutine[Any, Any, object]] = [
        *(worker.run_lane(lane) for lane in lanes_of(services.accounts)),
        show_life(worker),
        watch_health(worker),
        work.news.tell_for_ever(),
        services.sender.send_for_ever(),
    ]
    tasks = [asyncio.create_task(each) for each in doing]
    try:
        yield work
    finally:
        work.drained = await worker.drain(_drain_seconds(services, stop), hurry=stop.second)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await show_end(worker)


def _drain_seconds(services: Services, stop: StopSignal) -> float:
    """SIGTERM has its own limit; everyone else waits as long as the provider may take to answer."""
    if stop.exit_code == TERMINATED:
        return services.settings.drain_seconds
    providers = {account.provider for account in services.accounts.values()}
    return max((services.routes.longest_submit(provider) for provider in providers), default=0.0) + MARGIN
