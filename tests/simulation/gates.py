"""What providers allow and do not say: so many submits a second, so many tasks at once. It holds in calm too."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass

#: Seconds of its own rate that a provider lets through at once.
BURST = 1.5
#: What is allowed of both: tight enough to be met by a few dozen rows, or so much that nobody meets it.
RATES = (0.3, 1.5, 6.0, 1e6)
PLACES = (1, 2, 5, 1_000_000)


class Over(enum.StrEnum):
    """What a submit was too much for."""

    RATE = "beyond the rate"
    PLACES = "beyond the places"


@dataclass(slots=True, eq=False)
class Gate:
    """One account's limits at its provider: a bucket of submits, and places for tasks."""

    rate: float
    places: int
    _level: float = 0.0
    _at: float = 0.0

    def refuses(self, flying: int, now: float) -> Over | None:
        """What one more submit would be beyond; None: it may come in."""
        self._level = max(0.0, self._level - (now - self._at) * self.rate)
        self._at = now
        if flying >= self.places:
            return Over.PLACES
        if self._level + 1 > max(1.0, BURST * self.rate):
            return Over.RATE
        self._level += 1
        return None


def gate(rng: random.Random) -> Gate:
    """Some account's."""
    return Gate(rate=rng.choice(RATES), places=rng.choice(PLACES))
