"""The emergency stop, as a submit asks for it directly before its POST: what is claimed and not sent is given back."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field

from jobs.ledger import Ledger
from worker.runtime.clock import Clock
from worker.runtime.executors import Executors

#: Seconds for which one look serves all submits of a process. `pause --all` waits for longer before it counts.
FRESH = 0.25


@dataclass(slots=True, eq=False, kw_only=True)
class StopCheck:
    """Whether submits are stopped, as this process last saw it. Belongs to one event loop."""

    ledger: Ledger
    executors: Executors
    clock: Clock
    is_stopped: bool = False
    _looked_at: float = -math.inf  # boot clock: when the last look that came back was begun
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def look(self) -> bool:
        """Whether submits are stopped now, give or take `FRESH` seconds.

        Raises:
            Exception: The ledger's own, where it does not answer.
        """
        async with self._looking:
            began = self.clock.boot()
            if began - self._looked_at > FRESH:
                self.is_stopped = await self.executors.read(self.ledger.emergency_stop.current) is not None
                self._looked_at = began
        return self.is_stopped
