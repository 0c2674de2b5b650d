"""When provider tasks are asked about: by what is learnt of their kind, else by the catalogue or the settings."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from jobs.ledger import Ledger
from jobs.ledger.accounts.durations import TaskKind
from jobs.ledger.accounts.values import PollRoom
from jobs.policy import poll_schedule
from jobs.policy.poll_schedule import Durations, Plan
from jobs.settings.model import AccountSettings
from providers.types import Route
from worker.polling.batching import PollBatching
from worker.runtime.clock import Clock
from worker.runtime.executors import Executors
from worker.runtime.timings import Timings

#: Seconds after a callback for which others are relied on: one whose address is wrong or shut off changes nothing.
CALLED_FOR = 600.0
#: Seconds after acceptance from which polling slows, and the slowest it gets before the deadline.
SLOWING_FROM = 120.0
SLOW = 30.0
#: Seconds after which a task is overdue: asked about ever more slowly, and never given up.
DEADLINE = 1_800.0
#: Part of its age that a task waits which has outlived all that is known of its kind: sooner than the catalogue says
#: where its kind is quick.
OUTLIVED = 0.15
#: Part of the first polls that come early, at a random time, where nobody tells how long tasks took: else a provider
#: that became quicker would not be noticed.
CURIOUS = 0.04
#: Part of the durations that its provider has to tell for no poll to come early in that way.
MOSTLY = 0.5
#: Tasks that a request asks about on average from which on a task's polls hardly count.
SHARED = 4.0
#: Seconds for which an account counts as full after a claim found all of its places taken: its last tasks too.
FULL_FOR = 60.0
#: Part of the polls a second that plans count on: of declared ones, where chance must not make a queue, and of learnt
#: ones, which grow only where all of them are used.
DECLARED_PART, LEARNT_PART = 0.97, 1.1


def wait_until_next(route: Route, age: float, slowest: float) -> float:
    """Seconds until the next poll of a task that was accepted `age` seconds ago, by the catalogue, before jitter.

    `slowest`: seconds that it is at most.
    """
    if age < SLOWING_FROM:
        return route.poll_every
    if age < DEADLINE:
        return min(max(SLOW, route.poll_every), route.poll_every * age / SLOWING_FROM)
    return min(slowest, SLOW + (age - DEADLINE) / 10)


@dataclass(slots=True, eq=False)
class PollScheduler:
    """The plans of a process; belongs to one event loop."""

    accounts: Mapping[str, AccountSettings]
    ledger: Ledger
    executors: Executors
    clock: Clock
    rng: random.Random
    poll_batching: PollBatching
    timings: Timings = field(default_factory=Timings)
    _known: dict[TaskKind, Durations] = field(default_factory=dict)
    _plans: dict[TaskKind, Plan] = field(default_factory=dict)
    _rooms: dict[str, PollRoom] = field(default_factory=dict)
    _full_until: dict[str, float] = field(default_factory=dict)  # by account
    _called_back: frozenset[str] | set[str] = frozenset()  # accounts whose callbacks come through
    _look_at: float = 0.0

    async def refresh(self) -> None:
        """Takes over what has been learnt, now and then; plans are made anew where it has changed."""
        now = self.clock.boot()
        if now < self._look_at:
            return
        self._look_at = now + self.timings.durations_every
        self._known = await self.executors.read(self.ledger.accounts.durations)
        self._rooms = await self.executors.read(self.ledger.accounts.poll_rooms)
        full = (name for name, room in self._rooms.items() if room.is_full)
        self._full_until.update(dict.fromkeys(full, now + FULL_FOR))
        if any(account.webhook_base_url for account in self.accounts.values()):
            since = self.clock.now() - CALLED_FOR
            self._called_back = await self.executors.read(self.ledger.hints.called_back, since)
        for kind, known in self._known.items():
            if kind.account in self.accounts and self._learns(kind.account):
                await self._replan(kind, known)

    async def _replan(self, kind: TaskKind, known: Durations) -> None:
        plan = self._plans.get(kind)
        most = self._most_polls(kind, poll_schedule.mean(known) + (plan.late if plan else 0.0))
        if plan is not None and plan.fits(known, most):
            return
        made = await self.executors.blocking(poll_schedule.plan, known, most)
        if made is not None:
            self._plans[kind] = made

    def _most_polls(self, kind: TaskKind, holds: float) -> float:
        """Polls that a task of this kind may take, on average. `holds`: seconds for which it has a place.

        Where every place is taken, a finished task that nobody has found keeps another from being sent, so all polls
        are spent that the account may make: each task has its part of them for as long as it runs.
        """
        tasks, setting = self.poll_batching.tasks_a_request(kind.account), self.accounts[kind.account].polling
        few = poll_schedule.TOGETHER if tasks >= SHARED else poll_schedule.FEW[setting]
        room = self._rooms.get(kind.account)
        is_full = self._full_until.get(kind.account, 0.0) > self.clock.boot()
        if room is None or setting == "thrifty" or not is_full:
            return few
        rate = room.per_second * (LEARNT_PART if room.is_learnt else DECLARED_PART)
        return max(few, tasks * rate / max(1, room.in_flight) * holds)

    def _learns(self, account: str) -> bool:
        """What the settings declare is kept to."""
        mine = self.accounts[account]
        return mine.first_poll_after is None and mine.poll_every is None

    def first_wait(self, attempt_id: int, kind: TaskKind, route: Route) -> float:
        """Seconds from a task's acceptance to its first poll."""
        plan = self._plan_of(kind)
        age = plan.after(0.0, attempt_id) if plan else None
        if plan is None or age is None:
            return route.first_poll_after * self.rng.uniform(0.95, 1.2)
        if kind.account in self._called_back:
            return plan.edges[-1] * poll_schedule.factor_of(attempt_id)  # polls only find what callbacks missed
        if self._known[kind].told < MOSTLY and self.rng.random() < CURIOUS:
            age *= self.rng.uniform(0.4, 1.0)
        return age * poll_schedule.factor_of(attempt_id)

    def next_wait(self, attempt_id: int, kind: TaskKind, route: Route, age: float) -> float:
        """Seconds until the next poll of a task that still runs `age` seconds after its acceptance."""
        plan, factor = self._plan_of(kind), poll_schedule.factor_of(attempt_id)
        then = plan.after(age / factor, attempt_id) if plan else None
        if then is not None:
            return max(poll_schedule.LEAST_WAIT, then * factor - age)
        wait = wait_until_next(route, age, self.timings.slowest_poll)
        if plan is not None:
            wait = min(wait, max(poll_schedule.LEAST_WAIT, age * OUTLIVED))
        return wait * self.rng.uniform(0.85, 1.15)

    def _plan_of(self, kind: TaskKind) -> Plan | None:
        return self._plans.get(kind)
