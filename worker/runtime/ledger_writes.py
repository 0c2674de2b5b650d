"""Whether the ledger takes this process's writes. Reads may go on all the while, and must not look like health."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.formatting import time_of_day
from jobs.ledger import file_trouble, is_away, is_read_only
from worker.runtime.telemetry import emit


@dataclass(slots=True, eq=False)
class LedgerWrites:
    """What the last claims and records of this process came to. Each of them writes, so they tell."""

    since: float | None = None  # wall clock; None: they work
    records_wait: bool = False  # a record failed, and none was written since
    _problem: str = ""

    def failed(self, error: BaseException, now: float) -> None:
        """A claim or a record failed. One that failed by a fault of ours says nothing about the ledger."""
        if not is_away(error):
            return
        usual = "is read-only" if is_read_only(error) else "takes no writes"
        self._problem = file_trouble(error) or usual
        if self.since is None:
            self.since = now
            name = "ledger_is_read_only" if is_read_only(error) else "ledger_takes_no_writes"
            emit(name, level="warning", problem=repr(error)[:300])

    def worked(self) -> None:
        """A claim or a record was written. On a disk that is full a small one may be, while records still wait."""
        if self.since is not None and not self.records_wait:
            self.since = None
            emit("ledger_takes_writes_again", level="warning")

    @property
    def problem(self) -> str | None:
        """In words that follow "the ledger"; None: it takes writes."""
        if self.since is None:
            return None
        return f"{self._problem} (since {time_of_day(self.since)})"
