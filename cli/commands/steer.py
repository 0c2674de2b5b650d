"""Steering a batch: pause, resume, cancel."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flow.consent import agree
from cli.flow.emergency_stop import lift_stop, stop_all, warn
from cli.flow.going_on import by_whom, cancelled_words, go_on_here, tell, wake
from cli.flow.options import BatchName, Config, Json, MaxStall, Quiet, Sandbox, Yes, read_stall
from cli.flow.session import (
    LedgerSession,
    find_batch,
    note,
    open_session,
    put_on_log,
    show_json,
)
from cli.output.retries import bought_twice_words, made_meanwhile_lines
from jobs import formatting
from jobs.command_lines import command
from jobs.errors import BadInput
from jobs.planning.survey import made_in_another
from jobs.results import copy_stops, sentences
from jobs.results.budgets import month_words, raise_budget, raise_month
from jobs.results.completion import Reason, RunState, is_over, used_budget
from jobs.results.conditions import ON_YOUR_WORD
from jobs.results.emergency_stop import told
from jobs.results.progress import images_on_their_way
from jobs.results.reasons import why
from jobs.states import JobState
from worker.registration.options import read_money, read_option
from worker.registration.stored_images import demand_folder

if TYPE_CHECKING:
    from jobs.ledger.batches.values import Batch
    from jobs.ledger.reports.values import Progress


EveryBatch = Annotated[bool, typer.Option("--all", help="The emergency stop: every batch of this ledger.")]
MaybeBatch = Annotated[str, typer.Argument(metavar="BATCH", help="The batch's name.", show_default=False)]
AfterRestore = Annotated[bool, typer.Option("--after-restore", help="Trust the database as it is now, and go on.")]
Budget = Annotated[
    str | None, typer.Option(metavar="USD", help="The most that this batch may ever spend, from now on.")
]
Only = Annotated[str, typer.Option(metavar="STATUS", help="failed, lost or partial.")]
BuyAgain = Annotated[bool, typer.Option("--buy-again", help="Agree to pay for requests that were made already.")]


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
        put_on_log(session, "batch pause", batch)
        again = command("resume", batch, sandbox=found.sandbox)
        tell(session, batch, f"{batch} is paused: nothing new is paid. To go on:  {again}", json=json)
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
            return go_on_here(session, batch, stall, json=json, quiet=quiet)
        if batch:
            stop, sandbox = session.ledger.emergency_stop.current(), session.settings.is_sandbox
            waits = f"{batch} itself is paused no more, and yet: {told(stop, sandbox=sandbox)}" if stop else ""
            tell(session, batch, waits or _goes_on(session, batch), json=json)
        elif json:
            show_json({"command": "resume", "after_restore": True})
    return 0


def _resume(session: LedgerSession, batch: str, cap: int | None, *, yes: bool, buy_again: bool) -> None:
    found = find_batch(session.ledger, batch)
    if found.state == "cancelled":
        raise BadInput(cancelled_words(session, found))
    demand_folder(session.ledger, found)
    if not buy_again:
        _demand_bought_once(session, found)
    if cap is not None:
        _give(session, found, cap, yes=yes)
    session.ledger.batches.resume(batch, time.time())
    put_on_log(session, "batch resume", batch)


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
        f"{batch.name}: {formatting.money(spent)} spent or reserved, {sentences.at_most(rest)} for the rest, "
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
        put_on_log(session, "batch cancel", batch)
        left = f"{formatting.count(count, 'row')} will not be made" if count else "no row was left to make"
        coming = session.ledger.reports.progress(batch, time.time())
        stored = f" What is paid is still stored{by_whom(session, coming)}." if images_on_their_way(coming) else ""
        made_after_all = f" {made_in_another(session.ledger.batches.other_name(batch))}" if count else ""
        text = f"{batch} is cancelled for good: {left}.{stored}{made_after_all}"
        tell(session, batch, text, json=json, cancelled=count)
    return 0


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
        stored = f" What is paid is still stored{by_whom(session, progress)}." if coming else ""
        return f"{name} is not paused, but its rows wait: {why(waits, standing)}{to_raise}{stored}"
    sandbox = progress.batch.sandbox
    told = [f"\n  {line}" for each in progress.failing for line in copy_stops.lines(each, sandbox=sandbox, own=name)]
    return f"{name} goes on{by_whom(session, progress)}.{''.join(told)}"
