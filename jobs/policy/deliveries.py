"""When a message that was not taken is sent again: for about a day, as Standard Webhooks advise. Pure."""

from __future__ import annotations

#: Seconds from each failed try to the next one. After the last of them, a message is given up.
DELAYS = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 36_000.0)
#: Part by which a delay may grow, so that what failed together is not sent again together.
JITTER = 0.2


def next_try(tries: int, now: float, chance: float) -> float | None:
    """When it is tried again; None: never. `tries`: that have failed, from 1. `chance`: from 0 to 1."""
    if tries > len(DELAYS):
        return None
    return now + DELAYS[tries - 1] * (1 + JITTER * chance)
