"""What is done by the clock at each sweep: times that have come are decided, and one that is due is read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jobs.formatting import utc
from jobs.states import FiringState
from worker.runtime.telemetry import emit
from worker.scheduling.reading import read
from worker.services import Services

_EVENTS = {
    FiringState.DUE: "schedule_fired",
    FiringState.QUEUED: "schedule_queued",
    FiringState.SKIPPED: "schedule_skipped",
    FiringState.MISSED: "schedule_missed",
}


async def fall_due(services: Services) -> None:
    """Decides what becomes of every time that has come."""
    for one in await services.executors.write(services.ledger.schedules.fall_due, services.clock.now()):
        about: dict[str, Any] = {"schedule": one.schedule, "at": utc(one.at)}
        if one.message is None:
            emit(_EVENTS[one.state], **about)
        else:
            emit(_EVENTS[one.state], level="warning", **about, problem=one.message)


async def read_one(services: Services, stopped: Callable[[], bool]) -> bool:
    """Reads the manifest of a time that is due, if there is one; True: there was."""
    ledger, now = services.ledger, services.clock.now()
    if await services.executors.read(ledger.emergency_stop.current) is not None:
        return False
    taken = await services.executors.write(ledger.schedules.take, services.holder, now)
    if taken is None:
        return False
    await services.executors.blocking(functools.partial(read, services, *taken, stopped))
    for account in services.accounts:
        services.wakeups.wake(f"submit:{account}")
    return True
