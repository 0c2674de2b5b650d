"""The record of every batch, job, paid attempt and image; the only code that runs SQL."""

from jobs.ledger.database.engine import is_away, is_read_only
from jobs.ledger.facts.leases import Swept
from jobs.ledger.ledger import Ledger, Recorded, open_ledger

__all__ = ["Ledger", "Recorded", "Swept", "is_away", "is_read_only", "open_ledger"]
