"""The emergency stop: `pause --all` and `resume --all`, and what every command says while it stands."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cli.flow.session import LedgerSession, note, show_json, who
from cli.output.emergency_stop import told
from jobs import formatting
from jobs.command_lines import command
from jobs.results.documents import stop_document
from jobs.results.progress import is_paused

if TYPE_CHECKING:
    from jobs.ledger import Ledger
    from jobs.ledger.accounts.emergency_stop import Fates

#: Seconds in which processes give back what they have claimed and not sent, and between two looks at that. Each asks
#: directly before its POST, and what it then knows is a quarter of a second old at most.
GIVEN_BACK_WITHIN = 5.0
LOOK_EVERY = 0.2

#: What becomes of schedules while the stop stands.
SKIPPED = "Schedules are skipped meanwhile, and times that pass are not made up."


def stop_all(session: LedgerSession, *, json: bool) -> int:
    """Stops the submits of every batch. Returns when it is known which claimed submits were sent and which were not."""
    ledger = session.ledger
    stopped = ledger.emergency_stop.begin(time.time() + ledger.clock_offset(), who())
    fates = _settled(ledger, stopped.claimed)
    before = "" if stopped.anew else f" They were already, since {formatting.day_and_time(stopped.stop.since)}."
    note(f"All submits are stopped: no batch pays for anything new.{before} To go on:  {lifting(session)}")
    note(_on_the_wire(ledger, fates))
    if ledger.schedules.all():
        note(SKIPPED)
    if json:
        counted = {"on_the_wire": fates.open, "given_back": fates.given_back}
        show_json({"command": "pause", "all": True, "stopped": stop_document(stopped.stop), **counted})
    return 0


def _settled(ledger: Ledger, claimed: frozenset[int]) -> Fates:
    """Waits up to `GIVEN_BACK_WITHIN` seconds for claimed attempts to be answered or given back."""
    until = time.monotonic() + GIVEN_BACK_WITHIN
    while (fates := ledger.emergency_stop.fates(claimed)).open and time.monotonic() < until:
        if ledger.is_sqlite and not ledger.is_held():
            break  # nobody is there who could give any back
        time.sleep(LOOK_EVERY)
    return fates


def _on_the_wire(ledger: Ledger, fates: Fates) -> str:
    back = (
        f" {formatting.count(fates.given_back, 'submit')} claimed and not sent: given back." if fates.given_back else ""
    )
    if not fates.open:
        return f"Nothing is on the wire.{back} What is paid is polled, copied and stored."
    submits = formatting.count(fates.open, "submit")
    if ledger.is_sqlite and not ledger.is_held():
        return f"{submits} may have left when the last run was killed; the next one tells.{back}"
    verb = "is" if fates.open == 1 else "are"
    return f"{submits} {verb} on the wire at most; their answers are recorded as they come.{back}"


def lift_stop(session: LedgerSession, *, json: bool) -> int:
    """Submits go on, except of batches that were paused one by one."""
    session.ledger.schedules.fall_due(time.time() + session.ledger.clock_offset())  # while it stands: these are skipped
    stood = session.ledger.emergency_stop.lift()
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
