"""How the batches of schedules go on: whether a time is over, waits for a person, or goes on again."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from jobs.errors import NeedsPerson
from jobs.formatting import count, money
from jobs.ledger import Ledger
from jobs.ledger.accounts.condition_values import Condition
from jobs.ledger.reports.values import Progress
from jobs.ledger.schedules.values import Bought, Ended, Firing, Schedule
from jobs.policy.firing import BEFORE, LEFT_OUT, LEFT_TO_THE_NEXT, MADE, NEEDY, SPENT, UNTOLD, is_up_to_its_budget
from jobs.results.budgets import allowed_by, bought_words, goes_on_words, helped_words, raise_budget, raise_month
from jobs.results.completion import (
    Allowed,
    Reason,
    RunState,
    exit_code_when_over,
    finished,
    goes_on_by_itself,
    is_over,
    waits_for,
)
from jobs.results.conditions import Standing, problem_of, told_of_times
from jobs.results.nights import sums_by_now, untold_before
from jobs.results.progress import rows_in_need
from jobs.results.stall import headway, verdict
from jobs.states import FiringState, JobState
from worker.registration.options import UNATTENDED_STALL, read_allowed, read_duration

#: What is waited for without a batch being in trouble.
OF_BUDGETS = (Reason.BUDGET_USED, Reason.MONTH_BUDGET_USED)


def follow(
    ledger: Ledger,
    going_on: Sequence[tuple[Schedule, Firing]],
    standing: Standing,
    *,
    at_work_since: float = -math.inf,
) -> Iterator[tuple[Schedule, Ended]]:
    """Notes how the batches of these times stand; gives those that are over, or have stopped. Blocks.

    `standing`: looked at after `going_on` was, so that a batch is never taken for over before its rows were recorded.
    `at_work_since`: no headway could be made before, in Unix seconds.
    """
    batches: Mapping[str, Progress] = {progress.batch.name: progress for progress in standing.batches}
    for schedule, firing in going_on:
        progress = batches.get(firing.batch or "")
        if progress is not None and (ended := _judged(ledger, schedule, firing, progress, standing, at_work_since)):
            ledger.schedules.end(firing.id, ended, standing.now)
            yield schedule, ended


def ended_with(schedule: Schedule, progress: Progress) -> Ended:
    """How a time ends whose batch is over: with rows that need a person, it is not all good."""
    allowed = schedule.options.get("allow_failed")
    code = exit_code_when_over(progress, read_allowed(allowed) if allowed else Allowed())
    ended = Ended(state=FiringState.ENDED, exit_code=code, code=Reason.ROWS_NEED_YOU.value if code else None)
    return replace(ended, detail={NEEDY: rows_in_need(progress)}) if code else ended


def as_it_is_now(firing: Firing, progress: Progress) -> Firing:
    """A time whose rows needed a person when it ended, where all of its batch are made by now: it is done."""
    had_rows = firing.state is FiringState.ENDED and firing.code == Reason.ROWS_NEED_YOU.value
    if not had_rows or not is_over(progress) or finished(progress) is not Reason.DONE:
        return firing
    return replace(firing, exit_code=0, code=None, message=helped_words(firing.detail.get(NEEDY)))


def _judged(
    ledger: Ledger,
    schedule: Schedule,
    firing: Firing,
    progress: Progress,
    standing: Standing,
    at_work_since: float,
) -> Ended | None:
    if is_over(progress):
        # Whoever gave up the rest may have died before it was said here.
        is_left = progress.batch.reason == LEFT_TO_THE_NEXT
        used = Reason.BUDGET_USED
        return (
            _up_to_its_budget(ledger, schedule, firing, progress, used) if is_left else ended_with(schedule, progress)
        )
    state = RunState(progress=progress, accounts=standing.accounts, now=standing.now)
    seen = hashlib.sha256(repr(headway(state)).encode()).hexdigest()[:16]
    if seen != firing.headway:
        ledger.schedules.note_headway(firing.id, seen, standing.now)
        if firing.state is FiringState.STOPPED and firing.headway is not None:
            ledger.schedules.goes_on(firing.id, standing.now)
        return None
    if firing.state is FiringState.STOPPED:
        _look_again(ledger, firing, state, standing)
        return None
    stall = schedule.options.get("max_stall")
    waited = standing.now - max(firing.headway_at or standing.now, at_work_since)
    reason = verdict(state, waited, read_duration(stall) if stall else UNATTENDED_STALL)
    if reason is None:
        return None
    if reason in OF_BUDGETS and goes_on_by_itself(progress, reason):
        return _up_to_its_budget(ledger, schedule, firing, progress, reason)
    stopped = Ended(state=FiringState.STOPPED, exit_code=NeedsPerson.exit_code, code=reason.value)
    return replace(stopped, message=why_it_waits(progress, standing, reason), detail=_of_now(ledger, firing))


def _look_again(ledger: Ledger, firing: Firing, state: RunState, standing: Standing) -> None:
    """A time that waits for a budget goes on when that is raised or its month is over, and tells its figures of now."""
    if firing.code not in OF_BUDGETS:
        return
    reason = waits_for(state)
    if reason is None:
        ledger.schedules.goes_on(firing.id, standing.now)
    elif reason in OF_BUDGETS and not is_up_to_its_budget(firing.exit_code, firing.detail):
        ledger.schedules.note_why(firing.id, reason.value, why_it_waits(state.progress, standing, reason))


def waits_by_now(progress: Progress, standing: Standing) -> str:
    """What a time that has stopped at a budget waits for, as things stand now."""
    if is_over(progress):
        return "its batch has finished since"
    reason = waits_for(RunState(progress=progress, accounts=standing.accounts, now=standing.now))
    return "its budget allows more by now: it goes on" if reason is None else why_it_waits(progress, standing, reason)


def why_it_waits(progress: Progress, standing: Standing, reason: Reason) -> str:
    """What a batch waits for, with the commands that raise a budget that is used."""
    message = problem_of(progress, standing, reason) or reason.value.replace("_", " ")
    if reason not in OF_BUDGETS:
        return message
    helps = raise_month(progress) if reason is Reason.MONTH_BUDGET_USED else [raise_budget(progress)]
    return f"{message}. To raise it:  {', then  '.join(helps)}"


def _up_to_its_budget(ledger: Ledger, schedule: Schedule, firing: Firing, progress: Progress, reason: Reason) -> Ended:
    """What a time with --partial has bought, what it left out, and when that is bought.

    The rest of a batch of its own is given up, so that the next time, which takes it into another batch, is the only
    one that buys it.
    """
    bought = _bought(ledger, firing)
    left = sum(progress.jobs.get(state, 0) for state in (JobState.READY, JobState.CANCELLED))
    month = progress.schedule.month if progress.schedule and reason is Reason.MONTH_BUDGET_USED else None
    spent = f"{money(month.spent)} of this month's {money(month.budget)} is spent or reserved" if month else ""
    bad = rows_in_need(progress)
    needy = f". Besides, {count(bad, 'row')} need{'s' if bad == 1 else ''} you" if bad else ""
    cost = f", at most {money(progress.remaining_money)}" if progress.remaining_money else ""
    rows = f"{count(left, 'row')} {'is' if left == 1 else 'are'} left out{cost}"
    message = (
        f"{bought_words(bought)}. {rows}: {spent or 'its budget allows no more'}; {goes_on_words(progress)}{needy}"
    )
    if not bought.sent:
        month_spent = progress.schedule.month.spent if progress.schedule and progress.schedule.month else 0
        message += f".{allowed_by(schedule, progress.remaining_money, month_spent, sandbox=progress.batch.sandbox)}"
    ended = Ended(state=FiringState.STOPPED, exit_code=NeedsPerson.exit_code, code=reason.value, message=message)
    if progress.batch.name != schedule.name:  # not by --into, which may have been edited since
        ledger.batches.cancel(progress.batch.name, LEFT_TO_THE_NEXT)
        ended = replace(ended, state=FiringState.ENDED)
    return replace(ended, detail={LEFT_OUT: left, **_of_now(ledger, firing)})


def _bought(ledger: Ledger, firing: Firing) -> Bought:
    """What a time has bought so far."""
    times = ledger.schedules.of_batch(firing.batch or "")
    return next((each.bought for each in times if each.id == firing.id), None) or Bought()


def _of_now(ledger: Ledger, firing: Firing) -> dict[str, Any]:
    """What is told of a time that has stopped: what it has made, and what those before it have, untold."""
    times = ledger.schedules.of_batch(firing.batch or "")
    own = next((each.bought for each in times if each.id == firing.id), None) or Bought()
    told = next(
        (told_of_times(one) for one in ledger.conditions.told([firing.batch or ""]) if _is_of(one, firing)), None
    )
    untold = untold_before(firing, times, told)
    made = {MADE: own.images or 0, SPENT: own.charged}
    if not untold:
        return {**made, BEFORE: {}, UNTOLD: (0, 0, 0)}
    sums = len(untold), sum(each[0] for each in untold.values()), sum(each[1] for each in untold.values())
    return {**made, BEFORE: sums_by_now(list(untold), times), UNTOLD: sums}


def _is_of(condition: Condition, firing: Firing) -> bool:
    return (condition.name, condition.subject) == ("batch", firing.batch)
