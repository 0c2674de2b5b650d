"""A schedule as it is asked for: its options read, what its first time would make, and consent to what it may spend."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flow.options import RunOptions
from jobs.errors import BadInput, LightfastError
from jobs.formatting import count, dollars, money, one_line
from jobs.ledger.pruning.values import LEAST_KEPT, TOO_YOUNG
from jobs.ledger.schedules.values import NewSchedule, Schedule
from jobs.policy.cron import read_cron, read_zone
from jobs.policy.firing import CatchUp, Into, OverlapPolicy
from jobs.results.budgets import held_words
from worker.registration.options import (
    BatchOptions,
    OptionReader,
    choice_of,
    read_duration,
    read_limits,
    read_money,
)
from worker.registration.preflight import Preflight, normal_dest
from worker.scheduling.reading import Left, demand, options_of, planned

if TYPE_CHECKING:
    from jobs.ledger import Ledger
    from jobs.settings.model import Settings

Cron = Annotated[str, typer.Argument(metavar="CRON", help='Five fields such as "0 3 * * *", or @daily.')]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOptions(RunOptions):
    """The options of `run`, and those of a schedule."""

    name: Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name, and its batches'.")]
    cron: Cron
    budget: Annotated[
        str | None, typer.Option(metavar="USD", help="The most that one time may add, unknown outcomes included.")
    ] = None
    monthly_budget: Annotated[
        str | None, typer.Option("--monthly-budget", metavar="USD", help="The most that a UTC month may cost.")
    ] = None
    into: Annotated[str, typer.Option(metavar="same|new", help="One batch for all times, or a new one each time.")] = (
        "same"
    )
    timezone: Annotated[str, typer.Option(metavar="ZONE", help="Of the times: Europe/Berlin.")] = "UTC"
    jitter: Annotated[str, typer.Option(metavar="5m", help="Each time is acted on up to so much later.")] = ""
    overlap: Annotated[
        str, typer.Option(metavar="skip|queue", help="What becomes of a time while the one before it goes on.")
    ] = "skip"
    catch_up: Annotated[
        str, typer.Option("--catch-up", metavar="none|last", help="Whether the last time that was missed is made up.")
    ] = "last"
    keep: Annotated[
        str, typer.Option(metavar="90d", help="With --into new: batches older than this are pruned by themselves.")
    ] = ""
    changed: Annotated[
        str, typer.Option(metavar="error|keep|redo", help="What to do with paid rows whose request has changed.")
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EditOptions(ScheduleOptions):
    """The options of a schedule, each to be left out."""

    manifest: Annotated[str, typer.Option(metavar="MANIFEST", help="Where its rows are read from.")] = ""
    cron: Annotated[str, typer.Option(metavar="CRON", help='When: five fields such as "0 3 * * *", or @daily.')] = ""
    unset: Annotated[
        list[str] | None, typer.Option("--unset", metavar="OPTION", help="Take an option back. May be repeated.")
    ] = None
    given: frozenset[str] = frozenset()  # the names of those that are said


_NOT_BY_THE_CLOCK = {
    "batch": "its batches are called as it is",
    "new_ledger": "it is said once, with `lightfast run`",
    "append": "a schedule reads the whole manifest each time",
    "stop_after": "a time goes on until its rows are done",
    "limit": "rows beyond it would be taken for gone",
    "sample": "rows that it leaves out would be taken for gone",
    "seed": "a schedule takes no sample",
}


def read_schedule(options: ScheduleOptions, *, on_a_cluster: bool) -> NewSchedule:
    """The schedule that is asked for.

    Raises:
        BadInput: All that is wrong, at once.
    """
    reader = OptionReader()
    cron = reader.read("CRON", options.cron, read_cron, "")
    zone = reader.read("--timezone", options.timezone, read_zone, "UTC")
    into = reader.read("--into", options.into, choice_of(Into), Into.SAME)
    overlap = reader.read("--overlap", options.overlap, choice_of(OverlapPolicy), OverlapPolicy.SKIP)
    catch_up = reader.read("--catch-up", options.catch_up, choice_of(CatchUp), CatchUp.LAST)
    jitter = reader.read("--jitter", options.jitter or None, read_duration, 0.0)
    keep = reader.read("--keep", options.keep or None, read_duration, None)
    budget = reader.read("--budget", options.budget, read_money, None)
    monthly = reader.read("--monthly-budget", options.monthly_budget, read_money, None)
    reader.problems += _misplaced(options, into, keep)
    if budget is None and monthly is None:
        reader.problems.append(
            "a schedule spends while nobody looks: say how much with --budget USD (one time) or --monthly-budget USD."
        )
    asked = replace(_asked(options), changed=options.changed or ("redo" if into is Into.SAME else "error"))
    reader.problems += _manifest_problems(asked.manifest, on_a_cluster=on_a_cluster)
    if into is Into.NEW and not (options.reuse or options.buy_again):
        reader.problems.append("--into new would pay for every row each time: add --reuse, or --buy-again if meant so.")
    try:
        read_limits(replace(asked, partial=False), attended=False)
    except BadInput as wrong:
        reader.problems += wrong.problems
    if reader.problems:
        raise BadInput(reader.problems)
    return NewSchedule(
        name=options.name,
        cron=cron,
        timezone=zone,
        options=asked.to_json(),
        into=into,
        overlap=overlap,
        catch_up=catch_up,
        jitter=jitter,
        budget=budget,
        monthly_budget=monthly,
        keep=keep,
    )


def _asked(options: ScheduleOptions) -> BatchOptions:
    manifest = options.manifest
    if "://" not in manifest and manifest != "-":
        manifest = str(Path(manifest).expanduser().absolute())
    # Whoever works by the clock may have been started in another folder.
    return replace(options.asked, manifest=manifest, to=normal_dest(options.to), budget=None)


def _misplaced(options: ScheduleOptions, into: Into, keep: float | None) -> Iterator[str]:
    plain = RunOptions(manifest="")
    for name, why in _NOT_BY_THE_CLOCK.items():
        if getattr(options, name) != getattr(plain, name):
            yield f"--{name.replace('_', '-')} is not for a schedule: {why}."
    if into is Into.SAME and options.changed not in ("", "keep", "redo"):
        yield "--changed: expected keep or redo: nobody is there to decide."
    if options.keep and into is Into.SAME:
        yield "--keep is for --into new: the one batch of --into same is never pruned."
    if keep is not None and keep < LEAST_KEPT:
        yield f"--keep {options.keep}: {TOO_YOUNG}"


def _manifest_problems(manifest: str, *, on_a_cluster: bool) -> Iterator[str]:
    if manifest == "-":
        yield "a schedule reads its manifest each time, and standard input is there once: name a file or an address."
    elif on_a_cluster and "://" not in manifest:
        yield (
            f"{manifest} is on this machine, and a cluster's workers may be elsewhere: put the manifest on s3:// or "
            "https://."
        )


# -- what it would make --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def next_plan(settings: Settings, ledger: Ledger | None, schedule: NewSchedule, left: Left) -> Iterator[Preflight]:
    """What its next time would make if it came now.

    Raises:
        BadInput: It would make nothing, and why.
    """
    options = options_of(schedule, time.time())
    with planned(options, settings, left, known=ledger) as preflight:
        demand(preflight, schedule, left)
        yield preflight


def would_make(preflight: Preflight, schedule: NewSchedule, left: Left) -> tuple[str, str]:
    """What it would make if it came now, with what is left to it; and the line's style."""
    try:
        demand(preflight, schedule, left)
    except BadInput as wrong:
        return would_fail(wrong), "red"
    seen = preflight.seen
    rows = {"new": seen.new, "changed": seen.changed, "reused": seen.reused, "gone": seen.again.absent}
    told = [", ".join(f"{number:,} {word}" for word, number in rows.items() if number)]
    told += [held_words(seen.margin)] if seen.margin else []
    why = "; ".join(filter(None, told))
    cost = f"{count(seen.images, 'image')} for {money(seen.needed)}{f' ({why})' if why else ''}"
    return f"{'now':12}it would make {_most(preflight, left)}{cost}", ""


def would_fail(wrong: LightfastError) -> str:
    """The same where it would make nothing."""
    return f"{'now':12}it would fail: {one_line(str(wrong))}"


def _most(preflight: Preflight, left: Left) -> str:
    """How many of the images a time with --partial may buy, where these are not all."""
    seen, budget = preflight.seen, preflight.limits.budget or 0
    if seen.needed <= left.money:
        return ""
    images = seen.affordable(budget, preflight.batch)
    return f"{f'{seen.roughly} {images:,}' if images else 'none'} of these, as it may spend {left.why}: "


# -- consent -------------------------------------------------------------------------------------------------------


def may_spend(schedule: NewSchedule) -> str:
    """What it may spend, as a sentence's end."""
    amounts = ((schedule.budget, "at each time"), (schedule.monthly_budget, "in a month"))
    return " and ".join(f"at most {money(amount)} {when}" for amount, when in amounts if amount is not None)


def may_cost_more(before: Schedule, after: NewSchedule) -> bool:
    """Whether a time may spend more after an edit, or makes other things: what that would be is to be looked at."""
    rises = any(
        old is not None and (new is None or new > old)
        for old, new in ((before.budget, after.budget), (before.monthly_budget, after.monthly_budget))
    )
    asked = [{**one.options, "notify": None} for one in (before, after)]
    return rises or before.into != after.into or asked[0] != asked[1]


def asks_for_more(before: Schedule, after: NewSchedule) -> bool:
    """Whether an edit needs consent: its times may cost more, or come more often."""
    other_times = (before.cron, before.timezone) != (after.cron, after.timezone)
    return other_times or may_cost_more(before, after)


# -- editing -------------------------------------------------------------------------------------------------------


def merged(before: Schedule, edit: EditOptions) -> ScheduleOptions:
    """The schedule's options, with those that are said in their place, and without those that are taken back.

    Raises:
        BadInput: There is no such option to take back.
    """
    of_schedule = {each.name for each in fields(ScheduleOptions)}
    unset = {name.removeprefix("--").replace("-", "_") for name in edit.unset or ()}
    if wrong := sorted(unset - of_schedule | unset & {"name", "cron", "manifest"}):
        raise BadInput(f"--unset {wrong[0]}: there is no such option that could be left out.")
    kept = BatchOptions.from_json(before.options)
    mine = {
        **{each.name: getattr(kept, each.name) for each in fields(BatchOptions)},
        "map": list(kept.map) or None,
        "vary": list(kept.vary) or None,
        "notify": list(kept.notify) or None,
        "batch": "",
        "name": before.name,
        "cron": before.cron,
        "timezone": before.timezone,
        "into": before.into.value,
        "overlap": before.overlap.value,
        "catch_up": before.catch_up.value,
        "jitter": f"{before.jitter:f}s" if before.jitter else "",
        "keep": f"{before.keep:f}s" if before.keep is not None else "",
        "budget": None if before.budget is None else dollars(before.budget),
        "monthly_budget": None if before.monthly_budget is None else dollars(before.monthly_budget),
    }
    said = {name: getattr(edit, name) for name in of_schedule if name in edit.given or name not in mine}
    return ScheduleOptions(**{**{name: value for name, value in mine.items() if name not in unset}, **said})
