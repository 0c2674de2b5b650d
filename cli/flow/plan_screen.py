"""The plan as a page: what would be made, at what price, when it is ready, and what stands in its way."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cli.flow import overlap_screen
from cli.flow.environment import ledger_line
from cli.output import emergency_stop, wording
from cli.output.accounts import is_paused, state_of
from cli.output.commands import command
from cli.output.retries import moderated, retried
from jobs.planning.survey import RouteLine, Survey
from worker.runtime.limits import budget_of

if TYPE_CHECKING:
    from cli.flow.preflight import Preflight

Line = tuple[str, str]  # text, style

#: Bad rows shown without --all.
FEW = 10
_WIDTH = 13


def page(taking: Preflight, *, probed: bool) -> Iterator[Line]:
    """Every line of the plan, with its style."""
    yield from _head(taking, probed=probed)
    yield from ((f"{'hint':{_WIDTH}}  {hint}", "bold yellow") for hint in taking.seen.hints)
    yield from (_sample(taking.seen))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    yield from _routes(taking.seen, width, sandbox=taking.settings.is_sandbox)
    yield from _resting(taking)
    yield from _total(taking)
    yield from _bad(taking.seen, everything=taking.making.all)
    yield from overlap_screen.lines(taking)


def _head(taking: Preflight, *, probed: bool) -> Iterator[Line]:
    seen = taking.seen
    yield f"{seen.manifest:{_WIDTH}}  {_rows(taking)}      {taking.manifest.looks}", ""
    new = " (new)" if taking.batch is None else ""
    bucket = "      bucket: written, read, deleted" if probed else ""
    yield f"{'batch':{_WIDTH}}  {taking.name}{new} -> {_example_path(taking)}{bucket}", ""
    yield f"{'ledger':{_WIDTH}}  {ledger_line(taking.settings)}", ""
    if seen.files:
        brought = "their files are copied to DEST/.lightfast/references/ before anything is paid"
        yield f"{'references':{_WIDTH}}  {wording.count(seen.files, 'row')} made from local files; {brought}", ""


def _rows(taking: Preflight) -> str:
    seen, column = taking.seen, taking.making.skip_empty
    parts = [f"{seen.new:,} new", f"{seen.changed:,} changed", f"{seen.done:,} done"]
    parts += [f"{seen.open:,} going on"] if seen.open else []
    parts += [f"{seen.ended:,} ended{_again(taking)}"] if seen.ended else []
    parts += [f"{seen.skipped:,} skipped ({column} empty)"] if seen.skipped else []
    return f"{wording.count(seen.rows, 'row')}: {', '.join([*parts, f'{seen.bad:,} bad'])}"


def _again(taking: Preflight) -> str:
    """What helps rows that ended without all of their images."""
    errors = taking.ledger.progress(taking.name).errors if taking.ledger and taking.batch else {}
    again = command(f"retry {taking.name}", sandbox=taking.settings.is_sandbox)
    told = [again] * bool(retried(errors)) + [text for text in (moderated(errors),) if text]
    return f" badly ({'; '.join(told)})" if told else " without images"


def _example_path(taking: Preflight) -> str:
    path = taking.path.replace("{batch}", taking.name).replace("{key}", "KEY")
    path = path.replace("{index}", "0").replace("{ext}", "png")
    return f"{taking.dest}/{path}" if taking.dest else f"DEST/{path}"


def _sample(seen: Survey) -> Iterator[Line]:
    if seen.good and not seen.samples:
        going = f"; {wording.count(seen.open, 'row')} recorded before go on" if seen.open else ""
        why = "nothing is paid for" if seen.again.reused else "no row is new or changed"
        why = "changed rows are left as they are (--changed keep)" if seen.changed else why
        yield f"  nothing new to make: {why}{going}", "dim"
    width = max((len(sample.key) for sample in seen.samples), default=0)
    for sample in seen.samples:
        where = f"line {sample.line:,}"
        yield f'  {where:{_WIDTH - 2}}  {sample.key:{width}}  "{wording.shorten(sample.prompt, 100)}"', "dim"


#: What the star at a price says, without and with the stand-in.
YOURS = (
    "no list price: the price your settings give, [accounts.NAME.prices]",
    "no list price: a price made up for the sandbox; give yours under [accounts.NAME.prices]",
)
_HEADINGS = ("ROUTE", "", "IMAGES", "PIXELS", "EACH", "USD", "TIME", "BOUND BY")


def _routes(seen: Survey, width: int | None, *, sandbox: bool) -> Iterator[Line]:
    if not seen.routes:
        return
    money = wording.dollars([line.money for line in seen.routes])
    rows = [_HEADINGS, *(_route(line, usd) for line, usd in zip(seen.routes, money, strict=True))]
    head, *rest = _fitting(rows, width)
    yield head, "bold"
    yield from ((line, "") for line in rest)
    if any(line.price_is_yours for line in seen.routes):
        yield f"  * {YOURS[sandbox]}", "dim"
    for assumed in dict.fromkeys(line.assumed for line in seen.routes if line.assumed):
        yield f"  ~ billed by tokens; estimated: {assumed}", "dim"


def _resting(taking: Preflight) -> Iterator[Line]:
    """Accounts that take no submits now: until then the times are not true."""
    now = time.time()
    providers = {line.provider for line in taking.seen.routes}
    for account in taking.ledger.accounts() if taking.ledger else ():
        if account.provider in providers and is_paused(account, now):
            yield f"  account {account.name} ({account.provider}) is {state_of(account, now)}", "yellow"


def _fitting(rows: list[tuple[str, ...]], width: int | None) -> list[str]:
    """The table; without its last column where that would not fit."""
    lines = ["  " + line for line in wording.aligned(rows, right=frozenset({2, 4, 5}))]
    if width is None or max(map(len, lines)) <= width:
        return lines
    return ["  " + line for line in wording.aligned([row[:-1] for row in rows], right=frozenset({2, 4, 5}))]


def _route(line: RouteLine, usd: str) -> tuple[str, ...]:
    return (
        line.provider,
        line.label,
        f"{line.images:,}",
        f"{line.pixels[0]}x{line.pixels[1]}" if line.pixels else "not known",
        ("~" if line.assumed else "") + wording.unit_price(line.price) + ("*" if line.price_is_yours else ""),
        usd,
        _time(line),
        line.bound_by,
    )


def _time(line: RouteLine) -> str:
    return f"up to {wording.span(line.seconds)}" if line.may_be_less else wording.span(line.seconds)


def _total(taking: Preflight) -> Iterator[Line]:
    seen, budget = taking.seen, taking.limits.budget
    money = wording.money(seen.money)
    unpriced = f" and {wording.count(seen.unpriced, 'image')} at a price not known" if seen.unpriced else ""
    of = f" of budget {wording.money(budget)}" if budget is not None else ""
    of += (left := _left_by(taking))
    ready = f", ready {_when(seen)} if started now" if seen.images and not (left or _days(taking)) else ""
    most = f" (set aside: {wording.money(seen.aside)} at most)" if any(line.assumed for line in seen.routes) else ""
    yield f"{'total':{_WIDTH}}  {wording.count(seen.images, 'image')}, {money}{most}{unpriced}{of}{ready}", "bold"
    daily = budget_of(taking.settings.daily_budget)
    if daily == 0 and seen.money:
        yield f"{'':{_WIDTH}}  daily_budget $0.00: nothing may be spent, these images wait until it is raised", "red"
    if days := _days(taking):
        spread = f"spreads it over {wording.count(days, 'UTC day')} or more"
        yield f"{'':{_WIDTH}}  daily_budget {wording.money(daily or 0)} {spread}", ""
    if seen.may_be_less:
        yield f"{'':{_WIDTH}}  sooner where limits that nobody declared grow: they do while nothing is refused", "dim"


def _left_by(taking: Preflight) -> str:
    """How many of the images the budget leaves, where these are not all."""
    budget = taking.limits.budget
    if budget is None and taking.batch:
        budget = taking.batch.budget
    if budget is None or not taking.seen.images or taking.seen.unpriced:
        return ""
    images = taking.seen.affordable(budget, taking.batch)
    if images == taking.seen.images:
        return ""
    return f", which leaves {'about ' if images else ''}{images:,} of them"


def _when(seen: Survey) -> str:
    return f"about {wording.weekday(time.time() + seen.seconds)}{' or sooner' if seen.may_be_less else ''}"


def _days(taking: Preflight) -> int:
    """UTC days over which a daily budget spreads the money; 0: it does not."""
    daily = budget_of(taking.settings.daily_budget)
    return math.ceil(taking.seen.money / daily) if daily and taking.seen.money > daily else 0


def _bad(seen: Survey, *, everything: bool) -> Iterator[Line]:
    told = list({str(problem): problem for problem in seen.problems}.values())
    shown = told if everything else told[:FEW]
    for at, problem in enumerate(shown):
        label = f"bad ({seen.bad:,})" if at == 0 else ""
        text = str(problem) if everything else wording.shorten(str(problem), 240)
        yield f"{label:{_WIDTH}}  {text}", "red"
    if len(shown) < (len(told) if told and told[0].is_option else seen.bad):
        yield f"{'':{_WIDTH}}  … {seen.bad:,} in all{'' if everything else ' (--all shows up to 100)'}", "red"


def document(taking: Preflight, *, probed: bool) -> dict[str, object]:
    """The plan for programs."""
    seen = taking.seen
    return {
        "command": "plan",
        "manifest": seen.manifest,
        "batch": taking.name,
        "batch_is_new": taking.batch is None,
        "dest": taking.dest or None,
        "bucket_probed": probed,
        "ledger": ledger_line(taking.settings).removesuffix(" (new)"),
        "ledger_is_new": taking.ledger is None,
        "rows": {
            "all": seen.rows,
            "new": seen.new,
            "changed": seen.changed,
            "done": seen.done,
            "open": seen.open,
            "ended": seen.ended,
            "skipped": seen.skipped,
            "bad": seen.bad,
            "with_local_files": seen.files,
        },
        "samples": [{"line": each.line, "key": each.key, "prompt": each.prompt} for each in seen.samples],
        "routes": [_route_document(line) for line in seen.routes],
        "images": seen.images,
        "usd": seen.money / 1_000_000,
        "usd_at_most": seen.aside / 1_000_000,
        "unpriced_images": seen.unpriced,
        "seconds": round(seen.seconds, 1),
        "seconds_may_be_less": seen.may_be_less,
        "bad": [
            {"line": each.line, "key": each.key, "column": each.column, "value": each.value, "legal": each.legal}
            for each in seen.problems
        ],
        **overlap_screen.document(taking),
        "reasons": taking.reasons,
        "stopped": emergency_stop.document(stop) if (stop := taking.ledger and taking.ledger.stopped()) else None,
    }


def _route_document(line: RouteLine) -> dict[str, object]:
    return {
        "provider": line.provider,
        "model": line.model,
        "provider_model": line.provider_model,
        "ratio": line.ratio,
        "resolution": line.resolution,
        "width": line.pixels[0] if line.pixels else None,
        "height": line.pixels[1] if line.pixels else None,
        "images": line.images,
        "usd_each": None if line.price is None else line.price / 1_000_000,
        "usd": None if line.money is None else line.money / 1_000_000,
        "price_is_yours": line.price_is_yours,
        "route_mode": line.mode,
        "assumed": line.assumed or None,
        "usd_at_most": None if line.price is None else line.aside / 1_000_000,
        "seconds": round(line.seconds, 1),
        "seconds_may_be_less": line.may_be_less,
        "bound_by": line.bound_by,
    }
