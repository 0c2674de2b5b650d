"""Tells the log how things stand: what began, changed or ended since any process looked, each once.

The ledger remembers what was told. On a cluster the workers take turns; whoever changes a condition on record tells of
it (docs/decisions/news.md). A process that is killed between the two leaves one line untold, and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from jobs.ledger.accounts.condition_values import Condition
from jobs.ledger.reports.values import Learnt
from jobs.policy.liveness import LISTED_FOR, SEEN_WITHIN
from jobs.results.conditions import LearntFigure, Standing, changed, events_of
from worker.runtime.clock import timed
from worker.runtime.telemetry import emit
from worker.services import Services


@dataclass(slots=True, eq=False)
class News:
    """Looks at how everything stands, now and then, and tells what is new."""

    services: Services
    only: str | None = None  # the one batch that may spend
    _wait: float = field(init=False)  # seconds between two looks
    _blind_until: float = -math.inf  # boot clock: until then nobody is called silent

    def __post_init__(self) -> None:
        self._wait = self._least

    @property
    def _least(self) -> float:
        """A run shows its screen beside; nobody else looks, so it may look sooner."""
        timings = self.services.timings
        return timings.news_every_alone if self.services.ledger.is_sqlite else timings.news_every

    async def tell_for_ever(self) -> None:
        """Tells again and again, until it is cancelled."""
        while True:
            try:
                await self.tell(self._wait)
            except Exception as trouble:  # noqa: BLE001  of a ledger that is away the lanes tell
                # Nobody could give a sign of life meanwhile.
                self._blind_until = self.services.clock.boot() + SEEN_WITHIN
                emit("news_failed", level="debug", problem=repr(trouble)[:300])
            await self.services.clock.sleep(self._wait)

    async def tell(self, every: float = 0.0) -> None:
        """Tells what is new, unless somebody has looked within the last `every` seconds."""
        services, ledger = self.services, self.services.ledger
        if every and not await services.executors.write(ledger.conditions.take_turn, services.clock.now(), every):
            return
        (standing, told), cost = await services.executors.read(timed, services.clock, self._look)
        self._wait = max(self._least, cost / services.timings.news_part)
        changes = changed(standing, told)
        if not changes:
            return
        for change in await services.executors.write(ledger.conditions.change, changes, standing.now):
            for event in events_of(change, standing):
                emit(event.name, level=event.level, **event.fields)

    def _look(self) -> tuple[Standing, list[Condition]]:
        services, ledger = self.services, self.services.ledger
        now, sees = services.clock.now(), services.clock.boot() >= self._blind_until
        names = [name for name in ledger.conditions.batches_to_tell_of() if self.only in (None, name)]
        standing = Standing(
            now=now,
            batches=[ledger.reports.progress(name, now) for name in names],
            accounts=ledger.accounts.all(),
            budgets=ledger.accounts.daily_budgets(now),
            figures=self._figures(ledger.reports.learnt()),
            troubles=ledger.destinations.troubles(now),
            workers=[] if ledger.is_sqlite else ledger.workers.seen(now, LISTED_FOR if sees else SEEN_WITHIN),
            stop=ledger.emergency_stop.current(),
            moved=ledger.has_moved(),
        )
        return standing, ledger.conditions.told(names)

    def _figures(self, learnt: Learnt) -> list[LearntFigure]:
        """The limits that these settings leave to be learnt."""
        found = []
        for name, declared in self.services.accounts.items():
            known = learnt.limits.get(name)
            if known is None:
                continue
            if declared.submits_per_second is None:
                value, is_met = known.submits_per_second, known.rate_is_met
                found.append(LearntFigure(account=name, limit="submits_per_second", value=value, is_met=is_met))
            if declared.max_in_flight is None:
                value, is_met = known.max_in_flight, known.in_flight_is_met
                found.append(LearntFigure(account=name, limit="max_in_flight", value=value, is_met=is_met))
        return found
