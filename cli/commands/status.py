"""`lightfast status`: where a batch stands, in rows, images, money and time; without a name, all batches in a table."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from cli.commands.money import show_money
from cli.flow.options import Config, Json, Sandbox
from cli.flow.session import LedgerSession, find_batch, open_session, show, show_json
from cli.output.retries import helps
from cli.output.terminal import width_of
from cli.output.wording import aligned, narrowed
from jobs.command_lines import command
from jobs.formatting import count, day_and_minute, day_and_time, duration, here, listed, money, money_column, size
from jobs.policy.copy_headroom import Backlog, least_slack, pace
from jobs.policy.firing import LEFT_TO_THE_NEXT
from jobs.results import copy_stops, emergency_stop
from jobs.results.account_words import day_line, state_of
from jobs.results.at_work import is_worked_on, nobody_works
from jobs.results.budgets import goes_on_with_it, of_budget_words, raise_budget, raise_month
from jobs.results.completion import Reason, RunState, goes_on_by_itself, rows_for_you, waits_for, waits_for_you
from jobs.results.documents import BatchFigures, progress_document, read_figures, risk_document, stop_document
from jobs.results.progress import (
    counted_by,
    images_on_their_way,
    images_per_second,
    images_to_come,
    is_paused,
    rows_going_on,
    seconds_left,
    spent,
    state_of_batch,
)
from jobs.results.reasons import why
from jobs.results.sentences import (
    day_budget_line,
    one_line,
    out_of_manifest,
    row_words,
    trouble_line,
    unwritable_line,
)
from jobs.results.stuck import stuck_lines
from jobs.states import NEEDS_A_PERSON, BatchState, JobState

if TYPE_CHECKING:
    from jobs.ledger.reports.values import Progress

Name = Annotated[str | None, typer.Argument(metavar="BATCH", help="One batch; all if not given.", show_default=False)]
Money = Annotated[bool, typer.Option("--money", help="Where each cent is, with the sums.")]
Line = tuple[str, str]

#: The order in which people ask about rows.
ORDER = (*(s for s in JobState if s is not JobState.READY), JobState.READY)


def status(
    batch: Name = None, *, money: Money = False, json: Json = False, config: Config = None, sandbox: Sandbox = False
) -> int:
    """Counts, money, pace and time left of one batch or all."""
    with open_session(config, sandbox=sandbox) as session:
        now = time.time() + session.ledger.clock_offset()
        if batch is not None:
            find_batch(session.ledger, batch)
        if money:
            show_money(session, batch, json=json, sandbox=session.settings.is_sandbox)
        elif batch is None:
            _all(session, now, json=json, sandbox=session.settings.is_sandbox)
        else:
            _one(session, batch, now, json=json)
    return 0


# -- all batches ---------------------------------------------------------------------------------------------------


def _all(session: LedgerSession, now: float, *, json: bool, sandbox: bool) -> None:
    names = [batch.name for batch in session.ledger.batches.all()]
    risk, stop = session.ledger.reports.at_risk(), session.ledger.emergency_stop.current()
    if json:
        batches = [progress_document(_figures(session, name, now)) for name in names]
        stopped = stop and stop_document(stop)
        show_json({"command": "status", "batches": batches, "at_risk": risk_document(risk), "stopped": stopped})
    else:
        held = [(emergency_stop.told(stop, sandbox=sandbox), "red")] if stop else []
        accounts = session.ledger.accounts.all()
        standing = [
            RunState(progress=session.ledger.reports.progress(name, now), accounts=accounts, now=now) for name in names
        ]
        show([*held, *_table(standing, risk)], sandbox=sandbox)


def _figures(session: LedgerSession, name: str, now: float) -> BatchFigures:
    progress = replace(session.ledger.reports.progress(name, now), unwritable=session.ledger.unwritable())
    return read_figures(session.ledger, progress, now)


#: Columns of the table of batches, and those that go first where the terminal is too narrow for all.
_HEAD = ("BATCH", "STATE", "ROWS", "DONE", "LEFT", "NEED YOU", "STORED", "SPENT", "STARTED")
_LESS = ("STARTED", "STORED", "LEFT")


def _table(standing: list[RunState], risk: tuple[int, int]) -> list[Line]:
    if not standing:
        return [("No batch yet.", "")]
    charged = money_column([each.progress.batch.charged for each in standing])
    rows = [_row(each, f"${usd}") for each, usd in zip(standing, charged, strict=True)]
    numbers = frozenset(range(2, 8))
    first, *lines = narrowed([_HEAD, *rows], width_of(sys.stdout), less=map(_HEAD.index, _LESS), right=numbers)
    styles = map(_style, standing)
    told = [(first, "bold"), *zip(lines, styles, strict=True), *_in_columns(_risk_lines(risk))]
    return [*told, *(line for each in standing for line in _needs(each))]


def _needs(standing: RunState) -> Iterator[Line]:
    """Why rows of a batch wait for a person, or for the next time of their schedule."""
    for_you, reason = waits_for_you(standing), waits_for(standing)
    by_budget = reason if reason in (Reason.BUDGET_USED, Reason.MONTH_BUDGET_USED) else None
    if held_up_by := for_you or by_budget:
        waiting = standing.progress.jobs.get(JobState.READY, 0)
        rows = f"{count(waiting, 'row')} wait{'s' if waiting == 1 else ''}"
        told = why(held_up_by, standing)
        yield f"{standing.progress.batch.name}: {rows}: {told}", "yellow" if for_you else ""


def _row(standing: RunState, charged: str) -> tuple[str, ...]:
    progress = standing.progress
    batch = progress.batch
    charged = charged if batch.charged else spent(progress)
    numbers = (
        sum(progress.jobs.values()),
        progress.jobs.get(JobState.DONE, 0),
        rows_going_on(progress),
        rows_for_you(standing),
    )
    stored = f"{progress.images_stored:,}/{progress.images_total:,}"
    told = (*(f"{number:,}" for number in numbers), stored, charged, day_and_minute(batch.created_at))
    return (batch.name, state_of_batch(progress), *told)


def _style(standing: RunState) -> str:
    if rows_for_you(standing):
        return "yellow"
    return "" if rows_going_on(standing.progress) else "green"


# -- one batch -----------------------------------------------------------------------------------------------------


def _one(session: LedgerSession, name: str, now: float, *, json: bool) -> None:
    figures = _figures(session, name, now)
    progress = figures.progress
    if json:
        show_json({"command": "status", **progress_document(figures)})
        return
    told = [
        *_told(progress, now),
        *(_pace(figures) if is_worked_on(session.ledger, now) else _nobody(session, progress)),
        *((f"money\t{day_line(limit)}", "") for limit in figures.daily_budgets),
        *_slack(figures.backlog, now),
        *_risk_lines(figures.at_risk),
        *(_at_work(session, figures) if rows_going_on(progress) else ()),
        *_next(figures),
    ]
    show(_in_columns(told), sandbox=progress.batch.sandbox)


def _at_work(session: LedgerSession, figures: BatchFigures) -> Iterator[Line]:
    """Each account that sends: its use of its limits, and this batch's share of it."""
    uses, mine = (
        session.ledger.accounts.usage(figures.now),
        session.ledger.reports.in_flight(figures.progress.batch.name),
    )
    for account in figures.accounts:
        if (use := uses[account.name]).sent or account.in_flight:
            rate = f"{count(use.sent, 'submit')} in the last minute of {60 * account.submits_per_second:,.0f}"
            flying = f"{account.in_flight:,} in flight of {account.max_in_flight:,}"
            late = "" if account.mean_lateness is None else f", found {account.mean_lateness:.1f} s after their ends"
            yield f"account\t{account.name}: {mine.get(account.name, 0):,} in flight of this batch", ""
            yield f"\twith all batches: {rate}, {flying}, {count(account.throttled, 'answer')} of 429{late}", ""


def _in_columns(told: list[Line]) -> list[Line]:
    """Lines whose label ends with a tab, the labels in one column."""
    lines = aligned([tuple(text.split("\t", 1)) for text, _ in told])
    return [(line, style) for line, (_, style) in zip(lines, told, strict=True)]


def _told(progress: Progress, now: float) -> Iterator[Line]:
    batch = progress.batch
    yield f"batch\t{batch.name}, {state_of_batch(progress)}: {batch.source} -> {batch.dest}", "bold"
    if batch.archive:
        yield f"archived\t{day_and_minute(batch.archived_at or 0.0)}, at {batch.archive}", ""
    if batch.reason and is_paused(progress):
        yield f"paused\t{batch.reason}", "yellow"
    if batch.state is BatchState.CANCELLED and batch.reason == LEFT_TO_THE_NEXT:
        yield f"left out\t{batch.reason}{goes_on_with_it(progress)}", ""
    if progress.unwritable:
        yield f"ledger\t{unwritable_line(progress.unwritable)}", "red"
    if progress.stop:
        yield f"stopped\t{emergency_stop.told(progress.stop, sandbox=batch.sandbox)}", "red"
    out = f"; {out_of_manifest(progress)}" if progress.rows_out else ""
    words = {state: f"{number:,} {said}" for state, number, said in row_words(progress)}
    states = ", ".join(words[state] for state in ORDER if state in words)
    yield f"rows\t{sum(progress.jobs.values()):,}: {states}{out}", ""
    yield f"images\t{_images(progress)}", ""
    if progress.errors:
        yield f"errors\t{listed(progress.errors)}", "red"
    yield f"money\t{_money(progress)}", ""
    yield from _month(progress)
    yield from _link(progress, now)
    yield from _copies(progress)
    for trouble in progress.troubles:
        yield f"waits\tsubmits wait, and go on by themselves: {trouble_line(trouble)}", "red"
    for failing in progress.failing:
        told = copy_stops.lines(failing, sandbox=batch.sandbox, own=batch.name)
        yield from ((f"waits\t{line}", "red") for line in told)


def _images(progress: Progress) -> str:
    parts = {
        "being copied": progress.images_generated,
        "paid and not stored without you": progress.images_stuck,
        "being made": progress.images_in_flight,
        "unknown": progress.images_unknown,
        "lost": progress.images_lost,
        "stored beside them (replaced or surplus)": progress.images_aside,
        "with other pixels than asked for": progress.wrong_pixels,
    }
    stored = f"{progress.images_stored:,} of {progress.images_total:,} stored, {size(progress.bytes_stored)}"
    return ", ".join([stored, *(f"{number:,} {words}" for words, number in parts.items() if number)])


def _month(progress: Progress) -> Iterator[Line]:
    """Of a schedule's batch, what its month has cost: the batch's own budget is what its times may add."""
    if progress.schedule is not None and (month := progress.schedule.month) is not None:
        yield f"month\t{money(month.spent)} of {money(month.budget)} of schedule {progress.schedule.name}, UTC", ""


def _money(progress: Progress) -> str:
    paid = f"{spent(progress)} spent{of_budget_words(progress)}"
    parts = {
        "reserved in flight": progress.in_flight_money,
        "for the rest at most": progress.remaining_money,
        "unknown at most": progress.unknown_money,
        "paid and not stored without you": progress.stuck_money,
        "lost": progress.lost_money,
    }
    return ", ".join(
        [f"{paid} ({counted_by(progress)})", *(f"{money(micros)} {words}" for words, micros in parts.items() if micros)]
    )


def _link(progress: Progress, now: float) -> Iterator[Line]:
    dies = progress.least_expiry
    if dies is not None:
        left = (
            f"the first dies {day_and_time(dies)}{here(dies)}, in {duration(dies - now)}"
            if dies > now
            else "the first is dead"
        )
        yield f"links\t{count(progress.images_generated, 'image')} to copy; {left}", "red" if dies - now < 3600 else ""  # noqa: PLR2004  an hour


def _copies(progress: Progress) -> Iterator[Line]:
    if errors := progress.copy_errors:
        number = sum(errors.values())
        images = f"{count(number, 'image')} {'is' if number == 1 else 'are'} not copied yet"
        yield f"copies\t{images}: {listed(errors)} at the last try; they are tried on", "yellow"
        words = progress.copy_words.get(max(errors, key=errors.__getitem__), "")
        yield f"copies\tone was told: {one_line(words)}", ""
        end = command("give-up", progress.batch.name, "--key", "KEY", sandbox=progress.batch.sandbox)
        yield f"copies\tif one cannot be had:  {end}", ""


def _slack(backlog: Backlog | None, now: float) -> Iterator[Line]:
    a_second = pace(backlog, 0.0) if backlog else None
    if backlog is None or a_second is None:
        return
    spare = least_slack(backlog, a_second, now)
    if spare is not None:
        said = f"{duration(spare)} to spare" if spare > 0 else "no time left: it would die before its copy"
        links = f"{count(backlog.waiting, 'link')} to this destination"
        colour = "" if spare > 0 else "red"
        yield (
            f"slack\tat {a_second:.3g} copies a second the tightest of {links} has {said}",
            colour,
        )


def _nobody(session: LedgerSession, progress: Progress) -> Iterator[Line]:
    """Says that nobody works. A pace and a time left would make people wait for nothing."""
    if rows_going_on(progress):
        batch, ledger = progress.batch, session.ledger
        # Who made rows anew does not think of the run that began the batch.
        is_redone = ledger.is_sqlite and batch.state is BatchState.ACTIVE and ledger.reports.has_redone(batch.name)
        again = f"; so does  {command('retry', batch.name, sandbox=batch.sandbox)}" if is_redone else ""
        yield f"pace\t{nobody_works(ledger, progress)}{again}", "yellow"


def _pace(figures: BatchFigures) -> Iterator[Line]:
    progress, now = figures.progress, figures.now
    a_second = images_per_second(progress, now) if images_to_come(progress) else None
    if a_second:
        left = seconds_left(progress, figures.accounts, now)
        told = f", about {duration(left)} left" if left is not None else f"; {_none_left(progress)}"
        yield f"pace\t{a_second * 60:,.0f} images a minute{told}", ""
    elif rows_going_on(progress) and progress.next_at is not None and progress.next_at > now:
        yield f"next\tthe earliest waiting row goes again in {duration(progress.next_at - now)}", ""


def _none_left(progress: Progress) -> str:
    """Why no time is told."""
    coming = images_on_their_way(progress)
    return f"{count(coming, 'image')} on the way, how long is not known" if coming else "nothing is on its way now"


def _risk_lines(risk: tuple[int, int]) -> list[Line]:
    images, micros = risk
    return [(f"at risk\tif everything died now: {count(images, 'image')}, {money(micros)}", "")] if images else []


def _budget_used(standing: RunState) -> Iterator[Line]:
    """Which budget holds its rows up, and the commands that raise it."""
    progress, reason = standing.progress, waits_for(standing)
    if progress.batch.state is BatchState.CANCELLED or reason not in (Reason.BUDGET_USED, Reason.MONTH_BUDGET_USED):
        return
    yield f"waits\t{why(reason, standing)}", "" if goes_on_by_itself(progress, reason) else "yellow"
    helps_it = raise_month(progress) if reason is Reason.MONTH_BUDGET_USED else [raise_budget(progress)]
    yield from ((f"{'' if at else 'raise it'}\t{told}", "") for at, told in enumerate(helps_it))


def _next(figures: BatchFigures) -> Iterator[Line]:
    progress = figures.progress
    name, sandbox = progress.batch.name, progress.batch.sandbox
    for limit in progress.day_limits:
        yield f"waits\t{day_budget_line(limit)}", "yellow"
    yield from _budget_used(figures.standing)
    for account in figures.paused:
        yield f"account\t{account.name} ({account.provider}) is {state_of(account, figures.now)}", "yellow"
    if is_paused(progress):
        yield f"next\t{command('resume', name, sandbox=sandbox)}", ""
    yield from ((f"stuck\t{told}", "red") for told in stuck_lines(progress))
    if progress.images_unknown:
        yield f"next\t{command('unknown', name, sandbox=sandbox)}", ""
    if progress.batch.state is BatchState.CANCELLED:
        return
    if bad := [state.value for state in NEEDS_A_PERSON if progress.jobs.get(state)]:
        yield f"look\t{command('results', name, '--only', ','.join(bad), sandbox=sandbox)}", ""
    yield from ((f"next\t{told}", "") for told in helps(name, progress.errors, sandbox=sandbox))
