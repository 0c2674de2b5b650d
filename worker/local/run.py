"""The local run: one worker in this process, until the batch has ended or only a person can help."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.errors import MOVED
from jobs.formatting import count, listed, money
from jobs.ledger import Ledger, is_away
from jobs.ledger.accounts.values import Account
from jobs.ledger.reports.values import Progress
from jobs.policy.reuse import REUSE_WAITS
from jobs.results.progress import (
    day_budget_line,
    failing_line,
    resting,
    rows_in_need,
    stop_line,
    trouble_line,
    unwritable_line,
)
from worker.lanes import maintenance
from worker.lanes.liveness import show_life, watch_health
from worker.lanes.worker import Drained, Worker, lanes_of
from worker.local.completion import Reason, RunState, finished, is_over
from worker.local.stall import StallDetector
from worker.runtime.clock import timed
from worker.runtime.shutdown import INTERRUPTED, TERMINATED, StopSignal
from worker.runtime.telemetry import emit
from worker.services import Services

__all__ = ["Reason", "RunEnding", "StopSignal", "run_batch"]


#: Seconds beyond a submit's own timeout that are waited for its record.
MARGIN = 5.0

NEEDS_A_PERSON = 4
EXIT_CODES = {Reason.DONE: 0, Reason.ROWS_NEED_YOU: 3, Reason.INTERRUPTED: INTERRUPTED, Reason.TERMINATED: TERMINATED}

#: Told every now and then how far the batch is, and how its accounts stand.
Watcher = Callable[[Progress, Sequence[Account]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnding:
    """How a run ended."""

    exit_code: int
    reason: Reason
    message: str
    progress: Progress
    unknown: int = 0  # submits cut off without an answer
    money: int = 0  # micro-dollars they may have cost


async def run_batch(  # noqa: PLR0913  the options of `lightfast run`
    services: Services,
    name: str,
    *,
    max_stall: float | None = None,
    stop_after: float | None = None,
    on_progress: Watcher | None = None,
    stop: StopSignal | None = None,
    held: bool = False,
) -> RunEnding:
    """Works until the batch has ended, a person is needed, or `stop` says so. Whatever is accepted stays on record.

    `max_stall`: seconds to wait where only a person can help; None: for ever. `stop_after`: seconds. `held`: the caller
    holds the ledger already.
    """
    run = _Run(
        services=services,
        name=name,
        stall=StallDetector(max_stall=max_stall),
        stop_after=stop_after,
        stop=stop or StopSignal(),
        watcher=on_progress or (lambda _progress, _accounts: None),
    )
    with contextlib.nullcontext() if held else services.ledger.hold(services.clock.now()):
        worker = Worker(services, only=name)
        run.stop.open_submits = lambda: worker.open_submits
        run.since_looks = worker.since_looks
        await worker.start()
        lanes = [worker.run_lane(lane) for lane in lanes_of(services.accounts)]
        work: list[Coroutine[Any, Any, object]] = [*lanes, show_life(worker), watch_health(worker)]
        tasks = [asyncio.create_task(each) for each in work]
        try:
            reason = await run.until_something_ends()
        finally:
            drained = await worker.drain(_drain_seconds(services, run.stop), hurry=run.stop.second)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    if reason is Reason.LEDGER_GONE:
        raise await services.executors.blocking(services.ledger.gone, services.clock.now())
    return await _ending(services, name, reason, drained)


def _drain_seconds(services: Services, stop: StopSignal) -> float:
    """SIGTERM has its own limit; everyone else waits as long as the provider may take to answer."""
    if stop.exit_code == TERMINATED:
        return services.settings.drain_seconds
    providers = {account.provider for account in services.accounts.values()}
    return max((services.routes.longest_submit(provider) for provider in providers), default=0.0) + MARGIN


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
            timings = self.services.timings
            await self._wait(max(timings.count_every, cost / timings.counting_part))

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
            emit("ledger_is_locked", level="warning", seconds=round(waited), problem=_LOCKED)
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
        boot = self.services.clock.boot()
        if self.stop_after is not None and boot - self.began >= self.stop_after:
            return Reason.STOP_AFTER
        return self.stall.judge(standing, boot)

    def _stopped(self) -> Reason | None:
        if not self.stop.first.is_set():
            return None
        return Reason.TERMINATED if self.stop.exit_code == TERMINATED else Reason.INTERRUPTED

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stop.first.wait()


_LOCKED = (
    "another program writes to it, a backup or a database shell perhaps: nothing new is sent until it lets go, and "
    "what was answered meanwhile is recorded then"
)


def _count(ledger: Ledger, name: str, now: float) -> tuple[Progress, list[Account]]:
    return ledger.reports.progress(name, now), ledger.accounts.all()


def _unwritable(services: Services) -> str | None:
    """Why the ledger takes nothing from this process, as its claims and records have found."""
    return services.writes.problem or (None if services.recorder.healthy else "takes no records")


# -- what is said at the end ---------------------------------------------------------------------------------------


async def _ending(services: Services, name: str, reason: Reason, drained: Drained) -> RunEnding:
    now = services.clock.now()
    progress, accounts = await services.executors.read(_count, services.ledger, name, now)
    progress = dataclasses.replace(progress, unwritable=_unwritable(services))
    if is_over(progress) and reason is not Reason.INTERRUPTED and reason is not Reason.TERMINATED:
        reason = finished(progress)
    standing = RunState(progress=progress, accounts=accounts, now=services.clock.now())
    return RunEnding(
        exit_code=EXIT_CODES.get(reason, NEEDS_A_PERSON),
        reason=reason,
        message=_message(reason, standing, drained),
        progress=progress,
        unknown=drained.unknown,
        money=drained.money,
    )


def told(reason: Reason, standing: RunState) -> str:
    """Why it ended, in a sentence."""
    return _MESSAGES[reason](standing)


def _message(reason: Reason, standing: RunState, drained: Drained) -> str:
    said = told(reason, standing)
    if drained.unknown:
        several = f"{drained.unknown:,} submits were cut off before their answers: their outcomes are unknown"
        one = "1 submit was cut off before its answer: its outcome is unknown"
        said += f" {one if drained.unknown == 1 else several}, at most {money(drained.money)}."
    if drained.rescued:
        facts = count(drained.rescued, "answer")
        said += f" {facts} saved in a rescue file beside the ledger, to be recorded at the next start."
    return said


def _account_paused(standing: RunState) -> str:
    paused = resting(standing.progress, standing.accounts, standing.now)
    told = (f"account {one.name} ({one.provider}): {one.paused_message or one.paused_code}" for one in paused)
    return f"{'; '.join(told) or 'an account is paused'}. Nothing failed by it; what was paid is stored."


def _budget_used(standing: RunState) -> str:
    batch = standing.progress.batch
    return f"the budget of this batch is used: {money(batch.charged)} of {money(batch.budget or 0)}."


def _day_budget_used(standing: RunState) -> str:
    return f"{'; '.join(map(day_budget_line, standing.progress.day_limits))}."


def _all_paused(standing: RunState) -> str:
    stop = standing.progress.stop  # None: lifted while the run ended
    return f"{stop_line(stop)}." if stop else "all submits were stopped."


def _rows_need_you(standing: RunState) -> str:
    rows, stuck = rows_in_need(standing.progress), standing.progress.images_stuck
    kept = f" {count(stuck, 'paid image')} of them cannot be stored without you." if stuck else ""
    return f"finished, {count(rows, 'row')} need{'s' if rows == 1 else ''} you.{kept}"


def _nothing_stored(standing: RunState) -> str:
    progress = standing.progress
    told = "; ".join(map(failing_line, progress.failing)) or _not_copied(progress)
    if not progress.images_generated:
        return f"{told}. Nothing of this batch waits to be copied; its rows wait, and nothing is paid for them."
    return f"{told}. What is paid stays on record, and is copied by the same command when that is mended."


def _not_copied(progress: Progress) -> str:
    waits = progress.copy_errors.get(REUSE_WAITS, 0)
    errors = {code: number for code, number in progress.copy_errors.items() if code != REUSE_WAITS}
    told = []
    if paid := progress.images_generated - waits:
        told.append(f"{count(paid, 'paid image')} cannot be copied: {listed(errors)}")
    if waits:
        told.append(f"{count(waits, 'image')} to be taken from other rows: {progress.copy_words[REUSE_WAITS]}")
    return "; ".join(told)


def _bucket_refuses(standing: RunState) -> str:
    told = "; ".join(trouble_line(trouble) for trouble in standing.progress.troubles)
    return f"{told}. {count(standing.progress.images_generated, 'paid image')} to be copied."


_MESSAGES: dict[Reason, Callable[[RunState], str]] = {
    Reason.DONE: lambda _: "finished.",
    Reason.ROWS_NEED_YOU: _rows_need_you,
    Reason.ACCOUNT_PAUSED: _account_paused,
    Reason.BUDGET_USED: _budget_used,
    Reason.DAY_BUDGET_USED: _day_budget_used,
    Reason.BUCKET_REFUSES: _bucket_refuses,
    Reason.NOTHING_STORED: _nothing_stored,
    Reason.AFTER_RESTORE: lambda _: f"{MOVED}.",
    Reason.ALL_PAUSED: _all_paused,
    Reason.BATCH_PAUSED: lambda standing: f"the batch is paused: {standing.progress.batch.reason or 'on your word'}.",
    Reason.NOTHING_MOVES: lambda _: "nothing has moved for long; what is accepted goes on at the provider.",
    Reason.LEDGER_TAKES_NO_WRITES: lambda standing: (
        f"{unwritable_line(standing.progress.unwritable or 'took no writes')}."
    ),
    Reason.LEDGER_GONE: lambda _: "the ledger is gone.",
    Reason.STOP_AFTER: lambda _: "stopped after the time you gave; what is accepted goes on at the provider.",
    Reason.INTERRUPTED: lambda _: "stopped; what is accepted goes on at the provider.",
    Reason.TERMINATED: lambda _: "stopped; what is accepted goes on at the provider.",
}
