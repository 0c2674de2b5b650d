"""Schedules and their times in words: what one does, and what has become of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jobs.formatting import count, duration, money
from jobs.policy.firing import STOPPED_WITH, Into, has_shrunk, is_up_to_its_budget
from jobs.results.budgets import bought_words, held_words
from jobs.states import FiringState
from worker.registration.manifest_sources import shown_name

if TYPE_CHECKING:
    from jobs.ledger.schedules.values import Firing, Schedule

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
    if is_partial(firing):
        return "done up to its budget"
    if firing.state is FiringState.ENDED and firing.exit_code == STOPPED_WITH:
        return "stopped, and the next time went on with the rest"
    return _STATES.get(firing.state) or _ENDED[firing.exit_code or 0]


def style(firing: Firing | None) -> str:
    """Red where nothing was made or a person is needed."""
    if firing is None:
        return ""
    if has_stopped(firing):
        return "red"
    is_odd = firing.exit_code or firing.state is FiringState.MISSED or has_shrunk(firing.detail)
    return "yellow" if is_odd else ""


def has_stopped(firing: Firing) -> bool:
    """Whether it failed, or waits for a person."""
    waits = firing.state is FiringState.STOPPED and not is_partial(firing)
    return waits or firing.state is FiringState.FAILED


def is_partial(firing: Firing) -> bool:
    """Whether it bought what its budget allowed, as --partial says, and left the rest."""
    return is_up_to_its_budget(firing.exit_code, firing.detail)


def messages(firing: Firing) -> list[str]:
    """What is said of a time beside its outcome."""
    shrunk = shrunk_words(firing.detail) if has_shrunk(firing.detail) else None
    return [each for each in (firing.message, shrunk) if each]


def facts(schedule: Schedule, spent: int) -> Iterator[tuple[str, str]]:
    """What it does: a name and a text each. `spent`: micro-dollars of this month."""
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


def shrunk_words(detail: Mapping[str, Any]) -> str:
    """That its manifest has far fewer rows than before."""
    return f"its manifest has {count(detail['rows'], 'row')}, and had {detail['rows_before']:,} the time before"


def planned_words(firing: Firing) -> str:
    """What a time was to make, and what it has made, in brackets; "": nothing was planned."""
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
