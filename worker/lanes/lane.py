"""What the lanes of a worker have in common: whether one runs, how its claims went, and what it has on its way."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from worker.runtime.telemetry import emit
from worker.services import Services

#: What a claim takes, from which on many come.
MANY = 8


@dataclass(slots=True, eq=False, kw_only=True)
class Lane(abc.ABC):
    """One lane of this process; belongs to its event loop.

    What it has started goes on when its run ends, keeps its lease, and is waited for when the worker drains.
    """

    name: str
    services: Services
    pause: float = 0.0  # seconds between two claims at least
    took: int = 0  # by the last claim
    running: bool = False
    failures: int = 0  # claims that failed one after the other
    looked_at: float = 0.0  # boot clock: when a look for work last came back
    closed: bool = False  # the worker has drained: nothing starts any more
    wakeup: asyncio.Event = field(default_factory=asyncio.Event)
    on_its_way: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def idle(self) -> float:
        """Seconds after which it looks for work though no wakeup came."""
        return self.services.timings.idle

    @property
    def rest(self) -> float:
        """Seconds until the next claim at least: more where one finds many, so that more share its transaction."""
        return self.pause * (self.services.timings.pauses_where_many if self.took >= MANY else 1)

    @abc.abstractmethod
    async def claim(self) -> float | None:
        """Claims what may be started now and starts it; when the next may be, in Unix seconds, where that is known."""

    def start(self, work: Coroutine[Any, Any, None], *, most: int) -> None:
        """Starts work. When it ends, and `most` were on their way, there is room again: the lane looks for more."""
        if self.closed:  # a claim that came back after the end: whoever finds its leases over does the work
            work.close()
            return
        task = asyncio.ensure_future(work)
        self.on_its_way.add(task)

        def ended(done: asyncio.Task[None]) -> None:
            self.on_its_way.discard(done)
            if len(self.on_its_way) == most - 1:
                self.wakeup.set()
            if not done.cancelled() and (error := done.exception()):
                emit("work_failed", level="error", lane=self.name, problem=repr(error))

        task.add_done_callback(ended)
