"""The local run: one worker in this process, until the batch has ended or only a person can help."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jobs.errors import NeedsPerson
from jobs.formatting import count
from jobs.ledger import Ledger, away_words, is_away
from jobs.ledger.accounts.values import Account
from jobs.ledger.reports.values import Progress
from jobs.results.completion import Reason, RunState, finished, is_over, saved_words, unsaved_words
from jobs.results.stall import StallDetector
from worker.lanes import maintenance
from worker.lanes.worker import Drained, Worker
from worker.local.at_work import at_work
from worker.runtime.clock import timed
from worker.runtime.shutdown import INTERRUPTED, TERMINATED, StopSignal
from worker.runtime.telemetry import emit
from worker.services import Services

__all__ = ["Reason", "RunEnding", "StopSignal", "run_batch"]


_EXIT_CODES = {Reason.DONE: 0, Reason.ROWS_NEED_YOU: 3, Reason.INTERRUPTED: INTERRUPTED, Reason.TERMINATED: TERMINATED}

#: Told every now and then how far the batch is, and how its accounts stand.
Watcher = Callable[[Progress, Sequence[Account]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnding:
    """How a run ended."""

    reason: Reason
    standing: RunState  # how everything stood then
    unknown: int = 0  # submits cut off without an answer
    money: int = 0  # micro-dollars they may have cost
    rescued: int = 0  # answers in a rescue file, to be recorded at the next start
    rescue_file: str = ""  # its full name
    unsaved: int = 0  # answers that neither the ledger nor a file took

    @property
    def exit_code(self) -> int:
        """As a process ends that does nothing else."""
        return _EXIT_CODES.get(self.reason, NeedsPerson.exit_code)

    @property
    def progress(self) -> Progress:
        """The batch, counted at the end."""
        return self.standing.progress


async def run_batch(  # noqa: PLR0913  the options of `lightfast run`
    services: Services,
    name: str,
    *,
    max_stall: float | None = None,
    stop_after: float | None = None,
    on_progress: Watcher | None = None,
    stop: StopSignal | None = None,
    held: bool = False,
    is_watched: bool = True,
) -> RunEnding:
    """Works until the batch has ended, a person is needed, or `stop` says so. Whatever is accepted stays on record.

    `max_stall`: seconds to wait where only a person can help; None: for ever. `stop_after`: seconds. `held`: the caller
    holds the ledger already. `is_watched`: the progress is shown to somebody, and not only what holds the batch up.
    """
    run = _Run(
        services=services,
        name=name,
        stall=StallDetector(max_stall=max_stall),
        stop_after=stop_after,
        stop=stop or StopSignal(),
        watcher=on_progress or (lambda _progress, _accounts: None),
        is_watched=is_watched,
    )
    with contextlib.nullcontext() if held else services.ledger.hold(services.clock.now()):
        worker = Worker(services, only=name)
        run.stop.open_submits = lambda: worker.open_submits
        run.since_looks = worker.since_looks
        away: Exception | None = None
        async with at_work(worker, run.stop) as work:
            try:
                reason = await run.until_something_ends()
            except Exception as trouble:
                if not is_away(trouble):
                    raise
                away = trouble
    drained = work.drained
    if away is not None:
        raise _gone_for_long(services, away, drained) from away
    if reason is Reason.LEDGER_GONE:
        raise await services.executors.blocking(services.ledger.gone, services.clock.now())
    with contextlib.suppress(Exception):  # a ledger that is away: the next start tells
        await work.news.tell()
        await services.sender.finish(0.0 if run.stop.second.is_set() else services.timings.last_messages)
    try:
        return await _ending(services, name, reason, drained)
    except Exception as trouble:
        if not is_away(trouble):
            raise
        raise _gone_for_long(services, trouble, drained) from trouble


# -- watching ------------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Run:
    """A batch being watched while the worker works."""

    services: Services
    name: str
    stall: StallDetector
    stop_after: float | None
    stop: StopSignal
    watcher: Watcher
    is_watched: bool = True
    began: float = 0.0  # boot clock, as `seen_at`
    seen_at: float = 0.0  # when the ledger was last read
    since_looks: Callable[[], Mapping[str, float]] = dict
    is_locked: bool = False  # and that was said

    async def until_something_ends(self) -> Reason:
        """Counts, shows and judges, again and again."""
        self.began = self.seen_at = self.services.clock.boot()
        while True:
            try:
                reason, cost = await self._look_and_judge()
            except Exception as trouble:
                if not is_away(trouble) or self._is_away_too_long():
                    raise
                emit("ledger_is_away", level="warning", problem=repr(trouble)[:300])
                reason, cost = self._stopped(), 0.0
            if reason:
                return reason
            await self._wait_for_the_next_look(cost)

    async def _wait_for_the_next_look(self, cost: float) -> None:
        """A count takes CPU each time. While nobody watches there is none as long as images come, and come well."""
        timings, recorder, clock = self.services.timings, self.services.recorder, self.services.clock
        others, seen_at = recorder.others, self.seen_at
        await self._wait(max(timings.count_every, cost / timings.counting_part))
        while not self.is_watched and clock.boot() - seen_at < timings.count_every_unwatched:
            smooth = recorder.smooth
            await self._wait(timings.lull)
            is_smooth = recorder.smooth > smooth and recorder.others == others
            if not is_smooth or self._stopped() or self._is_time_to_stop() or self.services.ledger.is_displaced():
                return

    async def _look_and_judge(self) -> tuple[Reason | None, float]:
        if self.services.ledger.is_displaced():
            return Reason.LEDGER_GONE, 0.0
        self._tell_of_a_lock()
        standing, cost = await self._look()
        self.seen_at = self.services.clock.boot()
        self.watcher(standing.progress, standing.accounts)
        if standing.progress.fails_alike:
            await maintenance.pause_failing(self.services, only=self.name)
        return self._judge(standing), cost

    def _tell_of_a_lock(self) -> None:
        """Writers wait for whoever holds the ledger, for two minutes; reads go on, so nothing else would tell of it."""
        waited = max((since for lane, since in self.since_looks().items() if lane != "sweep"), default=0.0)
        if (waited > self.services.timings.ledger_locked) is self.is_locked:
            return
        self.is_locked = not self.is_locked
        if self.is_locked:
            emit("ledger_is_locked", level="warning", seconds=round(waited))
        else:
            emit("ledger_takes_writes_again", level="warning")

    def _is_away_too_long(self) -> bool:
        """A database that restarts is waited for; what is on its way is recorded when it is back."""
        max_stall, longest = self.stall.max_stall, self.services.timings.ledger_away
        longest = longest if max_stall is None else min(max_stall, longest)
        return self.services.clock.boot() - self.seen_at >= longest

    async def _look(self) -> tuple[RunState, float]:
        """How everything stands, and the seconds it took to count that."""
        services = self.services
        now = services.clock.now()
        (progress, accounts), cost = await services.executors.read(
            timed, services.clock, lambda: _count(services.ledger, self.name, now)
        )
        progress = dataclasses.replace(progress, unwritable=_unwritable(services))
        return RunState(progress=progress, accounts=accounts, now=now), cost

    def _judge(self, standing: RunState) -> Reason | None:
        """Why the run ends now; None: it goes on."""
        if is_over(standing.progress):
            return Reason.DONE
        if reason := self._stopped():
            return reason
        return Reason.STOP_AFTER if self._is_time_to_stop() else self.stall.judge(standing, self.services.clock.boot())

    def _is_time_to_stop(self) -> bool:
        return self.stop_after is not None and self.services.clock.boot() - self.began >= self.stop_after

    def _stopped(self) -> Reason | None:
        if not self.stop.first.is_set():
            return None
        return Reason.TERMINATED if self.stop.exit_code == TERMINATED else Reason.INTERRUPTED

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stop.first.wait()


def _count(ledger: Ledger, name: str, now: float) -> tuple[Progress, list[Account]]:
    return ledger.reports.progress(name, now), ledger.accounts.all()


def _unwritable(services: Services) -> str | None:
    """Why the ledger takes nothing from this process, as its claims and records have found."""
    return services.writes.problem or (None if services.recorder.healthy else "takes no records")


# -- the end ---------------------------------------------------------------------------------------


def _gone_for_long(services: Services, trouble: Exception, drained: Drained) -> NeedsPerson:
    """What is said where not even the counts can be read at the end."""
    why = away_words(trouble)
    cut_off = f" {count(drained.unknown, 'submit')} had no answer yet." if drained.unknown else ""
    saved = saved_words(drained.rescued, drained.rescue_file) + unsaved_words(drained.unsaved)
    return NeedsPerson(
        f"the ledger {services.ledger.address} {why}.{cut_off}{saved} Nothing more was sent. When that is fixed, the "
        "same command goes on, and pays nothing twice."
    )


async def _ending(services: Services, name: str, reason: Reason, drained: Drained) -> RunEnding:
    now = services.clock.now()
    progress, accounts = await services.executors.read(_count, services.ledger, name, now)
    progress = dataclasses.replace(progress, unwritable=_unwritable(services))
    if is_over(progress) and reason is not Reason.INTERRUPTED and reason is not Reason.TERMINATED:
        reason = finished(progress)
    standing = RunState(progress=progress, accounts=accounts, now=services.clock.now())
    return RunEnding(
        reason=reason,
        standing=standing,
        unknown=drained.unknown,
        money=drained.money,
        rescued=drained.rescued,
        rescue_file=drained.rescue_file,
        unsaved=drained.unsaved,
    )
