"""Making rows again: retry, redo."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flow.consent import agree
from cli.flow.emergency_stop import warn
from cli.flow.going_on import by_whom, cancelled_words, go_on_here, tell, wake, work_here
from cli.flow.options import BatchName, Config, Json, MaxStall, Quiet, Sandbox, Yes, read_stall
from cli.flow.session import (
    LedgerSession,
    bring_back,
    demand_key,
    find_batch,
    note,
    put_on_log,
    session_of,
)
from cli.output.retries import bought_twice_words, given_up, made_meanwhile_lines, nothing_to_retry
from jobs import formatting
from jobs.command_lines import command
from jobs.errors import BadInput, LightfastError
from jobs.formatting import in_words
from jobs.ledger.claims.reuse import FewerToReuse, ReuseOptions
from jobs.marks import text_of
from jobs.policy.reuse import Reuse
from jobs.results import sentences
from jobs.results.progress import rows_going_on
from jobs.results.sentences import not_copied
from jobs.states import GOING_ON, JobState
from worker.registration.stored_images import demand_folder

if TYPE_CHECKING:
    from jobs.ledger.batches.values import Batch
    from jobs.ledger.reports.values import Progress, Result
    from jobs.planning.made_meanwhile import MadeMeanwhile
    from jobs.settings.model import Settings


Only = Annotated[str, typer.Option(metavar="STATUS", help="failed, lost or partial.")]
ErrorCode = Annotated[str, typer.Option("--error", metavar="CODE", help="Only rows that ended with this code.")]
Keys = Annotated[list[str] | None, typer.Option("--key", metavar="KEY", help="Only this row. May be repeated.")]
KeyFile = Annotated[Path | None, typer.Option("--keys", metavar="FILE", help="A file with one key a line.")]
ReuseIt = Annotated[
    str,
    typer.Option(
        "--reuse",
        metavar="[copy|link]",
        help="Take images that other batches made meanwhile, for nothing; a batch recorded with --reuse does.",
    ),
]
BuyAgain = Annotated[bool, typer.Option("--buy-again", help="Agree to pay for requests that were made already.")]
Prompt = Annotated[str, typer.Option(metavar="TEMPLATE", help="Another prompt for these rows, any column in {…}.")]


def retry(  # noqa: PLR0913  one parameter an option
    batch: BatchName,
    *,
    only: Only = "",
    error: ErrorCode = "",
    key: Keys = None,
    reuse: ReuseIt = "",
    buy_again: BuyAgain = False,
    max_stall: MaxStall = None,
    yes: Yes = False,
    json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    sandbox: Sandbox = False,
) -> int:
    """Failed and lost rows again; rows refused by moderation only with --error moderation, given-up ones with --key."""
    from worker.registration.again import RETRIED, is_retried

    if only == JobState.HELD:
        look = command("unknown", batch, sandbox=sandbox)
        raise BadInput(f"--only held: the outcome of held rows is unknown. First decide about each:  {look}")
    if only and only not in RETRIED:
        raise BadInput(f'--only: "{only}": expected {", ".join(RETRIED)}')
    if reuse not in ("", *Reuse):
        raise BadInput(f'--reuse: "{reuse}": expected nothing after it, copy or link')

    def begin(session: LedgerSession, _: Sequence[Result], take: ReuseOptions | None) -> int:
        return session.ledger.batches.retry(
            batch, time.time(), only=only or None, error=error or None, keys=key, reuse=take
        )

    def wanted(result: Result) -> bool:
        return is_retried(result, only=only, error=error, keys=key)

    again = AgainCommand(
        command="retry",
        batch=batch,
        error=error,
        keys=key or (),
        is_of_all=not (only or error or key),
        wanted=wanted,
        begin=begin,
        takes=True,
        reuse=reuse,
        buy_again=buy_again,
        stall=read_stall(max_stall),
        yes=yes,
        json=json,
        quiet=quiet,
    )
    return _again(again, config, sandbox=sandbox)


def redo(  # noqa: PLR0913  one parameter an option
    batch: BatchName,
    *,
    key: Keys = None,
    keys: KeyFile = None,
    error: ErrorCode = "",
    prompt: Prompt = "",
    max_stall: MaxStall = None,
    yes: Yes = False,
    json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    sandbox: Sandbox = False,
) -> int:
    """New images for rows that are done, or ended with an error; stored beside the old."""
    chosen = [*(key or []), *(_keys_of(keys) if keys else [])]
    if not (chosen or error):
        raise BadInput("redo needs to know the rows: --key KEY, --keys FILE with one key a line, or --error CODE.")

    unplanned: list[str] = []

    def wanted(result: Result) -> bool:
        asked = result.key in chosen or (error and result.error_code == error)
        if result.request is None and asked:
            unplanned.append(result.key)
        return result.request is not None and bool(asked)

    def check(rows: Sequence[Result]) -> None:
        # A product's further lines in an export have its key too, and are skipped.
        told_by_none = sorted(set(unplanned) - {row.key for row in rows})
        if told_by_none:
            raise BadInput(
                f"nothing on record tells what row {', '.join(told_by_none[:10])} of {batch} asks for: it was adopted, "
                "skipped or bad. Run its manifest again first, which pays only for what is missing."
            )
        missing = sorted(set(chosen) - {row.key for row in rows})
        if missing:
            raise BadInput(f"batch {batch} has no row {', '.join(missing[:10])}. Nothing was spent.")

    def begin(session: LedgerSession, rows: Sequence[Result], _: ReuseOptions | None) -> int:
        changes = [(row.key, row.request if prompt else None) for row in rows]
        return session.ledger.batches.redo(batch, changes, time.time(), _prices(session.settings, rows))

    again = AgainCommand(
        command="redo",
        batch=batch,
        error=error,
        wanted=wanted,
        asked=lambda row: _with_prompt(row, prompt),
        has_it=lambda row: _is_made_so(row, prompt),
        check=check,
        begin=begin,
        stall=read_stall(max_stall),
        yes=yes,
        json=json,
        quiet=quiet,
    )
    return _again(again, config, sandbox=sandbox)


# -- what they have in common --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainCommand:
    """What `retry` and `redo` have in common, and what they are called with."""

    command: str
    batch: str
    error: str = ""
    keys: Sequence[str] = ()  # named on the command line
    is_of_all: bool = False  # no rows were named: where there is nothing to begin, what is not finished goes on
    wanted: Callable[[Result], bool]
    asked: Callable[[Result], Result] = lambda row: row  # as it is to be made
    has_it: Callable[[Result], bool] = lambda _: False  # what is asked for is there, or is being made
    check: Callable[[Sequence[Result]], None] = lambda _: None  # raises `BadInput` where rows are named in vain
    begin: Callable[[LedgerSession, Sequence[Result], ReuseOptions | None], int]  # rows ready; returns how many
    takes: bool = (
        False  # what was made elsewhere meanwhile is not to be bought again: it may be taken, or is asked about
    )
    reuse: str = ""  # --reuse; "": as the batch was recorded
    buy_again: bool = False
    stall: float | None  # seconds to wait where only a person can help; None: for ever
    yes: bool
    json: bool
    quiet: bool


def _again(again: AgainCommand, config: Path | None, *, sandbox: bool) -> int:
    """States the cost, asks, makes the rows ready; then works them here, or wakes the workers of the cluster."""
    from cli.flow.environment import settings_for
    from worker.registration.again import cost_of

    with settings_for(config, sandbox=sandbox) as settings, session_of(settings) as session:
        found = find_batch(session.ledger, again.batch)
        if found.state == "cancelled":
            raise BadInput(cancelled_words(session, found))
        demand_folder(session.ledger, found)
        for key in again.keys:
            demand_key(session.ledger, [again.batch], key)
        named = [result for result in session.ledger.reports.results(again.batch) if again.wanted(result)]
        again.check(named)
        rows = [again.asked(result) for result in named if not again.has_it(result)]
        left = [result for result in named if again.has_it(result)]
        made, how = _made_meanwhile(again, session, found, rows)
        paid = [row for row in rows if not (how and row.key in made.takeable)]
        cost, unpriced = cost_of(settings, paid, anew=again.command == "redo")
        if left:
            note(_left_as_they_are(again, left))
        if not rows:
            return _nothing_to_do(again, session, left)
        if again.is_of_all and (stay := given_up(session.ledger.reports.progress(again.batch).errors)):
            note(stay)
        note(f"{again.command}: {formatting.count(len(rows), 'row')} of {again.batch}, {sentences.at_most(cost)}")
        for line in made_meanwhile_lines(found, made, len(paid), how, session.ledger.batches.all()):
            note(line)
        warn(session.ledger, sandbox=settings.is_sandbox)
        mistake = "" if again.buy_again else bought_twice_words(made, len(paid), how)
        agree(cost, unpriced=unpriced, yes=again.yes, sandbox=settings.is_sandbox, command=again.command, again=mistake)
        take = ReuseOptions(how=how, at_least=len(made.takeable)) if how else None
        if not session.ledger.is_sqlite:
            return _for_the_workers(again, session, found, rows, cost, take)
        with session.ledger.hold(time.time()):
            going_on = sum(row.state in GOING_ON for row in rows)
            if told := _waits_too(session.ledger.reports.progress(again.batch), besides=going_on):
                note(told)
            _begin(again, session, found, rows, cost, take)
            # Not `redo` once more: what it has made would be made again.
            retry = command("retry", again.batch, sandbox=session.settings.is_sandbox)
            return work_here(session, again.batch, again.stall, json=again.json, quiet=again.quiet, goes_on=retry)


def _is_made_so(row: Result, prompt: str) -> bool:
    """Whether a `redo` before has asked for the same: it is being made, or is there with this very prompt.

    Without a prompt other images of the same are asked for, so those that are there do not count.
    """
    is_same = row.revision > 1 and _with_prompt(row, prompt).request == row.request
    return is_same and (row.state in GOING_ON or (bool(prompt) and row.state is JobState.DONE))


def _left_as_they_are(again: AgainCommand, rows: Sequence[Result]) -> str:
    """What becomes of rows that have what is asked for."""
    being_made = sum(row.state in GOING_ON for row in rows)
    done = len(rows) - being_made
    told = [f"{formatting.count(being_made, 'row')} {'is' if being_made == 1 else 'are'} being made so"] * bool(
        being_made
    )
    told += [f"{formatting.count(done, 'row')} {'has' if done == 1 else 'have'} images of this prompt"] * bool(done)
    other = "; without --prompt others of the same are made" if done else ""
    return f"{again.command}: {' and '.join(told)} already: left as they are{other}"


def _waits_too(before: Progress, *, besides: int = 0) -> str:
    """The batch's other rows, which are worked on as well and waited for; "": there are none."""
    others = rows_going_on(before) - besides
    if others <= 0:
        return ""
    failing = f"; not copied yet: {not_copied(before)}" if before.copy_errors else ""
    rows = "1 other row is" if others == 1 else f"{others:,} other rows are"
    return (
        f"{rows} not finished, and this goes on until {'it is' if others == 1 else 'they are'} too{failing}. "
        "--max-stall ends it where only a person can help"
    )


def _nothing_to_do(again: AgainCommand, session: LedgerSession, left: Sequence[Result]) -> int:
    """There is no row to begin again: on one machine, rows that are not finished go on, as after a Ctrl-C."""
    progress = session.ledger.reports.progress(again.batch)
    held = progress.jobs.get(JobState.HELD, 0)
    why = "Nothing was spent." if left else nothing_to_retry(again.batch, again.error, progress.errors, held)
    waits = _waits_too(progress)
    if waits and session.ledger.is_sqlite and (again.is_of_all or any(row.state in GOING_ON for row in left)):
        note(waits if left else f"{again.command}: {why}\n{waits}")
        return go_on_here(session, again.batch, again.stall, json=again.json, quiet=again.quiet)
    tell(session, again.batch, why if left else f"{again.command}: {why}", json=again.json, rows=0)
    return 0


def _begin(
    again: AgainCommand,
    session: LedgerSession,
    found: Batch,
    rows: Sequence[Result],
    cost: int,
    take: ReuseOptions | None,
) -> int:
    bring_back(session.ledger, found)
    session.ledger.batches.agree(again.batch, max(found.agreed, found.charged + found.reserved + cost), found.budget)
    try:
        begun = again.begin(session, rows, take)
    except FewerToReuse:
        raise LightfastError(
            "Images that were to be reused are not there any more. Nothing was begun; run it again."
        ) from None
    put_on_log(session, f"batch {again.command}", again.batch, {"rows": begun, "estimate_usd": formatting.usd(cost)})
    return begun


def _made_meanwhile(
    again: AgainCommand, session: LedgerSession, found: Batch, rows: Sequence[Result]
) -> tuple[MadeMeanwhile, Reuse | None]:
    """Which of the rows other batches have made since, and how their images are taken; None: they are not."""
    from jobs.planning.made_meanwhile import MadeMeanwhile, made_meanwhile

    if not again.takes:
        return MadeMeanwhile(), None
    asked = ((row.key, row.request) for row in rows if row.request is not None)
    how = Reuse(again.reuse) if again.reuse else found.reuse
    return made_meanwhile(session.ledger, found, asked), how


def _for_the_workers(
    again: AgainCommand,
    session: LedgerSession,
    found: Batch,
    rows: Sequence[Result],
    cost: int,
    take: ReuseOptions | None,
) -> int:
    count = _begin(again, session, found, rows, cost, take)
    wake(session)
    by = by_whom(session, session.ledger.reports.progress(again.batch))
    tell(
        session,
        again.batch,
        f"{formatting.count(count, 'row')} ready again{by}.",
        json=again.json,
        rows=count,
    )
    return 0


def _prices(settings: Settings, rows: Sequence[Result]) -> dict[str, int]:
    """What an image of each row costs at most, in micro-dollars, as the user was told; without unknown prices."""
    from worker.registration.again import price_of
    from worker.services import catalog_of

    catalog = catalog_of(settings)
    found = {row.key: price_of(catalog, row) for row in rows}
    return {key: price for key, price in found.items() if price is not None}


def _with_prompt(result: Result, template: str) -> Result:
    """The row with another prompt, where one is given."""
    if not template or result.request is None:
        return result
    from jobs.manifest.templates import Missing, parse

    try:
        prompt = parse(template, "--prompt").render(result.texts)
    except Missing as missing:
        raise BadInput(f"--prompt: row {result.key} has nothing in column {missing.column}.") from None
    return replace(result, request=replace(result.request, prompt=prompt))


def _keys_of(file: Path) -> list[str]:
    try:
        lines = text_of(file.read_bytes()).splitlines()
    except (OSError, UnicodeDecodeError) as trouble:
        raise BadInput(f"--keys {file}: cannot be read ({in_words(trouble)})") from None
    return [line.strip() for line in lines if line.strip()]
