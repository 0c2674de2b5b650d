"""When submits of this process leave: those that a slow ledger or a slow machine held up do not leave all at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.policy import rate
from worker.runtime.clock import Clock


@dataclass(slots=True, eq=False, kw_only=True)
class Departures:
    """Keeps each account's rate at the place where submits leave. Belongs to one event loop.

    A claim spaces its submits from the moment it begins. If its commit takes seconds, the times of several are over
    when it comes back.
    """

    clock: Clock
    _turns: dict[str, float] = field(default_factory=dict)  # account -> the next turn, by the boot clock

    async def turn(self, account: str, interval: float) -> None:
        """Waits until the next submit of `account` may leave. Those that ask leave in the order in which they ask."""
        now = self.clock.boot()
        turn = self._turns.get(account, now)
        self._turns[account] = rate.next_turn(turn=turn, now=now, interval=interval)
        if turn > now:
            await self.clock.sleep(turn - now)

    def behind(self, account: str) -> float:
        """Seconds for which those that have asked keep the next one waiting."""
        return max(0.0, self._turns.get(account, 0.0) - self.clock.boot())
