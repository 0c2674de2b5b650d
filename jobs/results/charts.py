"""Small charts of how a batch came along, as points to draw. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.ledger.accounts.values import AccountMinute
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountHistory:
    """What an account did, and what it might, in stretches of `width` seconds from `start` on; the newest may go on."""

    start: float
    width: float
    submits: tuple[int, ...]  # in each
    refused: tuple[int, ...]  # of them, with 429
    allowed: tuple[float, ...]  # submits a minute at each one's end: declared, or learnt by then
    in_flight: tuple[int, ...]  # the most that were seen in each
    places: tuple[int, ...]  # that there might be: declared, or learnt by then

    @property
    def end(self) -> float:
        """The end of the newest stretch."""
        return self.start + len(self.submits) * self.width

    def a_minute(self) -> list[float]:
        """Submits a minute, by stretch."""
        return [number * 60 / self.width for number in self.submits]


def account_history(minutes: Sequence[AccountMinute], now: float) -> AccountHistory | None:
    """What is on record of an account, from its oldest minute until `now`; None: it did nothing.

    The oldest minute tells where the counts began, so what was done in it is not known.
    """
    if len(minutes) < 2:  # noqa: PLR2004  one says nothing of what was done
        return None
    start, width = minutes[0].at, 60.0
    while now >= start + MOST * width:
        width *= 2
    size = 1 + max(0, int((max(now, minutes[-1].at) - start) // width))
    submits, refused = [0] * size, [0] * size
    standing: list[AccountMinute | None] = [None] * size
    most = [0] * size
    for before, minute in pairwise(minutes):
        at = int((minute.at - start) // width)
        submits[at] += max(0, minute.attempts_made - before.attempts_made)
        refused[at] += max(0, minute.throttled - before.throttled)
        standing[at], most[at] = minute, max(most[at], minute.in_flight)
    lasting = list(accumulate(standing, lambda before, here: here or before, initial=minutes[0]))[1:]
    return AccountHistory(
        start=start,
        width=width,
        submits=tuple(submits),
        refused=tuple(refused),
        allowed=tuple(each.submits_per_second * 60 for each in lasting),
        in_flight=tuple(most[at] if here else lasting[at].in_flight for at, here in enumerate(standing)),
        places=tuple(each.max_in_flight for each in lasting),
    )


def _paired(line: Sequence[int]) -> tuple[int, ...]:
    return tuple(sum(line[at : at + 2]) for at in range(0, len(line), 2))


def points(values: Sequence[float], width: float, height: float, top: float | None = None) -> str:
    """A line through the values as SVG's `points`, from 0 to `top`, else to the largest; one value is drawn level."""
    values = list(values) if len(values) > 1 else [*values, *values]
    top = top or max(values, default=0) or 1
    step = width / max(1, len(values) - 1)
    return " ".join(f"{at * step:.1f},{height - height * each / top:.1f}" for at, each in enumerate(values))
