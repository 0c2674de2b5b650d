"""The states of attempts, images, jobs and batches, and which step leads where: docs/reference/job_lifecycle.md."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class AttemptState(enum.StrEnum):
    """One paid try at one provider."""

    SUBMITTING = "submitting"  # intent is on record; it may be on its way
    RUNNING = "running"  # accepted: the provider task id is on record
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # the provider's task ended without images
    LOST = "lost"  # the provider has forgotten the task
    REFUSED = "refused"  # certainly not accepted: its slots are free again
    UNKNOWN = "unknown"  # nobody can know whether it was accepted; never re-sent by itself
    ABANDONED = "abandoned"  # an unknown one that a person or the policy gave up
    SURPLUS = "surplus"  # an abandoned or failed one that turned out to be paid


#: Which state may follow which. A fact that asks for any other step is kept as an event and changes nothing.
ATTEMPT_STEPS: dict[AttemptState, frozenset[AttemptState]] = {
    AttemptState.SUBMITTING: frozenset(
        {AttemptState.RUNNING, AttemptState.SUCCEEDED, AttemptState.REFUSED, AttemptState.UNKNOWN}
    ),
    AttemptState.RUNNING: frozenset({AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.LOST}),
    AttemptState.UNKNOWN: frozenset(
        {AttemptState.RUNNING, AttemptState.SUCCEEDED, AttemptState.REFUSED, AttemptState.ABANDONED}
    ),
    AttemptState.ABANDONED: frozenset(
        {AttemptState.SURPLUS, AttemptState.FAILED, AttemptState.LOST, AttemptState.REFUSED}
    ),
    AttemptState.LOST: frozenset({AttemptState.SUCCEEDED}),
    AttemptState.SUCCEEDED: frozenset(),
    AttemptState.FAILED: frozenset({AttemptState.SURPLUS}),
    AttemptState.REFUSED: frozenset({AttemptState.RUNNING, AttemptState.SUCCEEDED}),
    AttemptState.SURPLUS: frozenset(),
}

#: Attempts that occupy one of the account's places in flight.
IN_FLIGHT = (AttemptState.SUBMITTING, AttemptState.RUNNING)
#: Attempts whose money is at stake, or may be lost: few, while a batch may have a million that went well.
AT_STAKE = (*IN_FLIGHT, AttemptState.UNKNOWN, AttemptState.LOST, AttemptState.ABANDONED)


class ImageState(enum.StrEnum):
    """One slot of a job, to be filled and stored."""

    MISSING = "missing"
    GENERATED = "generated"  # the provider has made it; it is to be copied before its link dies
    STORED = "stored"
    LOST = "lost"  # paid, and its link died before it was copied


#: An image is there, or is to be copied.
MADE_IMAGES = (ImageState.STORED, ImageState.GENERATED)


class JobState(enum.StrEnum):
    """One row of the manifest. Derived from its slots, but for the last three."""

    READY = "ready"
    WORKING = "working"
    HELD = "held"  # a slot's attempt is unknown, or its paid image waits for a person
    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"
    LOST = "lost"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"  # left out on the user's word (--skip-empty)
    INVALID = "invalid"  # a bad row under --skip-bad


#: Go on by themselves.
GOING_ON = (JobState.READY, JobState.WORKING)
#: Ended without all of their images: a person may retry them.
ENDED_BADLY = (JobState.FAILED, JobState.LOST, JobState.PARTIAL)
#: A person should look at them.
NEEDS_A_PERSON = (*ENDED_BADLY, JobState.HELD)
#: Were sent to a provider, and nothing more happens to them by itself.
TRIED = (*NEEDS_A_PERSON, JobState.DONE)
#: Nothing more happens to these by itself.
ENDED = (*TRIED, JobState.CANCELLED, JobState.SKIPPED, JobState.INVALID)
#: Something may still come of what was sent for them, or will be.
UNFINISHED = (*GOING_ON, JobState.HELD)


class BatchState(enum.StrEnum):
    """One manifest being worked on."""

    ACTIVE = "active"
    PAUSED = "paused"  # no new submits until resumed
    CANCELLED = "cancelled"  # no new submits, ever


class FiringState(enum.StrEnum):
    """One time of a schedule: what has become of it."""

    DUE = "due"  # it is time: whoever works takes it
    QUEUED = "queued"  # it is time, and waits for the one before it
    READING = "reading"  # somebody reads the manifest
    WORKING = "working"  # its batch is on record, and goes on
    STOPPED = "stopped"  # its batch waits for a person
    ENDED = "ended"  # all was done, or nothing had to be
    FAILED = "failed"  # nothing was recorded for it
    SKIPPED = "skipped"  # the one before it was not over, or all submits were stopped
    MISSED = "missed"  # nobody was there to see it, and it is not caught up


#: Nothing is recorded for these yet.
FIRING_UNRECORDED = (FiringState.DUE, FiringState.QUEUED, FiringState.READING)
#: The schedule's next time finds these in its way.
FIRING_OPEN = (*FIRING_UNRECORDED, FiringState.WORKING)
#: Nothing more becomes of these.
FIRING_OVER = (FiringState.ENDED, FiringState.FAILED, FiringState.SKIPPED, FiringState.MISSED)


class ArchiveStep(enum.StrEnum):
    """How far a batch is on its way into an archive, or back."""

    WRITING = "writing"  # its archive is being written; the ledger has all of it
    SLIMMING = "slimming"  # its archive is whole, and the bulk of its rows is being taken out of the ledger
    ARCHIVED = "archived"
    RESTORING = "restoring"  # its rows are being brought back; the archive is whole


#: The archive has all of the batch, and the ledger perhaps not.
IN_ARCHIVE = (ArchiveStep.SLIMMING, ArchiveStep.ARCHIVED, ArchiveStep.RESTORING)


class TroubleKind(enum.StrEnum):
    """Why no new submits go out for a destination. Not a state: it is said by workers, and ends unless said again."""

    REFUSES = "refuses"  # it takes no writes
    BEHIND = "behind"  # at the present pace paid images would die before they are copied


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """A job's slots, counted. `closed`: no new submit for it, because of an error or a cancel."""

    stored: int = 0
    wrong: int = 0  # of the stored: other pixels than asked for, where the batch takes no others
    generated: int = 0
    stuck: int = 0  # of the generated: not copied again by itself, a person must help
    lost: int = 0
    open: int = 0  # missing, an attempt is submitting or running
    unknown: int = 0  # missing, its attempt is unknown
    free: int = 0  # missing, no attempt
    closed: bool = False
    cancelled: bool = False


def derive(slots: Slots) -> JobState:
    """The job's state, from its slots."""
    if slots.free and not slots.closed:
        return JobState.READY
    if slots.open or slots.generated > slots.stuck:
        return JobState.WORKING
    if slots.unknown or slots.stuck:
        return JobState.HELD
    return _ended(slots)


def _ended(slots: Slots) -> JobState:
    if not (slots.free or slots.lost or slots.wrong):
        return JobState.DONE
    if slots.stored > slots.wrong:
        return JobState.PARTIAL
    if slots.lost:
        return JobState.LOST
    return JobState.CANCELLED if slots.cancelled and not slots.wrong else JobState.FAILED
