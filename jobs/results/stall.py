"""When to stop waiting for a batch. The same rule for who works on it (`run`) and who only watches (`watch`). Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from jobs.results.completion import Reason, RunState, patience, waits_for
from jobs.states import ENDED


@dataclass(slots=True, kw_only=True)
class StallDetector:
    """Remembers when a batch last made headway."""

    max_stall: float | None  # seconds to wait where only a person can help; None: for ever
    _seen: tuple[object, ...] = field(default_factory=tuple)
    _since: float = 0.0

    def judge(self, standing: RunState, at: float, is_alone: Callable[[], bool] = lambda: False) -> Reason | None:
        """Why to give up now; None: wait on. `at`: seconds, by a clock that nobody sets. `is_alone`: nobody works."""
        seen = headway(standing)
        if seen != self._seen:
            self._seen, self._since = seen, at
            return None
        return verdict(standing, at - self._since, self.max_stall, is_alone)


def verdict(
    standing: RunState, waited: float, max_stall: float | None, is_alone: Callable[[], bool] = lambda: False
) -> Reason | None:
    """Why to give up a batch that has made no headway for `waited` seconds; None: wait on."""
    reason = waits_for(standing)
    longest = patience(reason, max_stall, standing.accounts)
    if longest is not None and waited >= longest:
        return reason or Reason.NOTHING_MOVES
    if max_stall is not None and waited >= max_stall and is_alone():  # no slow provider task is waited for
        return reason or Reason.NOTHING_MOVES
    return None


def headway(standing: RunState) -> tuple[object, ...]:
    """What changes when there is headway. A probe of an account in trouble, sent and refused again, is none.

    Nor is one that tries whether images can be stored again: it is paid, made, and fails to be copied as the others.
    """
    progress, batch = standing.progress, standing.progress.batch
    if progress.failing:
        ended = {state: count for state, count in progress.jobs.items() if state in ENDED}
        return ended, progress.images_stored, batch.state, batch.budget
    if not any(account.paused_code for account in standing.accounts):
        return progress.jobs, progress.images_stored, batch, progress.images_generated
    ended = {state: count for state, count in progress.jobs.items() if state in ENDED}
    return ended, progress.images_stored, batch.charged, batch.state, batch.budget, progress.images_generated
