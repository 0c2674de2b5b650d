"""Where one request may ask about many provider tasks: a process's own memory of where that works and for whom."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from jobs.settings.model import AccountSettings
from providers.types import ManyTasks
from worker.runtime.clock import Clock
from worker.runtime.telemetry import emit

#: Seconds for which an account's tasks are asked about one by one after its provider showed that it cannot do better.
OFF = 3_600.0
#: Requests running that came to nothing before that is taken as shown: single ones may work meanwhile.
TRIES = 3
#: Attempts remembered that such an answer left out; the oldest are tried with the others again.
MOST_ALONE = 2_000
#: Part by which the newest request counts in how many tasks one asks about.
NEWEST = 0.1


@dataclass(slots=True, eq=False)
class PollBatching:
    """Belongs to one event loop."""

    accounts: Mapping[str, AccountSettings]
    able: Mapping[str, ManyTasks]
    clock: Clock
    _off_until: dict[str, float] = field(default_factory=dict)
    _failed: Counter[str] = field(default_factory=Counter)  # running
    _tasks: dict[str, float] = field(default_factory=dict)  # a request asks about lately, by account
    _alone: deque[int] = field(default_factory=lambda: deque(maxlen=MOST_ALONE))

    def most(self, account: str) -> int:
        """The tasks one request may ask about; 1: they are asked about one by one."""
        able = self.able.get(self.accounts[account].provider)
        off = self.clock.boot() < self._off_until.get(account, 0.0)
        return 1 if able is None or off else able.most_together

    @property
    def alone(self) -> frozenset[int]:
        """Attempts that are asked about alone wherever they are."""
        return frozenset(self._alone)

    def tasks_a_request(self, account: str) -> float:
        """The tasks one request asks about lately, on average."""
        return self._tasks.get(account, 1.0) if self.most(account) > 1 else 1.0

    def note(self, account: str, tasks: int, requests: int) -> None:
        """Counts what a claim came to."""
        before = self._tasks.get(account, 1.0)
        self._tasks[account] = before + NEWEST * (tasks / requests - before)

    def worked(self, account: str, left_out: Iterable[int]) -> None:
        """An answer was understood, and told nothing of these attempts."""
        del self._failed[account]
        self._alone.extend(left_out)

    def failed(self, account: str, code: str, *, for_good: bool) -> None:
        """A request told nothing of anybody. `for_good`: the next will not either."""
        self._failed[account] += 1
        if for_good or self._failed[account] >= TRIES:
            del self._failed[account]
            self._off_until[account] = self.clock.boot() + OFF
            emit("polls_together_off", level="warning", account=account, code=code, seconds=OFF)
