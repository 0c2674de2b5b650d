"""Schedules and their times, as documents for programs, and as they stand now: what is on record of them grows old."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jobs.formatting import usd, utc
from jobs.policy.firing import BEFORE, NEEDY, SPENT, UNTOLD, Into, is_up_to_its_budget, upcoming
from jobs.results.completion import Reason
from jobs.results.conditions import Standing
from jobs.states import FiringState
from worker.registration.manifest_sources import shown_name
from worker.scheduling.following import OF_BUDGETS, as_it_is_now, waits_by_now
from worker.scheduling.reading import problem_by_now

if TYPE_CHECKING:
    from jobs.ledger import Ledger
    from jobs.ledger.schedules.values import Firing, MissedTimes, Schedule

#: Times of a schedule that are told ahead.
AHEAD = 5
#: Seconds for which the list names times that nobody saw, after that was found.
MISSED_SHOWN_FOR = 7 * 86_400.0


def as_of_now(ledger: Ledger, schedule: Schedule, firing: Firing, now: float, *, sandbox: bool) -> Firing:
    """A time with what its budget holds up now: while nobody works, what is on record of that grows old."""
    if firing.code not in OF_BUDGETS:
        return helped(ledger, schedule, firing, now)
    if firing.state is FiringState.FAILED:
        spent = ledger.schedules.spent_this_month(schedule.id, now)
        return replace(firing, message=problem_by_now(schedule, firing, spent, sandbox=sandbox))
    is_waiting = firing.state is FiringState.STOPPED and not is_up_to_its_budget(firing.exit_code, firing.detail)
    if is_waiting and firing.batch:
        standing = Standing(now=now, accounts=ledger.accounts.all())
        return replace(firing, message=waits_by_now(ledger.reports.progress(firing.batch, now), standing))
    return firing


def helped(ledger: Ledger, schedule: Schedule, firing: Firing, now: float) -> Firing:
    """A time with rows that needed a person then, as they are now: a `retry` may have made them."""
    batch = firing.batch or (schedule.name if schedule.into is Into.SAME else None)  # none: its manifest was as it was
    if firing.code != Reason.ROWS_NEED_YOU or not batch or ledger.batches.find(batch) is None:
        return firing
    return as_it_is_now(firing, ledger.reports.progress(batch, now))


def missed_document(missed: MissedTimes | None) -> dict[str, Any] | None:
    """Times that nobody saw, for programs."""
    if missed is None:
        return None
    return {"times": missed.count, "first_at": utc(missed.first), "last_at": utc(missed.last)}


def history_of(ledger: Ledger, schedule: Schedule, now: float, *, sandbox: bool) -> list[Firing]:
    """A schedule's times, the newest first and as it stands now.

    The older ones are told as they were told then, but for rows that were made since.
    """
    history = ledger.schedules.history(schedule.id, with_charges=True)
    newest, older = history[:1], history[1:]
    return [
        *(as_of_now(ledger, schedule, each, now, sandbox=sandbox) for each in newest),
        *(helped(ledger, schedule, each, now) for each in older),
    ]


def listed(ledger: Ledger, now: float, *, sandbox: bool) -> list[dict[str, Any]]:
    """All schedules, for programs."""
    every, found = ledger.schedules.all(), ledger.schedules.newest(now, with_charges=True)
    missed = ledger.schedules.missed(now - MISSED_SHOWN_FOR)
    return [
        {
            **schedule_document(one, last and as_of_now(ledger, one, last, now, sandbox=sandbox)),
            "missed": missed_document(missed.get(one.id)),
        }
        for one in every
        for last in (found.get(one.id),)
    ]


def whole_document(ledger: Ledger, schedule: Schedule, now: float, *, sandbox: bool) -> dict[str, Any]:
    """One schedule with its next times and its history, for programs."""
    last = ledger.schedules.newest(now, with_charges=True).get(schedule.id)
    times = upcoming(schedule.cron, schedule.timezone, now, AHEAD) if schedule.next_at is not None else []
    return {
        **schedule_document(schedule, last and helped(ledger, schedule, last, now)),
        "times": [utc(at) for at in times],
        "spent_this_month_usd": usd(ledger.schedules.spent_this_month(schedule.id, now)),
        "history": [firing_document(each) for each in history_of(ledger, schedule, now, sandbox=sandbox)],
    }


def schedule_document(schedule: Schedule, firing: Firing | None) -> dict[str, Any]:
    """One schedule, for programs."""
    return {
        "name": schedule.name,
        "cron": schedule.cron,
        "timezone": schedule.timezone,
        "manifest": shown_name(schedule.options.get("manifest", "")),
        "options": {name: value for name, value in schedule.options.items() if name != "manifest"},
        "into": schedule.into,
        "overlap": schedule.overlap,
        "catch_up": schedule.catch_up,
        "jitter_seconds": schedule.jitter,
        "keep_seconds": schedule.keep,
        "budget_usd": usd(schedule.budget),
        "monthly_budget_usd": usd(schedule.monthly_budget),
        "paused": schedule.next_at is None,
        "next_at": utc(schedule.next_at) if schedule.next_at is not None else None,
        "last": firing_document(firing) if firing is not None else None,
    }


def firing_document(firing: Firing) -> dict[str, Any]:
    """One time of a schedule, for programs."""
    bought = firing.bought
    return {
        "at": utc(firing.at),
        "by_hand": firing.by_hand,
        "state": firing.state,
        "exit_code": firing.exit_code,
        "code": firing.code,
        "message": firing.message,
        "batch": firing.batch,
        "began_at": utc(firing.began_at) if firing.began_at is not None else None,
        "ended_at": utc(firing.ended_at) if firing.ended_at is not None else None,
        "plan": plan_document(firing.detail) or None,
        "images": bought and bought.images,
        "charged_usd": usd(firing.charged),
        "reserved_usd": bought and usd(bought.reserved),
        "images_after_end": bought and bought.images_after,
        "charged_after_end_usd": bought and usd(bought.charged_after),
    }


def plan_document(detail: Mapping[str, Any]) -> dict[str, Any]:
    """What the plan of a time said, for programs."""
    amounts = ("estimate", "margin", "budget", SPENT)
    money_of = {f"{name}_usd": usd(detail[name]) for name in amounts if name in detail}
    others = {name: value for name, value in detail.items() if f"{name}_usd" not in money_of}
    return {name: value for name, value in others.items() if name not in (BEFORE, UNTOLD, NEEDY)} | money_of
