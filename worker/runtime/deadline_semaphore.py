"""A semaphore over a bounded amount, bytes or places, that serves whoever has the nearest deadline."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count


@dataclass(slots=True)
class Permit:
    """What one holder has of a semaphore."""

    semaphore: DeadlineSemaphore
    held: int = 0

    async def resize(self, amount: int, deadline: float) -> None:
        """Changes the amount that this permit holds; waits when it grows.

        To grow, it gives back what it has first, so that no two permits wait for each other.
        """
        if amount > self.held:
            self.shrink(0)
            self.held = await self.semaphore.take(amount, deadline)
        else:
            self.shrink(amount)

    def shrink(self, amount: int) -> None:
        """Holds no more than `amount` from now on."""
        if amount < self.held:
            self.semaphore.release(self.held - amount)
            self.held = amount


@dataclass(slots=True, eq=False)
class DeadlineSemaphore:
    """Belongs to one event loop. Whoever asks for more than there is gets all of it, alone."""

    size: int
    used: int = 0
    peak: int = 0  # of `used`, so far
    _waiting: list[tuple[float, int, int, asyncio.Future[None]]] = field(default_factory=list)
    _serial: count[int] = field(default_factory=count)

    @contextlib.asynccontextmanager
    async def acquire(self, amount: int, deadline: float) -> AsyncIterator[Permit]:
        """A permit for `amount`, held while the block lasts. `deadline`: who has the nearest is served first."""
        permit = Permit(self)
        try:
            await permit.resize(amount, deadline)
            yield permit
        finally:
            permit.shrink(0)

    async def take(self, amount: int, deadline: float) -> int:
        """Waits until `amount` is free, or all of the semaphore where it is smaller; returns what was taken."""
        amount = min(amount, self.size)
        if not self._waiting and self._fits(amount):
            self._use(amount)
            return amount
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (deadline, next(self._serial), amount, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(amount)  # it was served and cancelled at once
            else:
                self._serve()
            raise
        return amount

    def release(self, amount: int) -> None:
        """Gives back."""
        self.used -= amount
        self._serve()

    def resize(self, size: int) -> None:
        """Changes the amount there is. What is held already may exceed a smaller one until it is given back."""
        self.size = size
        self._serve()

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
