"""Every ending of a submit has a class, and every class its reaction. Pure, and the only place that says so.

A provider's own answers are classed by its dialect (`providers/*`, the tables at the top); what is classed here is what
remains: no answer at all. docs/reference/endings.md shows the same tables.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from jobs.states import AttemptState
from providers.types import Kind


class Ending(enum.StrEnum):
    """What a submit ended in."""

    ACCEPTED = "accepted"  # the provider named its task, or gave the images at once
    REFUSED = "refused"  # certainly not accepted, and not for the row's own fault: free to go again
    PERMANENT = "permanent"  # certainly not accepted, and the same request is refused again
    MODERATION = "moderation"  # never again, never elsewhere by itself
    ACCOUNT = "account"  # balance, key, permission
    THROTTLED = "throttled"
    AMBIGUOUS = "ambiguous"  # nobody can know


class RowOutcome(enum.StrEnum):
    """What becomes of the row."""

    WORKING = "goes on"
    AGAIN = "goes again"
    ENDS = "fails"
    HELD = "is held"


class Cooldown(enum.StrEnum):
    """What becomes of the account. After any cooldown it is probed with one submit at a time, until one is accepted."""

    NONE = "goes on"
    IF_UNREACHABLE = "rests shortly if it was not reached"
    SHORT = "rests shortly and slows down"
    LONG = "is paused"
    AFTER_THREE = "is paused after three running"


@dataclass(frozen=True, slots=True)
class Reaction:
    """What follows an ending."""

    attempt: AttemptState  # the state it leads to; only `refused` gives back the money that was reserved
    row: RowOutcome
    cooldown: Cooldown
    elsewhere: bool = False  # whether --failover may make the row at another provider


REACTIONS: dict[Ending, Reaction] = {
    Ending.ACCEPTED: Reaction(AttemptState.RUNNING, RowOutcome.WORKING, Cooldown.NONE),
    Ending.REFUSED: Reaction(AttemptState.REFUSED, RowOutcome.AGAIN, Cooldown.IF_UNREACHABLE, elsewhere=True),
    Ending.PERMANENT: Reaction(AttemptState.REFUSED, RowOutcome.ENDS, Cooldown.NONE),
    Ending.MODERATION: Reaction(AttemptState.REFUSED, RowOutcome.ENDS, Cooldown.NONE),
    Ending.ACCOUNT: Reaction(AttemptState.REFUSED, RowOutcome.AGAIN, Cooldown.LONG, elsewhere=True),
    Ending.THROTTLED: Reaction(AttemptState.REFUSED, RowOutcome.AGAIN, Cooldown.SHORT, elsewhere=True),
    Ending.AMBIGUOUS: Reaction(AttemptState.UNKNOWN, RowOutcome.HELD, Cooldown.AFTER_THREE),
}

#: What a refusal's kind is as an ending.
OF_KIND: dict[Kind, Ending] = {
    Kind.TRANSIENT: Ending.REFUSED,
    Kind.PERMANENT: Ending.PERMANENT,
    Kind.MODERATION: Ending.MODERATION,
    Kind.ACCOUNT: Ending.ACCOUNT,
    Kind.THROTTLED: Ending.THROTTLED,
}


class Silence(enum.StrEnum):
    """A submit that ended without an answer; the value is its stable code."""

    NOT_SENT = "not_sent"  # it was held back here: the process ends, its time had passed, a fault before the mark
    UNREACHABLE = "unreachable"  # no connection was made; not one byte left
    UNANSWERED = "outcome_unknown"  # something left (the mark), and no readable answer came
    DIED = "process_died"  # the process that was sending it left no record


SILENCES: dict[Silence, Ending] = {
    Silence.NOT_SENT: Ending.REFUSED,
    Silence.UNREACHABLE: Ending.REFUSED,
    Silence.UNANSWERED: Ending.AMBIGUOUS,
    Silence.DIED: Ending.AMBIGUOUS,
}

#: Silences that say nothing about the account: they happened here.
OUR_OWN = frozenset({Silence.NOT_SENT, Silence.DIED})


def unanswered(*, sent: bool) -> Silence:
    """How an exchange without an answer ended. `sent`: the mark, which alone decides (docs: was it sent?)."""
    return Silence.UNANSWERED if sent else Silence.UNREACHABLE
