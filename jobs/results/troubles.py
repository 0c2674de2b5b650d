"""What holds a batch up, line by line."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from jobs.errors import MOVED
from jobs.formatting import count, day_and_minute, here
from jobs.results import copy_stops
from jobs.results.budgets import month_words
from jobs.results.emergency_stop import told as told_of_stop
from jobs.results.progress import is_paused, resting
from jobs.results.sentences import (
    day_budget_line,
    failing_line,
    next_try_line,
    one_line,
    trouble_line,
    unwritable_line,
)
from jobs.states import BatchState

if TYPE_CHECKING:
    from jobs.ledger.accounts.values import Account
    from jobs.ledger.claims.values import Failing
    from jobs.ledger.reports.values import Progress


def troubles(progress: Progress, accounts: Sequence[Account], now: float | None = None) -> Iterator[str]:
    """What holds the batch up, if anything does. `now`: None: this machine's clock tells."""
    if progress.unwritable:
        yield unwritable_line(progress.unwritable)
    if progress.stop:
        yield told_of_stop(progress.stop, sandbox=progress.batch.sandbox)
    if progress.batch.state is BatchState.CANCELLED or is_paused(progress):
        yield f"{progress.batch.state}: {progress.batch.reason or 'on your word'}"
    if progress.moved:
        yield MOVED
    for trouble in progress.troubles:
        waiting = count(progress.images_generated, "paid image")
        yield f"{trouble_line(trouble)}. {waiting} to be copied; submits wait, and go on by themselves"
    for failing in progress.failing:
        yield f"{failing_line(failing)}; {next_try_line(failing)}{_elsewhere(progress, failing)}"
    yield from map(paused_line, resting(progress, accounts, time.time() if now is None else now))
    yield from map(day_budget_line, progress.day_limits)
    if progress.schedule and not progress.schedule.month_allows:
        yield month_words(progress)


def _elsewhere(progress: Progress, failing: Failing) -> str:
    """Where other batches are to blame: the command that helps."""
    name, sandbox = progress.batch.name, progress.batch.sandbox
    if failing.batch in (None, name):
        return ""
    return f"; {copy_stops.helps(failing, name, sandbox=sandbox)}"


def paused_line(account: Account) -> str:
    """Why an account rests, and until when."""
    until = account.paused_until
    when = "" if until is None or math.isinf(until) else f" until {day_and_minute(until)}{here(until)}"
    why = account.paused_message or account.paused_code or "no reason on record"
    return f"account {account.name} ({account.provider}) is paused{when}: {one_line(why)}"
