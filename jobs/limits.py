"""How fast and how many: GCRA for rates, additive growth and halving for limits nobody has declared. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: What an account whose limits are not declared starts with, and may grow to. No provider publishes its limits, so it
#: starts as carefully as providers.md asks (2-4 at once) and grows while nothing is refused.
FIRST_SUBMITS_PER_SECOND = 1.0
FIRST_IN_FLIGHT = 4.0
MOST_SUBMITS_PER_SECOND = 10.0
MOST_IN_FLIGHT = 40.0
#: Polls cost nothing; this only keeps a careless cadence from becoming a flood.
DEFAULT_POLLS_PER_SECOND = 10.0

#: Seconds before its last permit is used that a lane may ask for the next ones.
_ASK_EARLY = 0.05

#: Seconds beyond its interval from which a next arrival is no limit any more: the clock was set back.
CLOCKS_DIFFER = 60.0

#: Part of an interval by which rounding may be off: Unix seconds in a float are good to a quarter of a microsecond.
_ROUNDING = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Permits:
    """When each permitted request may leave, the new state of the rate, and when to ask again."""

    times: tuple[float, ...]
    tat: float
    next_at: float


def permits(*, tat: float, now: float, per_second: float, ahead: float, most: int) -> Permits:
    """Permits for the coming `ahead` seconds, evenly spaced, at most `most` of them.

    `tat` is GCRA's theoretical arrival time: the earliest moment the next request may leave. A rate that was not used
    is not saved up, so a quiet account does not burst.
    """
    interval = 1.0 / per_second
    start = max(tat, now) if tat <= now + interval + CLOCKS_DIFFER else now
    count = min(most, math.floor((now + ahead - start) / interval + _ROUNDING) + 1) if start <= now + ahead else 0
    after = start + count * interval
    times = tuple(start + step * interval for step in range(count))
    return Permits(times=times, tat=after if count else tat, next_at=max(now, after - _ASK_EARLY))


def grown(rate: float, in_flight: float, accepted: int) -> tuple[float, float]:
    """The learnt limits after `accepted` submits went well."""
    return (
        min(MOST_SUBMITS_PER_SECOND, rate + 0.25 * accepted),
        min(MOST_IN_FLIGHT, in_flight + 0.5 * accepted),
    )


def shrunk(rate: float, in_flight: float) -> tuple[float, float]:
    """The learnt limits after the provider said it was too much."""
    return max(0.25, rate / 2), max(1.0, in_flight / 2)
