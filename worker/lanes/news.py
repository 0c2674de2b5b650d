"""Tells the log how things stand: what began, changed or ended since any process looked, each once.

The ledger remembers what was told. On a cluster the workers take turns; whoever changes a condition on record tells of
it (docs/decisions/news.md). A process that is killed between the two leaves one line untold, and nothing else: messages
to people and programs are written with the change.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.ledger.accounts.condition_values import Condition, ConditionChange
from jobs.ledger.reports.values import LearntFigures, Progress
from jobs.ledger.schedules.values import Firing, Schedule
from jobs.policy.liveness import LISTED_FOR, SEEN_WITHIN
from jobs.results.completion import is_over
from jobs.results.conditions import (
    DIES_WITHIN,
    MISSED_TOLD_FOR,
    WAITED,
    LearntFigure,
    Standing,
    changed,
    events_of,
    told_of_times,
)
from jobs.results.messages import outgoing
from jobs.results.nights import Night, night_of
from worker.runtime.clock import timed
from worker.runtime.telemetry import emit
from worker.scheduling.following import follow
from worker.services import Services


@dataclass(slots=True, eq=False)
class News:
    """Looks at how everything stands, now and then, and tells what is new."""

    services: Services
    only: str | None = None  # the one batch that may spend
    of_schedule: int | None = None  # the one schedule that is worked for here
    _wait: float = field(init=False)  # seconds between two looks
    _began: float = field(init=False)  # boot clock
    _blind_until: float = -math.inf  # boot clock: until then nobody is called silent

    def __post_init__(self) -> None:
        self._wait, self._began = self._least, self.services.clock.boot()

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
        if await self._look_and_tell():
            await self._look_and_tell()  # a time that has just ended is told at once: the next one may come any moment

    async def _look_and_tell(self) -> bool:
        """Whether a time of a schedule has ended, or stopped."""
        services, ledger = self.services, self.services.ledger
        going_on = await services.executors.read(ledger.schedules.going_on)  # before the look at their batches
        look = functools.partial(self._look, going_on)
        (standing, told), cost = await services.executors.read(timed, services.clock, look)
        self._wait = max(self._least, cost / services.timings.news_part)
        await self._tell(changed(standing, told), standing)
        # Only then: nobody looks at the batch of a time that is over.
        return await self._follow(going_on, standing)

    async def _tell(self, changes: Sequence[ConditionChange], standing: Standing) -> None:
        """Puts what is new on record, with the messages of it, and into the log."""
        if not changes:
            return
        services, ledger = self.services, self.services.ledger
        messages_of = functools.partial(outgoing, standing=standing, hearers=services.sender.hearers)
        made = await services.executors.write(ledger.conditions.change, changes, standing.now, messages_of)
        services.sender.wake()
        for change in made:
            for event in events_of(change, standing):
                emit(event.name, level=event.level, **event.fields)

    async def _follow(self, going_on: Sequence[tuple[Schedule, Firing]], standing: Standing) -> bool:
        """Ends the times of schedules whose batches have ended, or wait for a person; whether there were any."""
        mine = [each for each in going_on if self.of_schedule in (None, each[0].id)]
        if not mine or self.only is not None:
            return False
        work = functools.partial(follow, self.services.ledger, mine, standing, at_work_since=self._at_work_since())
        all_ended = await self.services.executors.write(lambda: list(work()))
        for schedule, ended in all_ended:
            code: dict[str, Any] = {"code": ended.code} if ended.code else {}
            emit("schedule_ended", schedule=schedule.name, exit_code=ended.exit_code, **code)
        return bool(all_ended)

    def _at_work_since(self) -> float:
        """Since when somebody works, in Unix seconds: on one machine nothing could go on before this process began."""
        clock = self.services.clock
        return clock.now() - (clock.boot() - self._began) if self.services.ledger.is_sqlite else -math.inf

    def _look(self, going_on: Sequence[tuple[Schedule, Firing]]) -> tuple[Standing, list[Condition]]:
        """`going_on`: their batches are looked at although their end was told."""
        services, ledger = self.services, self.services.ledger
        now, sees = services.clock.now(), services.clock.boot() >= self._blind_until
        at_work = [firing.batch for _, firing in going_on if firing.batch]
        to_tell = dict.fromkeys([*ledger.conditions.batches_to_tell_of(), *at_work])
        names = [name for name in to_tell if self.only in (None, name)]
        newest, schedules = ledger.schedules.newest(now), ledger.schedules.all()
        settled = ledger.schedules.newest(now, settled=True)
        missed = ledger.schedules.missed(now - MISSED_TOLD_FOR)
        told = ledger.conditions.told(names)
        batches = [ledger.reports.progress(name, now) for name in names]
        standing = Standing(
            now=now,
            batches=batches,
            accounts=ledger.accounts.all(),
            budgets=ledger.accounts.daily_budgets(now),
            figures=self._figures(ledger.reports.learnt()),
            troubles=ledger.destinations.troubles(now),
            workers=[] if ledger.is_sqlite else ledger.workers.seen(now, LISTED_FOR if sees else SEEN_WITHIN),
            stop=ledger.emergency_stop.current(),
            moved=ledger.has_moved(),
            firings=[(schedule.name, newest[schedule.id]) for schedule in schedules if schedule.id in newest],
            settled={schedule.name: settled[schedule.id] for schedule in schedules if schedule.id in settled},
            missed={schedule.name: missed[schedule.id] for schedule in schedules if schedule.id in missed},
            nights=self._nights(batches, told),
            dying=ledger.reports.dying_links(now, within=DIES_WITHIN, waited=WAITED),
            sandbox=services.settings.is_sandbox,
            schedules_notify={schedule.name: tuple(schedule.options.get("notify", ())) for schedule in schedules},
        )
        return standing, told

    def _nights(self, batches: Sequence[Progress], told: Sequence[Condition]) -> dict[str, Night]:
        """The times that batches which are over were made for, with what they have bought."""
        of_schedules = {one.batch.name: one.schedule.name for one in batches if one.schedule and is_over(one)}
        before = {one.subject: told_of_times(one) for one in told if one.name == "batch"}
        times = {name: self.services.ledger.schedules.of_batch(name) for name in of_schedules}
        nights = {name: night_of(of_schedules[name], each, before.get(name)) for name, each in times.items()}
        return {name: night for name, night in nights.items() if night is not None}

    def _figures(self, learnt: LearntFigures) -> list[LearntFigure]:
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
