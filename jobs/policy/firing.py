"""What becomes of a schedule's times: which fire, which are missed, which wait for the one before. Pure."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Any

from jobs.policy.cron import next_time, times
from jobs.states import FIRING_OPEN, FiringState

#: Seconds after which a time that nobody has seen was missed: the sweeps of a cluster are ten seconds apart, and those
#: of one machine thirty.
LATE_AFTER = 300.0
#: Missed times that are kept on record, the newest.
MISSED_KEPT = 20
#: Seconds before now in which missed times are looked for, until there are enough.
_BACK = (3_600.0, 86_400.0, 35 * 86_400.0, 400 * 86_400.0, 60 * 366 * 86_400.0)
#: A manifest has shrunk that has at most this part of the rows that it had the time before, and this number fewer.
SHRUNK_TO, SHRUNK_BY = 0.5, 10
#: The exit code of a time whose batch has rows left that wait.
STOPPED_WITH = 4
#: Beside the plan of a time that --partial has stopped at its budget: rows that it left to a later one.
LEFT_OUT = "left_out"
#: Beside the plan of a time that stopped: images made by then, and micro-dollars charged.
MADE, SPENT = "made", "made_for"
#: What it told of times before it: by their numbers the images and micro-dollars of each by then; and of these, what no
#: message had told, as the number of times, images and micro-dollars.
BEFORE, UNTOLD = "before", "untold_before"
#: Beside the plan of a time whose batch was over with rows that needed a person: how many.
NEEDY = "rows_need_you"
#: The reason of a batch that --partial has ended at its budget: the next time takes its rest into another.
LEFT_TO_THE_NEXT = "its time's budget is used, and the next time makes the rest (--partial)"


class Into(enum.StrEnum):
    """Where the rows of a schedule's times go."""

    SAME = "same"  # one batch of the schedule's name
    NEW = "new"  # a batch each time


class OverlapPolicy(enum.StrEnum):
    """What becomes of a time while the one before it is not over."""

    SKIP = "skip"
    QUEUE = "queue"  # the newest waits


class CatchUp(enum.StrEnum):
    """What becomes of times that nobody has seen."""

    NONE = "none"
    LAST = "last"  # the newest of them fires


@dataclass(frozen=True, slots=True, kw_only=True)
class DueTimes:
    """A schedule's times up to now, that nothing was decided of."""

    fires: float | None  # Unix seconds; None: none of them
    missed: tuple[float, ...]  # the newest of the others
    overtaken: tuple[float, ...] = ()  # those that came a moment ago, and of which the newest fires for all
    next_at: float  # the first that is still to come


def fallen_due(cron: str, zone: str, next_at: float, now: float, catch_up: CatchUp) -> DueTimes:
    """What becomes of the times from `next_at` to `now`. `next_at`: the first that nothing was decided of."""
    due = _up_to_now(cron, zone, next_at, now)
    if not due:
        return DueTimes(fires=None, missed=(), next_at=next_at)
    newest = due[-1]
    fires = newest if catch_up is CatchUp.LAST or now - newest <= LATE_AFTER else None
    others = (due if fires is None else due[:-1])[-MISSED_KEPT:]
    return DueTimes(
        fires=fires,
        missed=tuple(at for at in others if now - at > LATE_AFTER),
        overtaken=tuple(at for at in others if now - at <= LATE_AFTER),
        next_at=next_time(cron, zone, newest),
    )


def is_lost_ahead(cron: str, zone: str, next_at: float, now: float) -> bool:
    """Whether times would pass unseen before `next_at`: it was found while a clock was far ahead."""
    return next_at > next_time(cron, zone, now + LATE_AFTER)


def _up_to_now(cron: str, zone: str, next_at: float, now: float) -> list[float]:
    """The last of them, as many as are kept on record: a schedule of every minute may have been away for a year."""
    found: list[float] = []
    for back in _BACK:
        begin = max(next_at, now - back)
        found = list(takewhile(lambda at: at <= now, times(cron, zone, begin - 1)))
        if len(found) > MISSED_KEPT or begin == next_at:
            break
    return found


def upcoming(cron: str, zone: str, now: float, count: int) -> list[float]:
    """The next times, in Unix seconds."""
    return list(islice(times(cron, zone, now), count))


def moment_of(name: str, at: float, jitter: float) -> float:
    """When a time is acted on: up to `jitter` seconds later, and always the same for one time of one schedule."""
    digest = hashlib.sha256(f"{name} {at!r}".encode()).digest()
    return at + jitter * int.from_bytes(digest[:6]) / (1 << 48)


def at_its_time(before: Sequence[FiringState], overlap: OverlapPolicy) -> FiringState:
    """The state that a time begins in. `before`: the states of the times that it does not go on with, and not over."""
    if any(state in FIRING_OPEN for state in before):
        return FiringState.QUEUED if overlap is OverlapPolicy.QUEUE else FiringState.SKIPPED
    return FiringState.SKIPPED if FiringState.STOPPED in before else FiringState.DUE


def has_shrunk(plan: Mapping[str, Any]) -> bool:
    """Whether a time's manifest has lost half of its rows or more since the time before. `plan`: what its plan said."""
    rows, before = int(plan.get("rows", 0)), int(plan.get("rows_before", 0))
    return before - rows >= SHRUNK_BY and rows <= SHRUNK_TO * before


def is_up_to_its_budget(exit_code: int | None, plan: Mapping[str, Any]) -> bool:
    """Whether a time has ended at its budget as --partial says, and later times go on. `plan`: what its plan said."""
    return exit_code == STOPPED_WITH and bool(plan.get(LEFT_OUT))
