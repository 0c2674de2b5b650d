"""A batch that goes on: by whom, in this process or by a cluster's workers, and what is said of it."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from cli.flow.session import LedgerSession, find_batch, note, show_json
from jobs.errors import LedgerBusy
from jobs.planning.survey import cancelled_for_good
from jobs.policy.firing import LEFT_TO_THE_NEXT
from jobs.results.at_work import by_its_schedule
from jobs.results.budgets import goes_on_with_it
from worker.registration.options import WorkLimits

if TYPE_CHECKING:
    from jobs.ledger.batches.values import Batch
    from jobs.ledger.reports.values import Progress


def wake(session: LedgerSession) -> None:
    """Wakes the workers of a cluster; they would look by themselves within a minute."""
    if session.ledger.is_sqlite:
        return
    from cli.flow.execute import log_events
    from worker.lanes.worker import lanes_of
    from worker.tasks import wake_lanes

    log_events(session.settings)
    wake_lanes(lanes_of(session.settings.accounts))


def by_whom(session: LedgerSession, progress: Progress) -> str:
    """By whom a batch goes on."""
    if not session.ledger.is_sqlite:
        return " by the cluster's workers"
    if progress.schedule is not None and not session.ledger.is_held():
        return f" by {by_its_schedule(progress.schedule, sandbox=progress.batch.sandbox).rstrip(',')}"
    return " by the `lightfast run` that is at work" if session.ledger.is_held() else " by the next `lightfast run`"


def cancelled_words(session: LedgerSession, found: Batch) -> str:
    """Why nothing can be paid for a cancelled batch, and how its rows are made after all."""
    progress = session.ledger.reports.progress(found.name, time.time())
    if found.reason == LEFT_TO_THE_NEXT and progress.schedule is not None:
        return f"batch {found.name} takes no more: {found.reason}{goes_on_with_it(progress)}"
    return cancelled_for_good(found.name, session.ledger.batches.other_name(found.name))


def go_on_here(session: LedgerSession, batch: str, stall: float | None, *, json: bool, quiet: bool) -> int:
    """Works the batch in this process, unless another does."""
    with contextlib.ExitStack() as holding:
        try:
            holding.enter_context(session.ledger.hold(time.time()))
        except LedgerBusy:
            tell(session, batch, f"{batch} goes on by the `lightfast run` that is at work.", json=json)
            return 0
        session.ledger.batches.take_what_was_made(batch, time.time() + session.ledger.clock_offset())
        return work_here(session, batch, stall, json=json, quiet=quiet, goes_on="")


def work_here(session: LedgerSession, batch: str, stall: float | None, *, json: bool, quiet: bool, goes_on: str) -> int:
    """`goes_on`: the command that goes on with rows that are left; "": the same one."""
    from cli.flow.execute import OutputMode, work

    mode = OutputMode(json=json, quiet=quiet, goes_on=goes_on)
    return work(session.settings, session.ledger, batch, WorkLimits(max_stall=stall), mode)


def tell(session: LedgerSession, batch: str, text: str, *, json: bool, **more: object) -> None:
    """Says what was done; with `--json` as a document, too, with the batch's state."""
    note(text)
    if json:
        found = find_batch(session.ledger, batch)
        show_json({"batch": batch, "state": str(found.state), **more})
