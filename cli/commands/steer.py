"""Steering a batch: pause, resume, cancel, retry, redo."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flow.consent import agree
from cli.flow.emergency_stop import lift_stop, stop_all, warn
from cli.flow.options import BatchName, Config, Json, MaxStall, Quiet, Sandbox, Yes, read_stall
from cli.flow.session import (
    LedgerSession,
    bring_back,
    by_its_schedule,
    demand_key,
    find_batch,
    note,
    open_session,
    session_of,
    show_json,
)
from cli.output import copy_stops, wording
from cli.output.emergency_stop import told
from cli.output.endings import why
from cli.output.retries import bought_twice_words, given_up, made_meanwhile_lines, nothing_to_retry
from cli.output.sentences import not_copied
from jobs import formatting
from jobs.command_lines import command
from jobs.errors import GIVEN_UP_ROWS, BadInput, LedgerBusy, LightfastError
from jobs.formatting import in_words
from jobs.ledger.claims.reuse import FewerToReuse, ReuseOptions
from jobs.marks import text_of
from jobs.planning.survey import cancelled_for_good, made_in_another
from jobs.policy.firing import LEFT_TO_THE_NEXT
from jobs.policy.reuse import Reuse
from jobs.results.budgets import goes_on_with_it, month_words, raise_budget, raise_month
from jobs.results.completion import Reason, RunState, is_over, used_budget
from jobs.results.conditions import ON_YOUR_WORD
from jobs.results.progress import images_on_their_way, rows_going_on
from jobs.states import GOING_ON, JobState
from worker.registration.options import WorkLimits, read_money, read_option
from worker.registration.stored_images import demand_folder

if TYPE_CHECKING:
    from jobs.ledger.batches.values import Batch
    from jobs.ledger.reports.values import Progress, Result
    from jobs.planning.made_meanwhile import MadeMeanwhile
    from jobs.settings.model import Settings
    from providers.catalog.models import Catalog

EveryBatch = Annotated[bool, typer.Option("--all", help="The emergency stop: every batch of this ledger.")]
MaybeBatch = Annotated[str, typer.Argument(metavar="BATCH", help="The batch's name.", show_default=False)]
AfterRestore = Annotated[bool, typer.Option("--after-restore", help="Trust the database as it is now, and go on.")]
Budget = Annotated[
    str | None, typer.Option(metavar="USD", help="The most that this batch may ever spend, from now on.")
]
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

RETRIED = ("failed", "lost", "partial")
#: The route of a provider that rows were recorded for when there was no other; they are still asked for there.
BEFORE = {"maxapi.dev": "mix"}


def pause(
    batch: MaybeBatch = "",
    *,
    all_: EveryBatch = False,
    json: Json = False,
    config: Config = None,
    sandbox: Sandbox = False,
) -> int:
    """Stops new submits of one batch, or of all with --all; what is paid is polled, copied and stored."""
    if bool(batch) is all_:
        raise BadInput("pause needs a BATCH; or, for every batch of this ledger at once, --all.")
    with open_session(config, sandbox=sandbox) as session:
        if all_:
            return stop_all(session, json=json)
        found = find_batch(session.ledger, batch)
        if found.state == "cancelled":
            raise BadInput(f"batch {batch} is cancelled; there is nothing to pause.")
        session.ledger.batches.pause(batch, ON_YOUR_WORD)
        again = command("resume", batch, sandbox=found.sandbox)
        _told(session, batch, f"{batch} is paused: nothing new is paid. To go on:  {again}", json=json)
    return 0


def resume(  # noqa: PLR0913  one parameter an option
    batch: MaybeBatch = "",
    *,
    all_: EveryBatch = False,
    budget: Budget = None,
    after_restore: AfterRestore = False,
    buy_again: BuyAgain = False,
    max_stall: MaxStall = None,
    yes: Yes = False,
    json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    sandbox: Sandbox = False,
) -> int:
    """Lets submits go on: of one batch (with --budget here and now), after `pause --all`, or after a restore."""
    cap = read_option("--budget", budget, read_money, None)
    stall = read_stall(max_stall)
    if all_ and (batch or cap is not None or after_restore):
        raise BadInput("resume --all lifts what `pause --all` stopped, and nothing else: give it alone.")
    if not (batch or all_) and (cap is not None or not after_restore):
        raise BadInput(
            "resume needs a BATCH; or --all, after `pause --all`; or, after the database was restored or failed over, "
            "--after-restore."
        )
    with open_session(config, sandbox=sandbox, works=cap is not None) as session:
        if all_:
            code = lift_stop(session, json=json)
            wake(session)
            return code
        if batch:
            _resume(session, batch, cap, yes=yes, buy_again=buy_again)
        if after_restore:
            _trust(session)
        wake(session)
        if cap is not None and session.ledger.is_sqlite:
            return _go_on_here(session, batch, stall, json=json, quiet=quiet)
        if batch:
            stop, sandbox = session.ledger.emergency_stop.current(), session.settings.is_sandbox
            waits = f"{batch} itself is paused no more, and yet: {told(stop, sandbox=sandbox)}" if stop else ""
            _told(session, batch, waits or _goes_on(session, batch), json=json)
        elif json:
            show_json({"command": "resume", "after_restore": True})
    return 0


def _resume(session: LedgerSession, batch: str, cap: int | None, *, yes: bool, buy_again: bool) -> None:
    found = find_batch(session.ledger, batch)
    if found.state == "cancelled":
        raise BadInput(_cancelled(session, found))
    demand_folder(session.ledger, found)
    if not buy_again:
        _demand_bought_once(session, found)
    if cap is not None:
        _give(session, found, cap, yes=yes)
    session.ledger.batches.resume(batch, time.time())


def _demand_bought_once(session: LedgerSession, batch: Batch) -> None:
    """Rows that wait, of requests that wait in another batch too, are bought by one of both.

    Raises:
        BadInput: They would be bought by both.
    """
    from jobs.planning.made_meanwhile import waiting_twice

    found = waiting_twice(session.ledger, batch)
    ready = session.ledger.reports.progress(batch.name).jobs.get(JobState.READY, 0)
    if mistake := bought_twice_words(found, ready, batch.reuse):
        for line in made_meanwhile_lines(batch, found, ready, batch.reuse, session.ledger.batches.all()):
            note(line)
        raise BadInput(f"{mistake}. resume does not buy that: add --buy-again. Nothing was changed.")


def _give(session: LedgerSession, batch: Batch, cap: int, *, yes: bool) -> None:
    """Sets another budget. Asks for consent to what may now be spent beyond what was agreed to."""
    spent = batch.charged + batch.reserved
    if cap < spent:
        so_far = f"{formatting.money(spent)} is spent or reserved already"
        raise BadInput(f"--budget {formatting.money(cap)}: {so_far} for {batch.name}. Nothing was changed.")
    before = session.ledger.reports.progress(batch.name, time.time() + session.ledger.clock_offset())
    rest = before.remaining_money
    coming = min(rest, cap - spent)
    note(
        f"{batch.name}: {formatting.money(spent)} spent or reserved, {wording.at_most(rest)} for the rest, "
        f"budget {formatting.money(cap)}"
    )
    _warn_of_month(before, coming)
    beyond = max(0, spent + coming - batch.agreed)
    warn(session.ledger, sandbox=session.settings.is_sandbox)
    agree(min(coming, beyond), yes=yes, sandbox=batch.sandbox, command="resume")
    session.ledger.batches.agree(batch.name, max(batch.agreed, spent + coming), cap)


def _warn_of_month(before: Progress, coming: int) -> None:
    """Says that the month of the batch's schedule leaves less than is to come now."""
    month = before.schedule.month if before.schedule else None
    if month is None or month.left >= coming:
        return
    note(
        f"{month_words(before)}. It leaves {formatting.money(month.left)} of the {formatting.money(coming)} that may "
        f"come; the other rows wait until it is raised:  {raise_month(before)[0]}"
    )


def _go_on_here(session: LedgerSession, batch: str, stall: float | None, *, json: bool, quiet: bool) -> int:
    """Works the batch in this process, unless another does."""
    with contextlib.ExitStack() as holding:
        try:
            holding.enter_context(session.ledger.hold(time.time()))
        except LedgerBusy:
            _told(session, batch, f"{batch} goes on by the `lightfast run` that is at work.", json=json)
            return 0
        session.ledger.batches.take_what_was_made(batch, time.time() + session.ledger.clock_offset())
        return _work(session, batch, stall, json=json, quiet=quiet, goes_on="")


def _trust(session: LedgerSession) -> None:
    """Records that the restored database is to be trusted as it is."""
    if not session.ledger.has_moved():
        note(
            "Nothing waited: this ledger is where it was" + (", as far as SQLite can tell." * session.ledger.is_sqlite)
        )
        return
    session.ledger.trust()
    note("Submits go on with the database as it is now. Rows it has forgotten are made and paid again.")


def cancel(batch: BatchName, *, json: Json = False, config: Config = None, sandbox: Sandbox = False) -> int:
    """Ends new submits for good; what is paid is polled, copied, stored."""
    with open_session(config, sandbox=sandbox) as session:
        find_batch(session.ledger, batch)
        count = session.ledger.batches.cancel(batch)
        left = f"{formatting.count(count, 'row')} will not be made" if count else "no row was left to make"
        coming = session.ledger.reports.progress(batch, time.time())
        stored = f" What is paid is still stored{_by_whom(session, coming)}." if images_on_their_way(coming) else ""
        made_after_all = f" {made_in_another(session.ledger.batches.other_name(batch))}" if count else ""
        text = f"{batch} is cancelled for good: {left}.{stored}{made_after_all}"
        _told(session, batch, text, json=json, cancelled=count)
    return 0


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
        return _is_retried(result, only=only, error=error, keys=key)

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


# -- again ---------------------------------------------------------------------------------------------------------


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

    with settings_for(config, sandbox=sandbox) as settings, session_of(settings) as session:
        found = find_batch(session.ledger, again.batch)
        if found.state == "cancelled":
            raise BadInput(_cancelled(session, found))
        demand_folder(session.ledger, found)
        for key in again.keys:
            demand_key(session.ledger, [again.batch], key)
        named = [result for result in session.ledger.reports.results(again.batch) if again.wanted(result)]
        again.check(named)
        rows = [again.asked(result) for result in named if not again.has_it(result)]
        left = [result for result in named if again.has_it(result)]
        made, how = _made_meanwhile(again, session, found, rows)
        paid = [row for row in rows if not (how and row.key in made.takeable)]
        cost, unpriced = _cost(settings, paid, anew=again.command == "redo")
        if left:
            note(_left_as_they_are(again, left))
        if not rows:
            return _nothing_to_do(again, session, left)
        if again.is_of_all and (stay := given_up(session.ledger.reports.progress(again.batch).errors)):
            note(stay)
        note(f"{again.command}: {formatting.count(len(rows), 'row')} of {again.batch}, {wording.at_most(cost)}")
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
            return _work(session, again.batch, again.stall, json=again.json, quiet=again.quiet, goes_on=retry)


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
        return _go_on_here(session, again.batch, again.stall, json=again.json, quiet=again.quiet)
    _told(session, again.batch, why if left else f"{again.command}: {why}", json=again.json, rows=0)
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
        return again.begin(session, rows, take)
    except FewerToReuse:
        raise LightfastError(
            "Images that were to be reused are not there any more. Nothing was begun; run it again."
        ) from None


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
    by = _by_whom(session, session.ledger.reports.progress(again.batch))
    _told(
        session,
        again.batch,
        f"{formatting.count(count, 'row')} ready again{by}.",
        json=again.json,
        rows=count,
    )
    return 0


def _work(session: LedgerSession, batch: str, stall: float | None, *, json: bool, quiet: bool, goes_on: str) -> int:
    """`goes_on`: the command that goes on with rows that are left; "": the same one."""
    from cli.flow.execute import OutputMode, work

    mode = OutputMode(json=json, quiet=quiet, goes_on=goes_on)
    return work(session.settings, session.ledger, batch, WorkLimits(max_stall=stall), mode)


def _is_retried(result: Result, *, only: str, error: str, keys: list[str] | None) -> bool:
    states = (only,) if only else RETRIED
    matches = result.error_code == error if error else result.error_code != "moderation"
    matches = matches and result.error_code != "wrong_pixels"  # its slots are full: a redo makes others beside them
    if not (only or error or keys):
        matches = matches and result.error_code not in GIVEN_UP_ROWS  # those stay so until somebody names them
    return result.state in states and matches and (keys is None or result.key in keys)


def _cost(settings: Settings, rows: list[Result], *, anew: bool) -> tuple[int, int]:
    """Micro-dollars, and images whose price is not known."""
    from worker.services import catalog_of

    catalog = catalog_of(settings)
    priced, unpriced = 0, 0
    for row in rows:
        images = _images(row, anew=anew)
        price = _price(catalog, row)
        priced, unpriced = (priced, unpriced + images) if price is None else (priced + price * images, unpriced)
    return priced, unpriced


def _images(row: Result, *, anew: bool) -> int:
    asked = row.request.n if row.request else 0
    kept = 0 if anew else sum(image.state in ("stored", "generated") for image in row.images)
    return max(0, asked - kept)


def _price(catalog: Catalog, row: Result) -> int | None:
    from providers.catalog.models import Unmakeable

    if row.request is None or row.provider is None or row.provider_model is None:
        return None
    try:
        before = None if "route_mode" in row.request.options else BEFORE.get(row.provider)
        route = catalog.route_of(row.provider, row.provider_model, row.request, row.mode or before)
        return route.price_of(row.request.prompt)
    except Unmakeable:
        return None


def _prices(settings: Settings, rows: Sequence[Result]) -> dict[str, int]:
    """What an image of each row costs at most, in micro-dollars, as the user was told; without unknown prices."""
    from worker.services import catalog_of

    catalog = catalog_of(settings)
    found = {row.key: _price(catalog, row) for row in rows}
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


# -- what was done -------------------------------------------------------------------------------------------------


def wake(session: LedgerSession) -> None:
    """Wakes the workers of a cluster; they would look by themselves within a minute."""
    if session.ledger.is_sqlite:
        return
    from cli.flow.execute import log_events
    from worker.lanes.worker import lanes_of
    from worker.tasks import wake_lanes

    log_events(session.settings)
    wake_lanes(lanes_of(session.settings.accounts))


def _by_whom(session: LedgerSession, progress: Progress) -> str:
    if not session.ledger.is_sqlite:
        return " by the cluster's workers"
    if progress.schedule is not None and not session.ledger.is_held():
        return f" by {by_its_schedule(progress.schedule, sandbox=progress.batch.sandbox).rstrip(',')}"
    return " by the `lightfast run` that is at work" if session.ledger.is_held() else " by the next `lightfast run`"


def _cancelled(session: LedgerSession, found: Batch) -> str:
    """Why nothing can be paid for a cancelled batch, and how its rows are made after all."""
    progress = session.ledger.reports.progress(found.name, time.time())
    if found.reason == LEFT_TO_THE_NEXT and progress.schedule is not None:
        return f"batch {found.name} takes no more: {found.reason}{goes_on_with_it(progress)}"
    return cancelled_for_good(found.name, session.ledger.batches.other_name(found.name))


def _goes_on(session: LedgerSession, name: str) -> str:
    """Whether a batch that was resumed goes on; if not, which budget is used, or why nothing can be stored."""
    now = time.time() + session.ledger.clock_offset()
    progress = session.ledger.reports.progress(name, now)
    standing = RunState(progress=progress, accounts=session.ledger.accounts.all(), now=now)
    if is_over(progress):
        return f"{name} is finished: there is nothing to go on with."
    if waits := used_budget(standing):
        is_month = waits is Reason.MONTH_BUDGET_USED
        raises = raise_month(progress) if is_month else [raise_budget(progress)] * (waits is Reason.BUDGET_USED)
        to_raise = f" To raise it:  {', then  '.join(raises)}" if raises else ""
        coming = images_on_their_way(progress)
        stored = f" What is paid is still stored{_by_whom(session, progress)}." if coming else ""
        return f"{name} is not paused, but its rows wait: {why(waits, standing)}{to_raise}{stored}"
    sandbox = progress.batch.sandbox
    told = [f"\n  {line}" for each in progress.failing for line in copy_stops.lines(each, sandbox=sandbox, own=name)]
    return f"{name} goes on{_by_whom(session, progress)}.{''.join(told)}"


def _told(session: LedgerSession, batch: str, text: str, *, json: bool, **more: object) -> None:
    note(text)
    if json:
        found = find_batch(session.ledger, batch)
        show_json({"batch": batch, "state": str(found.state), **more})
