"""How fast: GCRA, the rate of requests as one moment in time. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Seconds of permits that a claim takes at once.
HORIZON = 0.25
#: Where claims take long, the horizon is this many times the seconds of the last one, so that the next is made before
#: the permits are used up.
CLAIMS_A_HORIZON = 2.0
#: Seconds of permits at most: what was claimed and not sent is held when a process dies.
LONGEST_HORIZON = 2.0

#: Part of the horizon that is left when a lane asks for the next permits: a claim that is late by less loses none,
#: whoever makes it.
_ASK_EARLY = 0.5

#: Seconds beyond its interval from which a next arrival is no limit any more: the clock was set back.
CLOCKS_DIFFER = 60.0

#: Part of an interval by which rounding may be off: Unix seconds in a float are good to a quarter of a microsecond.
_ROUNDING = 1e-3


def horizon_of(took: float) -> float:
    """Seconds of permits to claim, where the last claim took `took` seconds."""
    return min(LONGEST_HORIZON, max(HORIZON, CLAIMS_A_HORIZON * took))


@dataclass(frozen=True, slots=True, kw_only=True)
class Permits:
    """Requests that may leave in the coming `horizon` seconds: `count` of them, one each `interval` from `start` on."""

    start: float
    interval: float
    count: int
    short: bool  # fewer than the rate allows
    now: float
    horizon: float

    @property
    def times(self) -> tuple[float, ...]:
        """When each may leave."""
        return tuple(self.start + step * self.interval for step in range(self.count))

    def tat(self, used: int) -> float:
        """The rate's new state after the first `used` of them were taken."""
        return self.start + used * self.interval

    def next_at(self, used: int) -> float:
        """When to ask for more: well before the last one taken has left."""
        return max(self.now, self.tat(used) - _ASK_EARLY * self.horizon)


def next_turn(*, turn: float, now: float, interval: float) -> float:
    """When the next request may leave, where this one's turn was at `turn` and it leaves `now` at the earliest.

    One that is late by no more than a claim may be takes nothing from those behind it. Later ones move them: requests
    that were held up together do not leave together.
    """
    return max(turn, now - _ASK_EARLY * HORIZON) + interval


def permits(*, tat: float, now: float, per_second: float, horizon: float, most: int) -> Permits:
    """Permits for the coming `horizon` seconds, evenly spaced, at most `most` of them.

    `tat` is GCRA's theoretical arrival time: the earliest moment the next request may leave. A rate that was not used
    is not saved up, so a quiet account does not burst.
    """
    interval = 1.0 / per_second
    start = max(tat, now) if tat <= now + interval + CLOCKS_DIFFER else now
    allowed = math.floor((now + horizon - start) / interval + _ROUNDING) + 1 if start <= now + horizon else 0
    count, short = min(most, allowed), most < allowed
    return Permits(start=start, interval=interval, count=count, short=short, now=now, horizon=horizon)
