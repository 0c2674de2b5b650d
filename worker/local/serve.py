"""Works on everything in this process until it is stopped: every batch on record, and what is done by the clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from jobs.ledger import is_away
from worker.lanes.worker import Drained, Worker
from worker.local.at_work import at_work
from worker.runtime.shutdown import StopSignal
from worker.runtime.telemetry import emit
from worker.services import Services

#: Seconds between two looks whether the ledger is still there, and whether what was waited for is over.
LOOK_EVERY = 1.0


async def never() -> bool:
    """Nothing that is waited for: it works until it is stopped."""
    return False


async def serve(
    services: Services,
    *,
    stop: StopSignal,
    is_over: Callable[[], Awaitable[bool]] = never,
    of_schedule: int | None = None,
) -> Drained:
    """Works until `stop` says so, or `is_over` does; the caller holds the ledger. Returns what it left behind.

    `of_schedule`: for that schedule alone. What others have paid for is still polled and copied.

    Raises:
        LedgerGone: The ledger's file was taken away.
    """
    worker = Worker(services, of_schedule=of_schedule)
    stop.open_submits = lambda: worker.open_submits
    async with at_work(worker, stop) as work:
        is_there = await _until_the_end(services, stop, is_over)
    if not is_there:
        raise await services.executors.blocking(services.ledger.gone, services.clock.now())
    with contextlib.suppress(Exception):  # a ledger that is away: the next start tells
        await work.news.tell()
        await services.sender.finish(0.0 if stop.second.is_set() else services.timings.last_messages)
    return work.drained


async def _until_the_end(services: Services, stop: StopSignal, is_over: Callable[[], Awaitable[bool]]) -> bool:
    """False: the ledger's file is not at its place any more."""
    while not stop.first.is_set():
        if services.ledger.is_displaced():
            return False
        try:
            if await is_over():
                return True
        except Exception as trouble:
            if not is_away(trouble):
                raise
            emit("ledger_is_away", level="warning", problem=repr(trouble)[:300])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY):
                await stop.first.wait()
    return True
