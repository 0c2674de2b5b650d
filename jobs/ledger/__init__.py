"""The record of every batch, job, paid attempt and image; the only code that runs SQL."""

from jobs.ledger.database.engine import is_away, is_read_only
from jobs.ledger.database.file_troubles import away_words, file_trouble, path_of
from jobs.ledger.database.glance import has_batch
from jobs.ledger.facts.leases import SweepResult
from jobs.ledger.facts.verbs import RecordEffects
from jobs.ledger.ledger import Ledger, glance_into, open_ledger

__all__ = [
    "Ledger",
    "RecordEffects",
    "SweepResult",
    "away_words",
    "file_trouble",
    "glance_into",
    "has_batch",
    "is_away",
    "is_read_only",
    "open_ledger",
    "path_of",
]
