"""A bounded amount of something, bytes or places, given to whoever's image dies first."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count


@dataclass(slots=True)
class Permit:
    """What one holder has of a room."""

    room: DeadlineSemaphore
    held: int = 0

    async def become(self, amount: int, before: float) -> None:
        """Holds so much from now on. What it has is given back first, so that no two wait for each other."""
        if amount > self.held:
            self.shrink(0)
            self.held = await self.room.take(amount, before)
        else:
            self.shrink(amount)

    def shrink(self, amount: int) -> None:
        """Holds no more than so much from now on."""
        if amount < self.held:
            self.room.give(self.held - amount)
            self.held = amount


@dataclass(slots=True, eq=False)
class DeadlineSemaphore:
    """Belongs to one event loop. One that asks for more than all gets all, alone."""

    size: int
    used: int = 0
    peak: int = 0  # of `used`, so far
    _waiting: list[tuple[float, int, int, asyncio.Future[None]]] = field(default_factory=list)
    _serial: count[int] = field(default_factory=count)

    async def take(self, amount: int, before: float) -> int:
        """Waits until there is room; returns what was taken. `before`: who has the least is served first."""
        amount = min(amount, self.size)
        if not self._waiting and self._fits(amount):
            self._use(amount)
            return amount
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (before, next(self._serial), amount, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(amount)  # it was served and cancelled at once
            else:
                self._serve()
            raise
        return amount

    def give(self, amount: int) -> None:
        """Gives back."""
        self.used -= amount
        self._serve()

    def resize(self, size: int) -> None:
        """More room, or less from the next on."""
        self.size = size
        self._serve()

    @contextlib.asynccontextmanager
    async def share(self, amount: int, before: float) -> AsyncIterator[Permit]:
        """A part of the room for a while."""
        share = Permit(self)
        try:
            await share.become(amount, before)
            yield share
        finally:
            share.shrink(0)

    def _fits(self, amount: int) -> bool:
        return self.used + amount <= self.size or not self.used

    def _use(self, amount: int) -> None:
        self.used += amount
        self.peak = max(self.peak, self.used)

    def _serve(self) -> None:
        """The first in order, and only that: a large one would wait for ever if small ones went past it."""
        while self._waiting:
            _, _, amount, turn = self._waiting[0]
            if turn.cancelled():
                heapq.heappop(self._waiting)
            elif self._fits(amount):
                heapq.heappop(self._waiting)
                self._use(amount)
                turn.set_result(None)
            else:
                return
