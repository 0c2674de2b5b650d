"""Why a batch ended, or what it waits for, in sentences."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from jobs.errors import MOVED
from jobs.formatting import count, listed, money
from jobs.policy.reuse import REUSE_WAITS
from jobs.results.budgets import goes_on_words, month_words
from jobs.results.completion import Reason
from jobs.results.progress import resting, rows_in_need
from jobs.results.sentences import day_budget_line, failing_line, stop_line, trouble_line, unwritable_line

if TYPE_CHECKING:
    from jobs.ledger.reports.values import Progress
    from jobs.results.completion import RunState


def why(reason: Reason, standing: RunState) -> str:
    """Why it ended, or what it waits for."""
    return _MESSAGES[reason](standing)


def _account_paused(standing: RunState) -> str:
    paused = resting(standing.progress, standing.accounts, standing.now)
    paused = paused or [account for account in standing.accounts if account.needs_a_person]
    told = (f"account {one.name} ({one.provider}): {one.paused_message or one.paused_code}" for one in paused)
    return f"{'; '.join(told) or 'an account is paused'}. Nothing failed by it; what was paid is stored."


def _budget_used(standing: RunState) -> str:
    batch = standing.progress.batch
    used = f"the budget of this batch is used: {money(batch.charged)} of {money(batch.budget or 0)}"
    return f"{used}{_goes_on(standing.progress)}."


def _month_budget_used(standing: RunState) -> str:
    return f"{month_words(standing.progress)}{_goes_on(standing.progress)}."


def _goes_on(progress: Progress) -> str:
    words = goes_on_words(progress)
    return f"; {words}" if words else ""


def _all_paused(standing: RunState) -> str:
    stop = standing.progress.stop  # None: lifted while the run ended
    return f"{stop_line(stop)}." if stop else "all submits were stopped."


def _rows_need_you(standing: RunState) -> str:
    rows, stuck = rows_in_need(standing.progress), standing.progress.images_stuck
    kept = f" {count(stuck, 'paid image')} of them cannot be stored without you." if stuck else ""
    return f"finished, {count(rows, 'row')} need{'s' if rows == 1 else ''} you.{kept}"


def _nothing_stored(standing: RunState) -> str:
    progress = standing.progress
    told = "; ".join(map(failing_line, progress.failing)) or _not_copied(progress)
    if not progress.images_generated:
        return f"{told}. Nothing of this batch waits to be copied; its rows wait, and nothing is paid for them."
    return f"{told}. What is paid stays on record, and is copied by the same command when that is fixed."


def _not_copied(progress: Progress) -> str:
    waits = progress.copy_errors.get(REUSE_WAITS, 0)
    errors = {code: number for code, number in progress.copy_errors.items() if code != REUSE_WAITS}
    told = []
    if paid := progress.images_generated - waits:
        told.append(f"{count(paid, 'paid image')} cannot be copied: {listed(errors)}")
    if waits:
        told.append(f"{count(waits, 'image')} to be taken from other rows: {progress.copy_words[REUSE_WAITS]}")
    return "; ".join(told)


def _bucket_refuses(standing: RunState) -> str:
    told = "; ".join(trouble_line(trouble) for trouble in standing.progress.troubles)
    return f"{told}. {count(standing.progress.images_generated, 'paid image')} to be copied."


_MESSAGES: dict[Reason, Callable[[RunState], str]] = {
    Reason.DONE: lambda _: "finished.",
    Reason.ROWS_NEED_YOU: _rows_need_you,
    Reason.ACCOUNT_PAUSED: _account_paused,
    Reason.BUDGET_USED: _budget_used,
    Reason.MONTH_BUDGET_USED: _month_budget_used,
    Reason.DAY_BUDGET_USED: lambda standing: f"{'; '.join(map(day_budget_line, standing.progress.day_limits))}.",
    Reason.BUCKET_REFUSES: _bucket_refuses,
    Reason.NOTHING_STORED: _nothing_stored,
    Reason.AFTER_RESTORE: lambda _: f"{MOVED}.",
    Reason.ALL_PAUSED: _all_paused,
    Reason.BATCH_PAUSED: lambda standing: f"the batch is paused: {standing.progress.batch.reason or 'on your word'}.",
    Reason.NOTHING_MOVES: lambda _: "nothing has moved for long; what is accepted goes on at the provider.",
    Reason.LEDGER_TAKES_NO_WRITES: lambda standing: (
        f"{unwritable_line(standing.progress.unwritable or 'took no writes')}."
    ),
    Reason.LEDGER_GONE: lambda _: "the ledger is gone.",
    Reason.STOP_AFTER: lambda _: "stopped after the time you gave; what is accepted goes on at the provider.",
    Reason.INTERRUPTED: lambda _: "stopped; what is accepted goes on at the provider.",
    Reason.TERMINATED: lambda _: "stopped; what is accepted goes on at the provider.",
}
