"""Whether anybody works, and who goes on with a batch if nobody does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.command_lines import command
from jobs.policy.liveness import SEEN_WITHIN

if TYPE_CHECKING:
    from jobs.ledger import Ledger
    from jobs.ledger.reports.values import BatchSchedule, Progress

#: What is said of a SQLite ledger without a run.
NOBODY = "nobody works on it now: the same `lightfast run`, or `lightfast schedule serve`, goes on"


def is_worked_on(ledger: Ledger, now: float) -> bool:
    """Whether a run, or a worker, is alive."""
    return ledger.is_held() if ledger.is_sqlite else bool(ledger.workers.seen(now, SEEN_WITHIN))


def nobody_works(ledger: Ledger, progress: Progress) -> str:
    """What is said if none is: who goes on with the batch."""
    if not ledger.is_sqlite:
        return "no worker has shown life for a minute; it goes on when one does"
    schedule, sandbox = progress.schedule, progress.batch.sandbox
    return f"nobody works on it now: {by_its_schedule(schedule, sandbox=sandbox)} goes on" if schedule else NOBODY


def by_its_schedule(schedule: BatchSchedule, *, sandbox: bool) -> str:
    """The commands that go on with a schedule's batch on one machine: `run` is not among them."""
    now = command("schedule", "run-now", schedule.name, sandbox=sandbox)
    return f"`{now}`, or `{command('schedule', 'serve', sandbox=sandbox)}`,"
