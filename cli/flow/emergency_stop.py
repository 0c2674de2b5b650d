"""The emergency stop: `pause --all` and `resume --all`, and what every command says while it stands."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cli.flow.session import LedgerSession, note, put_on_log, show_json
from jobs import formatting
from jobs.command_lines import command
from jobs.results.documents import stop_document
from jobs.results.emergency_stop import told
from jobs.results.progress import is_paused
from worker.runtime.on_the_wire import SKIPPED, on_the_wire, settled
from worker.runtime.who import who

if TYPE_CHECKING:
    from jobs.ledger import Ledger


def stop_all(session: LedgerSession, *, json: bool) -> int:
    """Stops the submits of every batch. Returns when it is known which claimed submits were sent and which were not."""
    ledger = session.ledger
    stopped = ledger.emergency_stop.begin(time.time() + ledger.clock_offset(), who())
    put_on_log(session, "emergency stop")
    fates = settled(ledger, stopped.claimed)
    before = "" if stopped.anew else f" They were already, since {formatting.day_and_time(stopped.stop.since)}."
    note(f"All submits are stopped: no batch pays for anything new.{before} To go on:  {lifting(session)}")
    note(on_the_wire(ledger, fates))
    if ledger.schedules.all():
        note(SKIPPED)
    if json:
        counted = {"on_the_wire": fates.open, "given_back": fates.given_back}
        show_json({"command": "pause", "all": True, "stopped": stop_document(stopped.stop), **counted})
    return 0


def lift_stop(session: LedgerSession, *, json: bool) -> int:
    """Submits go on, except of batches that were paused one by one."""
    session.ledger.schedules.fall_due(time.time() + session.ledger.clock_offset())  # while it stands: these are skipped
    stood = session.ledger.emergency_stop.lift()
    if stood is not None:
        put_on_log(session, "emergency stop lifted")
    every = [session.ledger.reports.progress(batch.name) for batch in session.ledger.batches.all()]
    paused = [progress.batch.name for progress in every if is_paused(progress)]
    still = f" Still paused, each by itself: {', '.join(paused)}." if paused else ""
    if stood is None:
        note(f"Submits were not stopped.{still}")
    else:
        note(
            f"Submits go on. They had been stopped since {formatting.day_and_time(stood.since)}, by {stood.by}.{still}"
        )
    if json:
        show_json({"command": "resume", "all": True, "was_stopped": stood and stop_document(stood), "paused": paused})
    return 0


def lifting(session: LedgerSession) -> str:
    """The command that ends the stop."""
    return command("resume", "--all", sandbox=session.settings.is_sandbox)


def warn(ledger: Ledger | None, *, sandbox: bool) -> None:
    """Warns before money is asked for that the rows will wait."""
    stop = ledger.emergency_stop.current() if ledger else None
    if stop:
        note(f"warning: {told(stop, sandbox=sandbox)}")
