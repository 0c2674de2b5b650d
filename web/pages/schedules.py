"""Schedules: when each comes next, how its last time went, and the history of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter, HTTPException, Request, Response

from jobs.formatting import minute_in
from jobs.ledger.access.values import Token
from jobs.ledger.schedules.values import Firing, Schedule
from jobs.policy.firing import upcoming
from web.api.operations import pause_schedule, resume_schedule, run_schedule_now
from web.door import Door
from web.pages.frame import PageRoute, go, page
from web.pages.visitors import FormOfOperator, Operates, PagesState, SeesAll, pages_of
from worker.scheduling.documents import AHEAD, as_of_now, history_of
from worker.scheduling.words import facts, messages, outcome, planned_words, style

routes = APIRouter(route_class=PageRoute, include_in_schema=False)

#: The colours of a terminal, as the pages call them.
TONES = {"red": "bad", "yellow": "warn"}
#: What each action does, and the word for it.
ACTIONS = {
    "pause": ("Pause", "None of its times fires until it is resumed. What is recorded goes on.", pause_schedule),
    "resume": (
        "Resume",
        "Its times fire again, and may buy within its budgets. Those that passed do not.",
        resume_schedule,
    ),
    "run-now": ("Run now", "It fires now, and may buy within its budgets, as at each of its times.", run_schedule_now),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """A time of a schedule, as a page shows it."""

    firing: Firing
    outcome: str
    tone: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleLine:
    """A schedule of the list."""

    schedule: Schedule
    last: Time | None


@routes.get("/schedules")
def show_schedules(request: Request, visitor: SeesAll) -> Response:
    """All of them."""
    pages = pages_of(request)
    ledger, now = pages.door.ledger, pages.door.now
    newest = ledger.schedules.newest(now, with_charges=True)
    lines = [
        ScheduleLine(
            schedule=each, last=_time(as_of_now(ledger, each, last, now, sandbox=_sandbox(pages))) if last else None
        )
        for each in ledger.schedules.all()
        for last in (newest.get(each.id),)
    ]
    return page(request, visitor, "schedules.html.j2", lines=lines)


@routes.get("/schedules/{name}")
def show_schedule(request: Request, visitor: SeesAll, name: str) -> Response:
    """One, with its next times and its history."""
    pages = pages_of(request)
    found, ledger, now = _find(pages, name), pages.door.ledger, pages.door.now
    times = upcoming(found.cron, found.timezone, now, AHEAD) if found.next_at is not None else []
    return page(
        request,
        visitor,
        "schedule.html.j2",
        schedule=found,
        facts=list(facts(found, ledger.schedules.spent_this_month(found.id, now))),
        times=[(minute_in(at, found.timezone), at) for at in times],
        history=[_time(each) for each in history_of(ledger, found, now, sandbox=_sandbox(pages))],
    )


@routes.get("/schedules/{name}/{action}")
def ask(request: Request, visitor: Operates, name: str, action: str) -> Response:
    """What it would do, and whether that is meant."""
    found = _find(pages_of(request), name)
    word, words, _ = _action(action)
    return page(request, visitor, "schedule_asks.html.j2", schedule=found, action=action, word=word, words=[words])


@routes.post("/schedules/{name}/{action}")
def act(request: Request, form: FormOfOperator, name: str, action: str) -> Response:
    """Does it, by the API's own rules."""
    pages = pages_of(request)
    _action(action)[2](pages.door, form.by.token, name)
    pages.texts.forget()
    return go(f"/schedules/{name}")


def _action(action: str) -> tuple[str, str, Callable[[Door, Token, str], object]]:
    if action not in ACTIONS:
        raise HTTPException(404, "There is no such page.")
    return ACTIONS[action]


def _find(pages: PagesState, name: str) -> Schedule:
    found = pages.door.ledger.schedules.find(name) if "\0" not in name else None
    if found is None:
        raise HTTPException(404, f"There is no schedule {name}.")
    return found


def _time(firing: Firing) -> Time:
    words = [planned_words(firing).strip(), *messages(firing)]
    return Time(
        firing=firing,
        outcome=outcome(firing),
        tone=TONES.get(style(firing), ""),
        words=". ".join(each for each in words if each),
    )


def _sandbox(pages: PagesState) -> bool:
    return pages.door.settings.is_sandbox
