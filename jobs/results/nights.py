"""What messages tell of a schedule's times: what each has made so far, and what those before it made untold. Pure.

Over all messages each image is told once: of each time its newest message counts (docs/reference/messages.md). What a
time made after its own message, where a later one has been recorded meanwhile, is told with that later one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.ledger.schedules.values import Bought, Firing
from jobs.policy.firing import BEFORE, MADE, SPENT
from jobs.states import FiringState

#: Images made, and micro-dollars charged.
Sums = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """The schedule's time that a batch has finished for: the last one that has sent, or taken over, something."""

    schedule: str
    at: float
    images: int  # made, replaced and surplus ones too
    charged: int  # micro-dollars
    goes_on: bool = True  # its end is not on record yet
    # What times before it made that no message has told.
    times_before: int = 0
    images_before: int = 0
    charged_before: int = 0
    told: Mapping[str, Any] = field(default_factory=dict)  # what is told when this is, for the next call


def night_of(schedule: str, times: Sequence[Firing], told: Mapping[str, Any] | None = None) -> Night | None:
    """What is told of the end of a batch.

    `times`: those recorded for it, the newest first, with what each bought. `told`: of the last end that was told.
    """
    if not times:
        return None
    shown = next((each for each in times if _has_made(each)), times[0])
    before = untold_before(shown, times, told)
    images, charged = _sums(shown)
    return Night(
        schedule=schedule,
        at=shown.at,
        images=images,
        charged=charged,
        goes_on=_has_made(shown) and shown.state in (FiringState.WORKING, FiringState.STOPPED),
        times_before=len(before),
        images_before=sum(each[0] for each in before.values()),
        charged_before=sum(each[1] for each in before.values()),
        told=_told_now(shown, times, told),
    )


def untold_before(shown: Firing, times: Sequence[Firing], told: Mapping[str, Any] | None) -> dict[int, Sums]:
    """What times before `shown` have made that no message but its own has told, by their numbers."""
    known, found = _told_by_others(shown, times, told), {}
    for each in times:
        images, charged = _sums(each)
        of_them, for_them = known.get(each.id, (0, 0))
        if each.id < shown.id and (images > of_them or charged > for_them):
            found[each.id] = max(0, images - of_them), max(0, charged - for_them)
    return found


def sums_by_now(numbers: Sequence[int], times: Sequence[Firing]) -> dict[str, Sums]:
    """What the times of these numbers have made, as JSON has it."""
    return {str(each.id): _sums(each) for each in times if each.id in numbers}


def _told_by_others(shown: Firing, times: Sequence[Firing], told: Mapping[str, Any] | None) -> dict[int, Sums]:
    """What was told of each time, but by the messages of `shown`, which its next one takes the place of."""
    known: dict[int, Sums] = {}

    def note(number: int, images: int, charged: int) -> None:
        before = known.get(number, (0, 0))
        known[number] = max(before[0], images), max(before[1], charged)

    remembered = (told["before"] if told["of"] == shown.id else told["times"]) if told else {}
    for number, sums in remembered.items():
        note(int(number), *sums)
    for each in times:
        if each.id == shown.id:
            continue
        note(each.id, each.detail.get(MADE) or 0, each.detail.get(SPENT) or 0)  # told when it stopped
        for number, sums in each.detail.get(BEFORE, {}).items():
            note(int(number), *sums)
        if not told and each.exit_code in _ENDED_WELL:  # older ledgers do not know what was told of it
            note(each.id, *_sums(each))
    return known


#: Exit codes of times whose batch had finished.
_ENDED_WELL = (0, 3)


def _told_now(shown: Firing, times: Sequence[Firing], told: Mapping[str, Any] | None) -> dict[str, Any]:
    before = {str(number): list(sums) for number, sums in _told_by_others(shown, times, told).items()}
    now = {str(each.id): list(_sums(each)) for each in times if each.id <= shown.id}
    return {"of": shown.id, "before": before, "times": {**before, **now}}


def _sums(firing: Firing) -> Sums:
    bought = firing.bought or Bought()
    return bought.images or 0, bought.charged


def _has_made(firing: Firing) -> bool:
    """Whether a time has sent something, whatever came of it, or taken images over."""
    return bool(firing.bought and firing.bought.sent) or bool(firing.detail.get("reused"))
