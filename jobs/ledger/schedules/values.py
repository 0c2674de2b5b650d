"""A schedule, one of its times, and what was decided of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jobs.policy.firing import CatchUp, Into, OverlapPolicy
from jobs.states import FiringState


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSchedule:
    """A schedule as it is added or edited. Money is micro-dollars."""

    name: str
    cron: str  # five fields, as `read_cron` has them
    timezone: str
    options: Mapping[str, Any]  # what is asked of its batches; plain JSON values
    into: Into = Into.SAME
    overlap: OverlapPolicy = OverlapPolicy.SKIP
    catch_up: CatchUp = CatchUp.LAST
    jitter: float = 0.0  # seconds
    budget: int | None = None  # of one time
    monthly_budget: int | None = None  # of a UTC month
    keep: float | None = None  # seconds that its batches stay in the ledger whole; None: for good


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule(NewSchedule):
    """A schedule as it stands."""

    id: int
    next_at: float | None  # the first time that nothing was decided of; None: it is paused
    seen: Mapping[str, Any] | None  # the manifest as it was when all of it was on record
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bought:
    """What a time of a schedule has bought so far. Money is micro-dollars."""

    sent: int = 0  # attempts, refused ones too
    images: int | None = 0  # paid and stored, replaced and surplus ones too; None: they lie in an archive
    charged: int = 0
    reserved: int = 0  # for what is in flight or unknown: it is charged, or given back
    # Of these, by attempts that were sent when the time was over or had stopped, as by `retry`.
    images_after: int = 0
    charged_after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """One time of a schedule, and what has become of it."""

    id: int
    schedule_id: int
    at: float
    acts_at: float
    by_hand: bool
    state: FiringState
    batch: str | None  # the name of its batch
    holder: str | None
    tries: int
    headway: str | None  # what showed that its batch goes on
    headway_at: float | None  # since when that is unchanged
    began_at: float | None
    ended_at: float | None
    exit_code: int | None
    code: str | None
    message: str | None
    detail: Mapping[str, Any] = field(default_factory=dict)  # what its plan said
    bought: Bought | None = None  # where it was asked for, and a batch is on record

    @property
    def charged(self) -> int | None:
        """Micro-dollars, where that was asked for and a batch is on record."""
        return None if self.bought is None else self.bought.charged


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What was decided of a schedule's time when it had come."""

    schedule: str
    at: float
    state: FiringState | None  # None: it is the next one again, after a clock was far ahead
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MissedTimes:
    """Times that nobody saw, one after another: since the last one that began."""

    count: int
    first: float
    last: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A batch that is recorded for a time, as long as that time is still the recorder's."""

    firing_id: int
    holder: str
    detail: Mapping[str, Any]
    seen: Mapping[str, Any] | None  # the manifest as it was read
    reused_images: int = 0  # that its plan counted on
    reused_money: int = 0  # micro-dollars that these would have cost

    def as_recorded(self, rows: int, images: int, cost: int) -> Attachment:
        """With what its rows have taken in the end: more than was planned, where images were made meanwhile."""
        detail, more = dict(self.detail), images - self.reused_images
        if more <= 0:
            return self
        to_pay = max(0, detail["images"] - more)
        detail |= {"reused": rows, "images": to_pay, "waiting": min(detail.get("waiting", 0), to_pay)}
        detail["estimate"] = max(0, detail.get("estimate", 0) - (cost - self.reused_money))
        return replace(self, detail=detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a time ended, or stopped."""

    state: FiringState  # ENDED, FAILED or STOPPED
    exit_code: int  # as `lightfast run` would have ended
    code: str | None = None
    message: str | None = None
    detail: Mapping[str, Any] | None = None  # beside what its plan said


@dataclass(frozen=True, slots=True, kw_only=True)
class InTheWay:
    """Why a time does not begin now."""

    why: str
    batches: tuple[str, ...] = ()  # earlier ones with rows that will still be bought, or are on their way
    needs_a_person: bool = False  # one of them has stopped


class InTheWayError(Exception):
    """Rows of an earlier time will be bought, or are on their way: they would be bought again. Nothing is recorded."""


class NotOursError(Exception):
    """Somebody else reads the manifest of this time by now: nothing is recorded for it here."""
