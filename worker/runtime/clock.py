"""Time, as the rest of the worker sees it; tests and simulations pass their own."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")

#: Seconds by which the wall clock must have fallen behind to count as set back, and not as slewed.
SET_BACK = 2.0


class Clock(Protocol):
    """What a clock can do. On PostgreSQL the database's clock counts, so `now` is ours moved by an offset."""

    offset: float

    def now(self) -> float:
        """Unix seconds by the ledger's clock."""

    def boot(self) -> float:
        """Seconds since this machine was started, its sleep included; nobody sets this clock."""

    def cpu(self) -> float:
        """Seconds of CPU that this thread has used."""

    async def sleep(self, seconds: float) -> None:
        """Waits."""


def timed(clock: Clock, work: Callable[[], T]) -> tuple[T, float]:
    """The result of `work`, and the seconds of CPU that it took. Waiting for a busy machine does not count."""
    before = clock.cpu()
    return work(), clock.cpu() - before


@dataclass(slots=True)
class SystemClock:
    """The machine's clocks. `offset`: seconds the ledger's clock is ahead of ours.

    A clock that is set back stands still for us, else polls, copies and permits would wait for as long as it went
    back. A new offset begins anew: it was measured against the clock as it is now.
    """

    offset: float = 0.0
    _offset_then: float = 0.0
    _wall_then: float = -math.inf
    _boot_then: float = 0.0

    def now(self) -> float:
        """Unix seconds by the ledger's clock."""
        wall, boot = self.wall(), self.boot()
        expected = self._wall_then + boot - self._boot_then
        if wall < expected - SET_BACK and abs(self.offset - self._offset_then) < SET_BACK:
            return expected + self.offset
        self._wall_then, self._boot_then, self._offset_then = wall, boot, self.offset
        return wall + self.offset

    def wall(self) -> float:
        """Unix seconds by this machine's clock, which people and machines set."""
        return time.time()

    def boot(self) -> float:
        """Seconds since this machine was started, its sleep included."""
        return time.clock_gettime(_BOOT)

    def cpu(self) -> float:
        """Seconds of CPU that this thread has used."""
        return time.thread_time()

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        await asyncio.sleep(seconds)


#: Where the system has no clock that runs through sleep (macOS names it otherwise), the monotonic one must do.
_BOOT: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
