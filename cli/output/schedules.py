"""Schedules as people and programs see them: all in a table, one with its times and its history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cli.output.wording import aligned
from jobs.command_lines import command
from jobs.formatting import count, day_and_minute, duration, minute_in, money
from jobs.policy.firing import NEEDY, STOPPED_WITH, Into, has_shrunk, is_up_to_its_budget, upcoming
from jobs.results.budgets import bought_words, held_words
from jobs.states import FiringState
from worker.registration.manifest_sources import shown_name
from worker.scheduling.documents import AHEAD

if TYPE_CHECKING:
    from jobs.ledger.schedules.values import Firing, MissedTimes, Schedule

Line = tuple[str, str]  # text, style

_WIDTH = 12
_HEAD = ("SCHEDULE", "TIMES", "ZONE", "NEXT", "LAST", "OUTCOME")
#: How a time ended, in words, by its exit code.
_ENDED = {0: "done", 2: "failed", 3: "done, rows need you", 4: "needs you"}
_STATES = {
    FiringState.DUE: "it is time",
    FiringState.QUEUED: "queued",
    FiringState.READING: "its manifest is read",
    FiringState.WORKING: "goes on",
    FiringState.SKIPPED: "skipped",
    FiringState.MISSED: "missed",
}


def outcome(firing: Firing) -> str:
    """What has become of a time, in a few words."""
    if _is_partial(firing):
        return "done up to its budget"
    if firing.state is FiringState.ENDED and firing.exit_code == STOPPED_WITH:
        return "stopped, and the next time went on with the rest"
    return _STATES.get(firing.state) or _ENDED[firing.exit_code or 0]


def style(firing: Firing | None) -> str:
    """Red where nothing was made or a person is needed."""
    if firing is None:
        return ""
    if _has_stopped(firing):
        return "red"
    is_odd = firing.exit_code or firing.state is FiringState.MISSED or has_shrunk(firing.detail)
    return "yellow" if is_odd else ""


def _has_stopped(firing: Firing) -> bool:
    """Whether it failed, or waits for a person."""
    waits = firing.state is FiringState.STOPPED and not _is_partial(firing)
    return waits or firing.state is FiringState.FAILED


def _is_partial(firing: Firing) -> bool:
    return is_up_to_its_budget(firing.exit_code, firing.detail)


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
        if firing is not None and firing.message and (_has_stopped(firing) or _is_partial(firing)):
            yield f"{each.name}, {day_and_minute(firing.at)}: {firing.message}", style(firing)
        elif firing is not None:
            if has_shrunk(firing.detail):
                yield f"{each.name}, {day_and_minute(firing.at)}: {_shrunk(firing.detail)}", "yellow"
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
    yield from ((f"{name:{_WIDTH}}{text}", "") for name, text in _facts(schedule, spent))
    yield from _ahead(schedule, now)
    yield from history_lines(history)


def _facts(schedule: Schedule, spent: int) -> Iterator[tuple[str, str]]:
    said = {name: value for name, value in schedule.options.items() if name not in ("manifest", "to")}
    yield "manifest", shown_name(schedule.options.get("manifest", ""))
    yield "to", str(schedule.options.get("to") or "as the settings say")
    if said:
        yield "options", "  ".join(_option(name, value) for name, value in said.items())
    yield "into", "one batch of its name" if schedule.into is Into.SAME else "a new batch each time"
    yield "overlap", f"{schedule.overlap}; catch up: {schedule.catch_up}"
    if schedule.jitter:
        yield "jitter", f"each time is acted on up to {duration(schedule.jitter)} later"
    if schedule.keep is not None:
        yield "keep", f"{duration(schedule.keep)} after its end each batch goes into an archive"
    if schedule.budget is not None:
        yield "budget", f"{money(schedule.budget)} at each time"
    if schedule.monthly_budget is not None:
        yield "month", f"{money(spent)} of {money(schedule.monthly_budget)} spent or reserved since the first, UTC"


def _option(name: str, value: Any) -> str:
    flag = f"--{name.replace('_', '-')}"
    if value is True:
        return flag
    return "  ".join(f"{flag} {each}" for each in (value if isinstance(value, list) else [value]))


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
        what = _plan(firing)
        messages = [firing.message, _shrunk(firing.detail) if has_shrunk(firing.detail) else None]
        told = "".join(f": {each}" for each in messages if each).replace("\n", f"\n{'':{_WIDTH}}")
        line = f"{'' if place else 'history':{_WIDTH}}{day_and_minute(firing.at)}{by}  {outcome(firing)}{what}{told}"
        yield line, style(firing)


def _shrunk(detail: Mapping[str, Any]) -> str:
    return f"its manifest has {count(detail['rows'], 'row')}, and had {detail['rows_before']:,} the time before"


def _plan(firing: Firing) -> str:
    detail = firing.detail
    if "images" not in detail:
        return ""
    parts = [f"{detail[name]:,} {name}" for name in ("new", "changed", "reused", "gone") if detail.get(name)]
    parts += [count(detail.get("images", 0), "image"), f"estimated {money(detail.get('estimate', 0))}"]
    if detail.get("margin"):
        parts.append(held_words(detail["margin"]))
    return f" ({', '.join(parts)}{'; ' * bool(firing.bought)}{_bought(firing)})"


def _bought(firing: Firing) -> str:
    """What a time has made and cost. What was sent after its end, as by `retry`, is told apart."""
    bought = firing.bought
    if bought is None:
        return ""
    if bought.images is None:
        return f"charged {money(bought.charged)}"
    after = ""
    if bought.images_after or bought.charged_after:
        after = f"; {count(bought.images_after, 'more image')} for {money(bought.charged_after)} after its end"
    own = replace(bought, images=bought.images - bought.images_after, charged=bought.charged - bought.charged_after)
    return f"{bought_words(own)}{after}"
