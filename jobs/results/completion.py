"""Whether a run is over, waits for a person, or should stop itself. Pure: counts in, a verdict out."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.formatting import count
from jobs.ledger.accounts.values import Account
from jobs.ledger.reports.values import Progress
from jobs.results.progress import images_failing, resting, rows_in_need
from jobs.states import NEEDS_A_PERSON, BatchState, JobState, TroubleKind

#: Seconds without any change after which even slow provider tasks count as stuck: longer than they are given before
#: their polling slows down for good.
STUCK_AFTER = 2_400.0
#: Seconds after which money must have been claimed if there was any left.
BUDGET_SHOWS_AFTER = 2.0


class Reason(enum.StrEnum):
    """Why a run ended, or what it waits for."""

    DONE = "done"
    ROWS_NEED_YOU = "rows_need_you"  # finished, but rows failed, are held or lost
    ACCOUNT_PAUSED = "account_paused"
    BUDGET_USED = "budget_used"
    MONTH_BUDGET_USED = "month_budget_used"  # of the schedule whose times pay for it
    DAY_BUDGET_USED = "day_budget_used"
    BUCKET_REFUSES = "bucket_refuses"
    NOTHING_STORED = "nothing_stored"  # what was paid fails to be copied, and nothing more is bought or left
    BATCH_PAUSED = "batch_paused"
    ALL_PAUSED = "all_paused"
    AFTER_RESTORE = "after_restore"
    NOTHING_MOVES = "nothing_moves"
    LEDGER_GONE = "ledger_gone"
    LEDGER_TAKES_NO_WRITES = "ledger_takes_no_writes"
    STOP_AFTER = "stop_after"
    INTERRUPTED = "interrupted"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """All that a verdict is read from, at one moment."""

    progress: Progress
    accounts: Sequence[Account]
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """How many rows may fail: a share of all, or a number."""

    share: float = 0.0
    rows: int = 0

    def covers(self, failed: int, total: int) -> bool:
        """Whether this number of failed rows still means exit code 0."""
        return failed <= max(self.rows, self.share * total)


def is_over(progress: Progress) -> bool:
    """Whether nothing more will happen by itself; of a cancelled batch nothing is sent any more."""
    waiting = 0 if progress.batch.state is BatchState.CANCELLED else progress.jobs.get(JobState.READY, 0)
    going_on = waiting + progress.jobs.get(JobState.WORKING, 0)
    return not (going_on or progress.images_generated or progress.images_in_flight)


def finished(progress: Progress) -> Reason:
    """How a run that is over went: whether each row that was not left out has all of its images."""
    bad = rows_in_need(progress) + progress.jobs.get(JobState.CANCELLED, 0)
    return Reason.ROWS_NEED_YOU if bad else Reason.DONE


def exit_code_when_over(progress: Progress, allowed: Allowed) -> int:
    """The exit code of a batch that is over: 0 if no more rows failed than are allowed, else 3."""
    if finished(progress) is Reason.DONE:
        return 0
    failed = sum(progress.jobs.get(state, 0) for state in NEEDS_A_PERSON)
    asked = sum(progress.jobs.values()) - progress.rows_out
    return 0 if not progress.jobs.get(JobState.CANCELLED) and allowed.covers(failed, asked) else 3


def waits_for(standing: RunState) -> Reason | None:
    """What only a person, or the next day, can mend, where nothing else goes on."""
    progress = standing.progress
    if progress.unwritable:
        return Reason.LEDGER_TAKES_NO_WRITES
    if any(trouble.kind is TroubleKind.REFUSES for trouble in progress.troubles):
        return Reason.BUCKET_REFUSES
    if progress.images_in_flight or _is_copied(progress):
        return None
    if progress.failing or (progress.images_generated and not progress.jobs.get(JobState.READY, 0)):
        return Reason.NOTHING_STORED
    return _holds_rows_up(standing) if progress.jobs.get(JobState.READY, 0) else None


def _is_copied(progress: Progress) -> bool:
    """Whether images wait for their copy that have not failed."""
    return not progress.failing and progress.images_generated > images_failing(progress)


def _all_stand_still(progress: Progress) -> Reason | None:
    """What keeps every account from sending for the batch."""
    if progress.moved:
        return Reason.AFTER_RESTORE
    if progress.stop is not None:
        return Reason.ALL_PAUSED
    return Reason.BATCH_PAUSED if progress.batch.state is BatchState.PAUSED else None


def _holds_rows_up(standing: RunState) -> Reason | None:
    progress = standing.progress
    if reason := _all_stand_still(progress):
        return reason
    if resting(progress, standing.accounts, standing.now):
        return Reason.ACCOUNT_PAUSED
    return _used_budget(progress, standing.now)


def waits_for_you(standing: RunState) -> Reason | None:
    """Why rows that were not sent go on only when a person helps; None: by themselves, or there are none."""
    progress = standing.progress
    if progress.batch.state is BatchState.CANCELLED or not progress.jobs.get(JobState.READY, 0):
        return None
    mine = [each for each in standing.accounts if progress.waits_at is None or each.provider in progress.waits_at]
    if reason := _all_stand_still(progress):
        return reason
    if mine and all(account.needs_a_person for account in mine):
        return Reason.ACCOUNT_PAUSED
    if progress.images_in_flight:
        return None  # what comes back may cost less
    used = _used_budget(progress, standing.now)
    return None if used is None or goes_on_by_itself(progress, used) else used


def goes_on_by_itself(progress: Progress, used: Reason) -> bool:
    """Whether rows that a budget has left out are bought without a person: tomorrow, or at a time of their schedule."""
    by_schedule = progress.schedule is not None and progress.schedule.goes_on_at is not None
    return used is Reason.DAY_BUDGET_USED or (used in (Reason.BUDGET_USED, Reason.MONTH_BUDGET_USED) and by_schedule)


def rows_for_you(standing: RunState) -> int:
    """Rows that need a person: those that ended badly or are held, and those that wait for nothing else."""
    waiting = standing.progress.jobs.get(JobState.READY, 0) if waits_for_you(standing) else 0
    return rows_in_need(standing.progress) + waiting


def patience(reason: Reason | None, max_stall: float | None, accounts: Sequence[Account]) -> float | None:
    """Seconds without any change until a run that waits for `reason` ends; None: for ever."""
    if reason in (Reason.BUDGET_USED, Reason.MONTH_BUDGET_USED):
        slowest = min((account.submits_per_second for account in accounts), default=1.0)
        return max(BUDGET_SHOWS_AFTER, 3 / slowest)
    if max_stall is None or reason is not None:
        return max_stall
    return max(max_stall, STUCK_AFTER)


def used_budget(standing: RunState) -> Reason | None:
    """The budget that keeps rows from being sent, whatever else is on its way; None: there are no such rows."""
    progress = standing.progress
    waits = progress.batch.state is BatchState.ACTIVE and progress.jobs.get(JobState.READY, 0)
    return _used_budget(progress, standing.now) if waits else None


def _used_budget(progress: Progress, now: float) -> Reason | None:
    """The budget that leaves least: its schedule's month, the batch's own, or one that begins anew tomorrow.

    Of two that leave the same the first is told.
    """
    used: list[tuple[int, Reason]] = []
    schedule = progress.schedule
    if schedule is not None and schedule.month is not None and not schedule.month_allows:
        used.append((schedule.month.left, Reason.MONTH_BUDGET_USED))
    if _budget_stands_in_the_way(progress, now):
        used.append((max(0, _left(progress)), Reason.BUDGET_USED))
    used += [(limit.left, Reason.DAY_BUDGET_USED) for limit in progress.day_limits]
    return min(used, key=lambda each: each[0])[1] if used else None


def _left(progress: Progress) -> int:
    batch = progress.batch
    return (batch.budget or 0) - batch.reserved - batch.charged


def _budget_stands_in_the_way(progress: Progress, now: float) -> bool:
    if progress.batch.budget is None or (progress.next_at is not None and progress.next_at > now):
        return False
    if progress.budget_allows is not None:
        return not progress.budget_allows
    return _left(progress) < progress.remaining_money or progress.has_unpriced


def saved_words(answers: int, file: str) -> str:
    """Where answers lie that the ledger did not take; "" where there are none."""
    if not answers:
        return ""
    return f" {count(answers, 'answer')} saved in {file}, to be recorded by the next run on this machine: keep it."


def unsaved_words(answers: int) -> str:
    """That answers are lost; "" where there are none."""
    if not answers:
        return ""
    return (
        f" {count(answers, 'answer')} could not be saved anywhere, since no folder took a rescue file: these outcomes "
        "are unknown at the next start. They may be paid, and are not sent again by themselves."
    )
