"""What is done by the clock at each sweep: times that have come are decided, and one that is due is read."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection

from jobs.ledger.schedules.values import Firing, Schedule
from worker.scheduling.reading import read
from worker.scheduling.telling import tell
from worker.services import Services


async def fall_due(services: Services) -> None:
    """Decides what becomes of every time that has come, and tells the log."""
    for one in await services.executors.write(services.ledger.schedules.fall_due, services.clock.now()):
        tell(one)


async def let_go(services: Services, of_schedule: int | None = None) -> None:
    """Times that wait for earlier ones begin, where these are over. `of_schedule`: of that one alone."""
    await services.executors.write(services.ledger.schedules.let_go, services.clock.now(), of_schedule)


Taken = tuple[Schedule, Firing]


async def take(services: Services, reading: Collection[int] = (), of_schedule: int | None = None) -> Taken | None:
    """A time whose manifest is to be read, if there is one; while all is stopped there is none.

    `reading`: the numbers of those that this process is reading. `of_schedule`: of that one alone.
    """
    ledger = services.ledger
    if await services.executors.read(ledger.emergency_stop.current) is not None:
        return None
    return await services.executors.write(
        ledger.schedules.take, services.holder, services.clock.now(), frozenset(reading), of_schedule
    )


async def read_taken(services: Services, taken: Taken, stopped: Callable[[], bool]) -> None:
    """Reads its manifest and records its batch, off the event loop; then there is work."""
    await services.executors.blocking(functools.partial(read, services, *taken, stopped))
    for account in services.accounts:
        services.wakeups.wake(f"submit:{account}")
