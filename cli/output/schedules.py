"""Schedules as people and programs see them: all in a table, one with its times and its history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from cli.output.wording import aligned
from jobs.command_lines import command
from jobs.formatting import day_and_minute, minute_in
from jobs.policy.firing import NEEDY, has_shrunk, upcoming
from jobs.states import FiringState
from worker.scheduling.documents import AHEAD
from worker.scheduling.words import (
    facts,
    has_stopped,
    is_partial,
    messages,
    outcome,
    planned_words,
    shrunk_words,
    style,
)

if TYPE_CHECKING:
    from jobs.ledger.schedules.values import Firing, MissedTimes, Schedule

Line = tuple[str, str]  # text, style

_WIDTH = 12
_HEAD = ("SCHEDULE", "TIMES", "ZONE", "NEXT", "LAST", "OUTCOME")
# -- all -----------------------------------------------------------------------------------------------------------


def table(
    schedules: Sequence[Schedule],
    newest: Mapping[int, Firing],
    missed: Mapping[int, MissedTimes] | None = None,
    *,
    sandbox: bool = False,
) -> Iterator[Line]:
    """A line each, and below what is wrong, with the command that helps."""
    if not schedules:
        yield "No schedule yet.", ""
        return
    rows = [_row(each, newest.get(each.id)) for each in schedules]
    first, *lines = aligned([_HEAD, *rows])
    yield first, "bold"
    for each, line in zip(schedules, lines, strict=True):
        yield line, style(newest.get(each.id))
    for each in schedules:
        if unseen := (missed or {}).get(each.id):
            since = day_and_minute(unseen.first)
            told = f"{since}: missed" if unseen.count == 1 else f"{unseen.count:,} times missed since {since}"
            yield f"{each.name}, {told}: nobody was there to see {'it' if unseen.count == 1 else 'them'}", "yellow"
        firing = newest.get(each.id)
        if firing is not None and firing.message and (has_stopped(firing) or is_partial(firing)):
            yield f"{each.name}, {day_and_minute(firing.at)}: {firing.message}", style(firing)
        elif firing is not None:
            if has_shrunk(firing.detail):
                yield f"{each.name}, {day_and_minute(firing.at)}: {shrunk_words(firing.detail)}", "yellow"
            if firing.state is FiringState.ENDED and firing.exit_code:
                see = command("status", firing.batch or each.name, sandbox=sandbox)
                yield f"{each.name}, {day_and_minute(firing.at)}: rows failed, are held or lost:  {see}", "yellow"
            elif firing.state is FiringState.ENDED and firing.detail.get(NEEDY):
                yield f"{each.name}, {day_and_minute(firing.at)}: {outcome(firing)}; {firing.message}", ""


def _row(schedule: Schedule, firing: Firing | None) -> tuple[str, ...]:
    next_at = day_and_minute(schedule.next_at) if schedule.next_at is not None else "paused"
    last = (day_and_minute(firing.at), outcome(firing)) if firing is not None else ("-", "-")
    return (schedule.name, schedule.cron, schedule.timezone, next_at, *last)


# -- one -----------------------------------------------------------------------------------------------------------


def page(schedule: Schedule, spent: int, history: Sequence[Firing], now: float) -> Iterator[Line]:
    """What it does, when, and what became of its times."""
    yield f"{schedule.name}: {schedule.cron} ({schedule.timezone})", "bold"
    yield from ((f"{name:{_WIDTH}}{text}", "") for name, text in facts(schedule, spent))
    yield from _ahead(schedule, now)
    yield from history_lines(history)


def _ahead(schedule: Schedule, now: float) -> Iterator[Line]:
    if schedule.next_at is None:
        yield f"{'next':{_WIDTH}}paused", "yellow"
        return
    for place, at in enumerate(upcoming(schedule.cron, schedule.timezone, now, AHEAD)):
        there = minute_in(at, schedule.timezone)
        yield f"{'' if place else 'next':{_WIDTH}}{there}   {day_and_minute(at)}", ""


def history_lines(history: Sequence[Firing]) -> Iterator[Line]:
    """A line a time, the newest first."""
    for place, firing in enumerate(history):
        by = " by hand" if firing.by_hand else ""
        told = "".join(f": {each}" for each in messages(firing)).replace("\n", f"\n{'':{_WIDTH}}")
        what = planned_words(firing)
        line = f"{'' if place else 'history':{_WIDTH}}{day_and_minute(firing.at)}{by}  {outcome(firing)}{what}{told}"
        yield line, style(firing)
