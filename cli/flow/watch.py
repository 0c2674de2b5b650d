"""Watches a batch that other processes work on, until it ends or waits for a person for too long."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cli.output.progress import Screen
from jobs.results.at_work import is_worked_on, nobody_works
from jobs.results.completion import Reason, RunState, finished, is_over
from jobs.results.reasons import why
from jobs.results.stall import StallDetector
from jobs.results.troubles import troubles
from worker.local.run import RunEnding
from worker.registration.options import WorkLimits

if TYPE_CHECKING:
    from jobs.ledger import Ledger
    from jobs.ledger.reports.values import Progress

#: Seconds between two looks, and the share of the time that looking may take.
LOOK_EVERY = 1.0
LOOKING_SHARE = 0.1


@dataclass(slots=True, kw_only=True)
class Watch:
    """One batch, looked at until it has ended or waits for a person for too long."""

    ledger: Ledger
    name: str
    limits: WorkLimits
    screen: Screen
    _stall: StallDetector = field(init=False)

    def __post_init__(self) -> None:
        self._stall = StallDetector(max_stall=self.limits.max_stall)

    def until_it_ends(self) -> RunEnding:
        """Shows progress until the end. Ctrl-C ends this, not the work."""
        try:
            while True:
                before = time.monotonic()
                standing = self._look()
                self.screen.show(standing.progress, standing.accounts)
                reason = self._judge(standing)
                if reason is not None:
                    return RunEnding(reason=reason, standing=standing)
                time.sleep(max(LOOK_EVERY, (time.monotonic() - before) / LOOKING_SHARE))
        except KeyboardInterrupt:
            return RunEnding(reason=Reason.INTERRUPTED, standing=self._look())

    def _look(self) -> RunState:
        now = time.time() + self.ledger.clock_offset()
        progress = self.ledger.reports.progress(self.name, now)
        return RunState(
            progress=replace(progress, unwritable=self.ledger.unwritable()),
            accounts=self.ledger.accounts.all(),
            now=now,
        )

    def _judge(self, standing: RunState) -> Reason | None:
        if is_over(standing.progress):
            return finished(standing.progress)
        return self._stall.judge(standing, time.monotonic(), lambda: not is_worked_on(self.ledger, standing.now))

    def message(self, ending: RunEnding) -> str:
        """Why the watching ended, in words."""
        reason, standing = ending.reason, ending.standing
        if reason is Reason.INTERRUPTED:
            return f"no longer watched; {self._who(standing.progress)}"
        if reason is not Reason.NOTHING_MOVES:
            return why(reason, standing)
        held_up = "; ".join(troubles(standing.progress, standing.accounts))
        return (
            held_up
            or f"nothing moves; {self._who(standing.progress) if self.ledger.is_sqlite else 'is a worker there?'}"
        )

    def _who(self, progress: Progress) -> str:
        if not self.ledger.is_sqlite:
            return "the workers go on"
        return "the `lightfast run` at work goes on" if self.ledger.is_held() else nobody_works(self.ledger, progress)
