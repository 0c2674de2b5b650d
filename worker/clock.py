"""Time, as the rest of the worker sees it; tests and simulations pass their own."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """What a clock can do. On PostgreSQL the database's clock counts, so `now` is ours moved by an offset."""

    offset: float

    def now(self) -> float:
        """Unix seconds by the ledger's clock."""

    def boot(self) -> float:
        """Seconds since this machine was started, its sleep included; nobody sets this clock."""

    async def sleep(self, seconds: float) -> None:
        """Waits."""


@dataclass(slots=True)
class SystemClock:
    """The machine's clocks. `offset`: seconds the ledger's clock is ahead of ours."""

    offset: float = 0.0

    def now(self) -> float:
        """Unix seconds by the ledger's clock."""
        return time.time() + self.offset

    def boot(self) -> float:
        """Seconds since this machine was started, its sleep included."""
        return time.clock_gettime(_BOOT)

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        await asyncio.sleep(seconds)


#: Where the system has no clock that runs through sleep (macOS names it otherwise), the monotonic one must do.
_BOOT: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
