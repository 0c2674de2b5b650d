"""Watching a batch that others work on, and judging when there is no more to wait for."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cli.options import Limits
from cli.progress import Screen, troubles
from cli.reading import NOBODY, SIGN_OF_LIFE
from worker.local import EXIT_CODES, NEEDS_A_PERSON, Ending
from worker.verdict import Reason, Standing, finished, is_over, patience, waits_for

if TYPE_CHECKING:
    from jobs.ledger import Ledger

#: Seconds between two looks, and the share of the time that looking may take.
LOOK_EVERY = 1.0
LOOKING_SHARE = 0.1


@dataclass(slots=True, kw_only=True)
class Watch:
    """One batch, looked at until it has ended or waits for a person for too long."""

    ledger: Ledger
    name: str
    limits: Limits
    screen: Screen
    _last: tuple[object, ...] = ()
    _changed_at: float = field(default_factory=time.monotonic)

    def until_it_ends(self) -> Ending:
        """Ctrl-C ends the watching, not the work."""
        try:
            while True:
                before = time.monotonic()
                standing = self._look()
                self.screen.show(standing.progress, standing.accounts)
                reason = self._judge(standing)
                if reason is not None:
                    return self._ending(reason, standing)
                time.sleep(max(LOOK_EVERY, (time.monotonic() - before) / LOOKING_SHARE))
        except KeyboardInterrupt:
            return self._ending(Reason.INTERRUPTED, self._look())

    def _look(self) -> Standing:
        now = time.time() + self.ledger.clock_offset()
        return Standing(
            progress=self.ledger.progress(self.name, now),
            accounts=self.ledger.accounts(),
            now=now,
        )

    def _judge(self, standing: Standing) -> Reason | None:
        progress = standing.progress
        if is_over(progress):
            return finished(progress, 0.0)
        signature = (progress.jobs, progress.images_stored, progress.images_generated, progress.batch)
        if signature != self._last:
            self._last, self._changed_at = signature, time.monotonic()
            return None
        reason = waits_for(standing)
        alone = not self.ledger.is_sqlite and not self.ledger.workers_seen(standing.now, SIGN_OF_LIFE)
        longest = self.limits.max_stall if alone else patience(reason, self.limits.max_stall, standing.accounts)
        stalled = longest is not None and time.monotonic() - self._changed_at >= longest
        return (reason or Reason.NOTHING_MOVES) if stalled else None

    def _ending(self, reason: Reason, standing: Standing) -> Ending:
        held_up = "; ".join(troubles(standing.progress, standing.accounts))
        nothing = held_up or f"nothing moves; {'is a worker there?' if not self.ledger.is_sqlite else self._who()}"
        said = f"no longer watched; {self._who()}" if reason is Reason.INTERRUPTED else nothing
        code = EXIT_CODES.get(reason, NEEDS_A_PERSON)
        return Ending(exit_code=code, reason=reason, message=said, progress=standing.progress)

    def _who(self) -> str:
        if not self.ledger.is_sqlite:
            return "the workers go on"
        return "the `lightfast run` at work goes on" if self.ledger.is_held() else NOBODY
