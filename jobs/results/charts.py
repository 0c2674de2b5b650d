"""Small charts of how a batch came along, as points to draw. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.ledger.reports.history import Stretch

#: Stretches of time that a chart has at most, and the shortest in seconds.
MOST, SHORTEST = 120, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Images stored, and what they cost, in stretches of `width` seconds from `start` on (seconds since 1970)."""

    start: float
    width: float
    images: tuple[int, ...] = ()
    money: tuple[int, ...] = ()  # micro-dollars

    @classmethod
    def spanning(cls, first: float, last: float) -> History:
        """An empty one that has room for these times."""
        width = SHORTEST
        while last >= first + MOST * width:
            width *= 2
        return cls(start=first, width=width)

    def coarser(self) -> History:
        """The same in stretches of twice the width."""
        return replace(self, width=self.width * 2, images=_paired(self.images), money=_paired(self.money))

    def with_newer(self, since: float, stretches: Iterable[Stretch]) -> History:
        """With what was counted anew, from `since` on, which begins a stretch."""
        begins = round((since - self.start) / self.width)
        images, money = list(self.images[:begins]), list(self.money[:begins])
        for each in stretches:
            at = begins + each.number
            for line in (images, money):
                line.extend([0] * (at + 1 - len(line)))
            images[at] += each.images
            money[at] += each.money
        return replace(self, images=tuple(images), money=tuple(money))

    @property
    def end(self) -> float:
        """The end of the newest stretch that has an image."""
        return self.start + len(self.images) * self.width

    def a_minute(self) -> list[float]:
        """Images a minute, by stretch."""
        return [number * 60 / self.width for number in self.images]

    def in_all(self) -> list[int]:
        """Micro-dollars until the end of each stretch."""
        total, found = 0, []
        for each in self.money:
            total += each
            found.append(total)
        return found


def _paired(line: Sequence[int]) -> tuple[int, ...]:
    return tuple(sum(line[at : at + 2]) for at in range(0, len(line), 2))


def points(values: Sequence[float], width: float, height: float) -> str:
    """A line through the values as SVG's `points`, from 0 to the largest; one value is drawn level."""
    values = list(values) if len(values) > 1 else [*values, *values]
    top = max(values, default=0) or 1
    step = width / max(1, len(values) - 1)
    return " ".join(f"{at * step:.1f},{height - height * each / top:.1f}" for at, each in enumerate(values))
