"""Working everything on record in this process until it is stopped: `schedule serve`, and `serve --work`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING

from cli.flow.session import LedgerSession, opened_or_made
from jobs.errors import BadInput

if TYPE_CHECKING:
    from jobs.settings.model import Settings
    from worker.runtime.shutdown import StopSignal
    from worker.services import Services

#: Seconds between two sweeps: a schedule's time is begun as soon as that.
SWEEP_EVERY = 2.0

#: What is served beside the work; it is given what wakes a lane, from any thread.
Beside = Callable[[Callable[[str], object]], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def held_ledger(settings: Settings, command: str) -> Iterator[LedgerSession]:
    """The ledger, held by who works on it for all.

    Raises:
        BadInput: It is a cluster's.
        LedgerBusy: Another process works on it.
    """
    if settings.database_path is None:
        raise BadInput(f"{command} is for one machine (SQLite); on PostgreSQL the workers do its work.")
    with opened_or_made(settings) as session, session.ledger.hold(time.time(), serves=True):
        yield session


async def work_for_all(settings: Settings, beside: Beside | None = None) -> int:
    """Works on every batch and schedule until Ctrl-C or SIGTERM; the exit code. The caller holds the ledger."""
    from worker.local.serve import serve

    async with at_work(settings) as (services, stop):
        loop = asyncio.get_running_loop()

        def wake(lane: str) -> None:
            loop.call_soon_threadsafe(services.wakeups.wake, lane)

        with beside(wake) if beside else contextlib.nullcontext():
            await serve(services, stop=stop)
        return stop.exit_code


@contextlib.asynccontextmanager
async def at_work(settings: Settings) -> AsyncIterator[tuple[Services, StopSignal]]:
    """A worker's services, and what ends it."""
    from worker.runtime.garbage import collect_rarely
    from worker.runtime.shutdown import StopSignal
    from worker.runtime.timings import Timings
    from worker.services import build

    services = build(settings, timings=Timings(sweep_every=SWEEP_EVERY))
    collect_rarely()
    stop = StopSignal()
    try:
        with stop.listening():
            yield services, stop
    finally:
        await services.close()
