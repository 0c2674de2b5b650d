"""When an answer that ends something paid is believed: when it was repeated, over some time. Pure.

One odd answer decides nothing: providers answer from caches and replicas, and write a task's state before its images.
How often and since when it was said stands with the attempt, so that a restart goes on counting. The same table
stands in docs/explanation/polling.md.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from providers.types import Kind


class Doubt(enum.StrEnum):
    """What a task is said to be, and not yet believed. The value is the code of such a poll in a row's history."""

    EMPTY = "no_images_yet"  # done, without any image
    SHORT = "fewer_images_yet"  # done, with fewer than were asked for
    FAILED = "failed_for_no_reason"  # failed, and the request is not to blame


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubtThreshold:
    """How often, and for how many seconds, an answer must be repeated until it is believed."""

    answers: int
    seconds: float


PATIENCE: dict[Doubt, DoubtThreshold] = {
    Doubt.EMPTY: DoubtThreshold(answers=5, seconds=300.0),
    Doubt.SHORT: DoubtThreshold(answers=4, seconds=60.0),
    # Said once more within the time that the row waits anyway before its next attempt.
    Doubt.FAILED: DoubtThreshold(answers=2, seconds=0.0),
}
#: A task whose answers contradict each other must not hold its place for ever: after this many polls, and this many
#: seconds after it was accepted, the next answer that ends it is believed.
AT_LAST = DoubtThreshold(answers=100, seconds=3 * 86_400.0)
#: Seconds between two such questions: the catalogue's cadence at first, then as long as it has been in doubt.
FIRST_WAIT, LONGEST_WAIT = 4.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubted:
    """What is on record of an attempt: what its task was last said to be, since when, and how often."""

    code: str | None = None
    since: float | None = None  # Unix seconds
    answers: int = 0


NOT_DOUBTED = Doubted()


def since(doubt: Doubt, before: Doubted, now: float) -> float:
    """When the answers began that say so without a break, this one included."""
    return before.since if before.code == doubt and before.since is not None else now


def answers(doubt: Doubt, before: Doubted) -> int:
    """How many answers have said so without a break, this one included."""
    return 1 + (before.answers if before.code == doubt else 0)


def is_believed(doubt: Doubt, before: Doubted, now: float, *, polls: int = 0, age: float = 0.0) -> bool:
    """Whether this answer, after those on record, is the verdict.

    `polls`: how often it was asked about in all; `age`: seconds since it was accepted.
    """
    if polls >= AT_LAST.answers and age >= AT_LAST.seconds:
        return True
    patience = PATIENCE[doubt]
    return answers(doubt, before) >= patience.answers and now - since(doubt, before, now) >= patience.seconds


def wait(doubt: Doubt, before: Doubted, now: float, poll_every: float) -> float:
    """Seconds until the next question. `poll_every`: seconds, as the provider's tasks are asked about."""
    return min(LONGEST_WAIT, max(min(FIRST_WAIT, poll_every), now - since(doubt, before, now)))


def of_failure(kind: Kind, code: str) -> bool:
    """Whether a failed task is doubted: nothing in the request is to blame, so the next answer may take it back."""
    return kind is Kind.TRANSIENT or code == "provider_cancelled"
