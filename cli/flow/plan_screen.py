"""The plan as a page: what would be made, at what price, when it is ready, and what stands in its way."""

from __future__ import annotations

import math
import re
import shutil
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cli.flow import overlap_screen
from cli.flow.environment import ledger_line
from cli.output import wording
from cli.output.retries import held, helps
from jobs import formatting
from jobs.command_lines import command
from jobs.planning.survey import RouteGroup, RouteLine, Survey
from jobs.planning.variations import made_of
from jobs.results import sentences
from jobs.results.account_words import is_paused, state_of
from jobs.states import BatchState, JobState
from worker.registration.plan_document import plan_document
from worker.runtime.limits import budget_of

if TYPE_CHECKING:
    from worker.registration.preflight import Preflight
    from worker.storage.base import Probed

Line = tuple[str, str]  # text, style

#: Causes of bad rows shown without --all, and the characters of each.
FEW, _LONG = 10, 240
#: Routes that have a line each; more are grouped by model.
MANY = 12
_WIDTH = 13


def page(
    preflight: Preflight, probed: Probed | None, *, everything: bool, of_time: int | None = None
) -> Iterator[Line]:
    """Every line of the plan, with its style. `everything`: long lists whole.

    `of_time`: what a time of a schedule may spend, in micro-dollars: its batch's budget counts the times before, too.
    """
    yield from _head(preflight, probed)
    yield from ((f"{'hint':{_WIDTH}}  {hint}", "bold yellow") for hint in preflight.seen.hints)
    yield from (_sample(preflight.seen) if not preflight.is_cancelled else ())
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if not preflight.is_cancelled:  # nothing of it is bought
        yield from _routes(preflight.seen, width, everything=everything, sandbox=preflight.settings.is_sandbox)
        yield from _resting(preflight)
        yield from _total(preflight, of_time)
    yield from _bad(preflight.seen, everything=everything)
    yield from before_money(preflight)


def before_money(preflight: Preflight) -> Iterator[Line]:
    """What may not be meant so, even for who wants to see nothing else."""
    for at, cause in enumerate(preflight.seen.doubts[:FEW]):
        yield (
            f"{'' if at else 'look at':{_WIDTH}}  {_cut(str(cause.first))}{cause.more}",
            "bold yellow",
        )
    if lowered := _lower_budget(preflight):
        yield f"{'budget':{_WIDTH}}  {lowered}", "bold yellow"
    if preflight.beside and not preflight.beside.stops:
        yield f"warning: {preflight.beside.told(preflight.name, preflight.settings)}", "bold yellow"
    if not preflight.is_cancelled:
        yield from overlap_screen.lines(preflight)


def _head(preflight: Preflight, probed: Probed | None) -> Iterator[Line]:
    seen = preflight.seen
    yield f"{seen.manifest:{_WIDTH}}  {_rows(preflight)}      {preflight.manifest.looks}", ""
    if seen.variations:
        yield f"{'':{_WIDTH}}  of {made_of(seen.variations, preflight.intake.variations.options)}", ""
    yield from ((f"{'':{_WIDTH}}  {told}", "yellow") for told in _helps(preflight))
    new = " (new)" if preflight.batch is None else ""
    bucket = f"      bucket: {probed.words}" if probed else ""
    yield f"{'batch':{_WIDTH}}  {preflight.name}{new} -> {_example_path(preflight)}{bucket}", ""
    if preflight.is_cancelled:
        yield f"{'':{_WIDTH}}  it is cancelled for good: nothing new is paid", "yellow"
    if preflight.batch and preflight.batch.state is BatchState.PAUSED:
        why = preflight.batch.reason or "on your word"
        resume = command("resume", preflight.name, sandbox=preflight.batch.sandbox)
        yield f"{'':{_WIDTH}}  it is paused ({why}), and nothing new is paid until:  {resume}", "yellow"
    yield f"{'ledger':{_WIDTH}}  {ledger_line(preflight.settings)}", ""
    if seen.files:
        brought = "their files are copied to DEST/.lightfast/references/ before anything is paid"
        yield f"{'references':{_WIDTH}}  {formatting.count(seen.files, 'row')} made from local files; {brought}", ""


def _rows(preflight: Preflight) -> str:
    seen, column = preflight.seen, preflight.options.skip_empty
    parts = [f"{seen.new:,} new", f"{seen.changed:,} changed", f"{seen.done:,} done"]
    parts += [f"{seen.open:,} going on"] if seen.open else []
    parts += [f"{seen.ended:,} ended {'badly' if any(_helps(preflight)) else 'without images'}"] if seen.ended else []
    parts += [f"{seen.skipped:,} skipped ({column} empty)"] if seen.skipped else []
    empty = f"; {formatting.count(seen.empty, 'empty row')} left out" if seen.empty else ""
    return f"{formatting.count(seen.rows, 'row')}: {', '.join([*parts, f'{seen.bad:,} bad'])}{empty}"


def _helps(preflight: Preflight) -> Iterator[str]:
    """What helps rows that ended without all of their images, and rows that are held."""
    if preflight.ledger is None or preflight.batch is None:
        return
    progress, sandbox = preflight.ledger.reports.progress(preflight.name), preflight.settings.is_sandbox
    yield from helps(preflight.name, progress.errors, sandbox=sandbox)
    yield from filter(None, [held(preflight.name, progress.jobs.get(JobState.HELD, 0), sandbox=sandbox)])


def _example_path(preflight: Preflight) -> str:
    path = preflight.path.replace("{batch}", preflight.name).replace("{key}", "KEY")
    path = path.replace("{index}", "0").replace("{ext}", "png")
    return f"{preflight.dest}/{path}" if preflight.dest else f"DEST/{path}"


def _sample(seen: Survey) -> Iterator[Line]:
    if seen.good and not seen.samples:
        going = f"; {formatting.count(seen.open, 'row')} recorded before go on" if seen.open else ""
        why = "nothing is paid for" if seen.again.reused else "no row is new or changed"
        why = "changed rows are left as they are (--changed keep)" if seen.changed else why
        yield f"  nothing new to make: {why}{going}", "dim"
    width = max((len(sample.key) for sample in seen.samples), default=0)
    for sample in seen.samples:
        where = f"{seen.unit} {sample.line:,}"
        yield f'  {where:{_WIDTH - 2}}  {sample.key:{width}}  "{formatting.shorten(sample.prompt, 100)}"', "dim"


#: What the star at a price says, without and with the stand-in.
YOURS = (
    "no list price: the price your settings give, [accounts.NAME.prices]",
    "no list price: a price made up for the sandbox; give yours under [accounts.NAME.prices]",
)
_HEADINGS = ("ROUTE", "", "IMAGES", "PIXELS", "EACH", "USD", "TIME", "BOUND BY")


def _routes(seen: Survey, width: int | None, *, everything: bool, sandbox: bool) -> Iterator[Line]:
    """A line a route; where there are many, a line a model at a provider, unless all are asked for."""
    if not seen.routes:
        return
    is_long = len(seen.routes) > MANY and not everything
    groups = seen.groups if is_long else [_alone(line) for line in seen.routes]
    amounts = formatting.money_column([_sum(group) for group in groups])
    head, *rest = _fitting([_HEADINGS, *map(_row, groups, amounts)], width)
    yield head, "bold"
    yield from ((line, "") for line in rest)
    if any(line.price_is_yours for line in seen.routes):
        yield f"  * {YOURS[sandbox]}", "dim"
    assumed = list(dict.fromkeys(line.assumed for line in seen.routes if line.assumed))
    for each in assumed[:1] if is_long else assumed:
        yield f"  ~ billed by tokens; estimated: {each}{', and so on' if is_long and len(assumed) > 1 else ''}", "dim"
    if is_long:
        yield f"  {len(seen.routes):,} routes, in {formatting.count(len(groups), 'line')}; --all shows each", "dim"


def _alone(line: RouteLine) -> RouteGroup:
    return RouteGroup(lines=(line,), seconds=line.seconds, bound_by=line.bound_by, may_be_less=line.may_be_less)


def _sum(group: RouteGroup) -> int | None:
    """Its money; None where no price is known."""
    known = [line.money for line in group.lines if line.money is not None]
    return sum(known) if known else None


def _resting(preflight: Preflight) -> Iterator[Line]:
    """Accounts that take no submits now: until then the times are not true."""
    now = time.time()
    providers = {line.provider for line in preflight.seen.routes}
    for account in preflight.ledger.accounts.all() if preflight.ledger else ():
        if account.provider in providers and is_paused(account, now):
            yield f"  account {account.name} ({account.provider}) is {state_of(account, now)}", "yellow"


def _fitting(rows: list[tuple[str, ...]], width: int | None) -> list[str]:
    """The table; without its last column where that would not fit."""
    lines = ["  " + line for line in wording.aligned(rows, right=frozenset({2, 4, 5}))]
    if width is None or max(map(len, lines)) <= width:
        return lines
    return ["  " + line for line in wording.aligned([row[:-1] for row in rows], right=frozenset({2, 4, 5}))]


def _row(group: RouteGroup, usd: str) -> tuple[str, ...]:
    first, *more = group.lines
    shapes = f"{len(group.lines):,} shapes"
    took = formatting.duration(group.seconds)
    return (
        first.provider,
        " ".join(filter(None, [first.model, first.mode if first.assumed else None])) if more else first.label,
        f"{sum(line.images for line in group.lines):,}",
        shapes if more else f"{first.pixels[0]}x{first.pixels[1]}" if first.pixels else "not known",
        ("~" if first.assumed else "") + _each(group) + ("*" if first.price_is_yours else ""),
        usd,
        f"up to {took}" if group.may_be_less else took,
        group.bound_by,
    )


def _each(group: RouteGroup) -> str:
    """0.0400, or 0.0200-0.0600."""
    prices = sorted({line.price for line in group.lines if line.price is not None})
    ends = dict.fromkeys([*prices[:1], *prices[-1:]]) if prices else [None]
    return "-".join(map(formatting.unit_price, ends))


def _total(preflight: Preflight, of_time: int | None = None) -> Iterator[Line]:
    seen, budget = preflight.seen, preflight.limits.budget if of_time is None else of_time
    money = formatting.money(seen.money)
    unpriced = f" and {formatting.count(seen.unpriced, 'image')} at a price not known" if seen.unpriced else ""
    of = f" of budget {formatting.money(budget)}" if budget is not None else ""
    of += (left := _left_by(preflight))
    at = time.time() + seen.seconds
    when = f"{formatting.weekday_and_minute(at)}{formatting.here(at)}"
    sooner = " or sooner" if seen.may_be_less else ""
    is_known = seen.images and not (left or _days(preflight))
    ready = f", ready about {when}{sooner} if started now" if is_known else ""
    by_tokens = any(line.assumed for line in seen.routes)
    most = f" (set aside: {formatting.money(seen.aside)} at most; the bill is usually less)" if by_tokens else ""
    yield f"{'total':{_WIDTH}}  {formatting.count(seen.images, 'image')}, {money}{most}{unpriced}{of}{ready}", "bold"
    daily = budget_of(preflight.settings.daily_budget)
    if daily == 0 and seen.money:
        yield f"{'':{_WIDTH}}  daily_budget $0.00: nothing may be spent, these images wait until it is raised", "red"
    if days := _days(preflight):
        spread = f"spreads it over {formatting.count(days, 'UTC day')} or more"
        yield f"{'':{_WIDTH}}  daily_budget {formatting.money(daily or 0)} {spread}", ""
    if seen.may_be_less:
        yield f"{'':{_WIDTH}}  sooner where limits that nobody declared grow: they do while nothing is refused", "dim"


def _left_by(preflight: Preflight) -> str:
    """How many of the images the budget leaves, where these are not all."""
    budget = preflight.limits.budget
    if budget is None and preflight.batch:
        budget = preflight.batch.budget
    if budget is None or not preflight.seen.images or preflight.seen.unpriced:
        return ""
    images = preflight.seen.affordable(budget, preflight.batch)
    if images == preflight.seen.images:
        return ""
    return f", which leaves {f'{preflight.seen.roughly} ' if images else ''}{images:,} of them"


def _lower_budget(preflight: Preflight) -> str:
    """That the command takes back what the batch was given since, by `resume --budget` for one; empty: it does not."""
    given, on_record = preflight.limits.budget, preflight.batch.budget if preflight.batch else None
    if given is None or on_record is None or given >= on_record:
        return ""
    said, before = formatting.money(given), formatting.money(on_record)
    return (
        f"--budget {said} takes the place of {before}, which this batch may spend so far; without --budget it stays "
        f"at {before}"
    )


def _days(preflight: Preflight) -> int:
    """UTC days over which a daily budget spreads the money; 0: it does not."""
    daily = budget_of(preflight.settings.daily_budget)
    return math.ceil(preflight.seen.money / daily) if daily and preflight.seen.money > daily else 0


def _bad(seen: Survey, *, everything: bool) -> Iterator[Line]:
    """What is wrong, each cause once with its rows; with --all each row."""
    rows = list(dict.fromkeys(str(problem) for problem in seen.problems))
    causes = [f"{_cut(str(cause.first))}{cause.more}" for cause in seen.causes]
    told = rows if everything else causes[:FEW]
    for at, text in enumerate(told):
        label = f"bad ({seen.bad:,})" if at == 0 else ""
        yield f"{label:{_WIDTH}}  {text}", "red"
    named = len(causes) if not everything else 0 if seen.problems and seen.problems[0].is_option else seen.bad
    if len(told) < named:
        yield f"{'':{_WIDTH}}  … {seen.bad:,} in all{'' if everything else ' (--all shows up to 100)'}", "red"


def _cut(problem: str) -> str:
    """One line that is not too long, with the option or the command that helps, if it names one."""
    remedy = re.search(r"--[a-z]|`| {2}", problem[_LONG:])
    return sentences.one_line(problem) if remedy else formatting.shorten(problem, _LONG)


def document(preflight: Preflight, probed: Probed | None) -> dict[str, object]:
    """The plan for programs, and what only a person at this machine needs."""
    told = plan_document(preflight)
    told["again"]["instead"] = [way.command for way in overlap_screen.ways(preflight)]
    return {
        "command": "plan",
        **told,
        "bucket_probed": probed is not None,
        "ledger": ledger_line(preflight.settings).removesuffix(" (new)"),
        "ledger_is_new": preflight.ledger is None,
    }
