"""What is said of batches that may be archived, and of the tables of an archive."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.errors import LightfastError
from jobs.ledger.batches.values import Batch

#: Seconds that a batch stays in the ledger whole at least, and why.
LEAST_KEPT = 86_400.0
TOO_YOUNG = "at least 1d, since a late answer to something paid may still come."


class Table(enum.StrEnum):
    """The tables of an archive: each is one kind of file."""

    ROWS = "rows"  # jobs
    IMAGES = "images"
    EVENTS = "events"
    BOOKS = "books"  # attempts


class ColumnKind(enum.Enum):
    """What a column holds. None is possible in each."""

    TEXT = enum.auto()
    INTEGER = enum.auto()
    NUMBER = enum.auto()
    TRUTH = enum.auto()
    BYTES = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A batch that ended, and why it stays in the ledger whole, if it does."""

    batch: Batch
    reason: str | None  # None: it may be archived
    ended_at: float  # Unix seconds: when something last happened to it; 0 where that was not looked at
    rows: int
    kept_for: float  # seconds after its end that it stays whole
    begun: bool = False  # it is on its way into an archive already


#: What an archive is made for: counts and sums that change when anything happens to the batch.
Fingerprint = tuple[int, ...]


class NotPrunable(LightfastError):
    """A batch may not be archived, or not any more. The message says why, and that nothing was taken out."""


Values = Mapping[str, Any]
