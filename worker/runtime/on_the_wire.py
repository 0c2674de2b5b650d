"""What the emergency stop finds on its way: submits that were claimed before it was said."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jobs.formatting import count

if TYPE_CHECKING:
    from jobs.ledger import Ledger
    from jobs.ledger.accounts.emergency_stop import Fates

#: Seconds in which processes give back what they have claimed and not sent, and between two looks at that. Each asks
#: directly before its POST, and what it then knows is a quarter of a second old at most.
GIVEN_BACK_WITHIN = 5.0
LOOK_EVERY = 0.2

#: What becomes of schedules while the stop stands.
SKIPPED = "Schedules are skipped meanwhile, and times that pass are not made up."


def settled(ledger: Ledger, claimed: frozenset[int]) -> Fates:
    """Waits up to `GIVEN_BACK_WITHIN` seconds for claimed attempts to be answered or given back."""
    until = time.monotonic() + GIVEN_BACK_WITHIN
    while (fates := ledger.emergency_stop.fates(claimed)).open and time.monotonic() < until:
        if ledger.is_sqlite and not ledger.is_held():
            break  # nobody is there who could give any back
        time.sleep(LOOK_EVERY)
    return fates


def on_the_wire(ledger: Ledger, fates: Fates) -> str:
    """What became of submits that were claimed when it was said."""
    back = f" {count(fates.given_back, 'submit')} claimed and not sent: given back." if fates.given_back else ""
    if not fates.open:
        return f"Nothing is on the wire.{back} What is paid is polled, copied and stored."
    submits = count(fates.open, "submit")
    if ledger.is_sqlite and not ledger.is_held():
        return f"{submits} may have left when the last run was killed; the next one tells.{back}"
    verb = "is" if fates.open == 1 else "are"
    return f"{submits} {verb} on the wire at most; their answers are recorded as they come.{back}"
