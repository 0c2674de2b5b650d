"""`lightfast unknown`: attempts whose outcome nobody can know, the money at risk, and a person's word on them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flow.consent import agree
from cli.flow.options import Config, Json, Sandbox, Sure
from cli.flow.session import (
    LedgerSession,
    demand_key,
    find_batch,
    note,
    open_session,
    put_on_log,
    session_of,
    show,
    show_json,
)
from cli.output.wording import aligned
from jobs.command_lines import command, keyed
from jobs.errors import BadInput, LightfastError
from jobs.formatting import count, day_and_time, money
from jobs.planning.survey import cancelled_for_good
from jobs.results.documents import money_of, unknown_document

if TYPE_CHECKING:
    from jobs.ledger.batches.values import UnknownAttempt

Batch = Annotated[str | None, typer.Argument(metavar="BATCH", help="Only of this batch.", show_default=False)]
Key = Annotated[str | None, typer.Option("--key", metavar="K", help="Only of this row.")]
Resolve = Annotated[
    str | None, typer.Option("--resolve", metavar="pay-again|give-up|found", help="What you decide about them.")
]
TaskId = Annotated[
    str | None, typer.Option("--task-id", metavar="ID", help="With `found`: the task's id in the provider's console.")
]
Line = tuple[str, str]

WAYS = ("pay-again", "give-up", "found")
#: So many are told one by one; more are a table.
TOLD_ONE_BY_ONE = 5
#: Longer than any task id seen, and short enough for an index.
LONGEST_TASK_ID = 200


def unknown(  # noqa: PLR0913  one parameter an option
    batch: Batch = None,
    *,
    key: Key = None,
    resolve: Resolve = None,
    task_id: TaskId = None,
    yes: Sure = False,
    json: Json = False,
    config: Config = None,
    sandbox: Sandbox = False,
) -> int:
    """List attempts whose outcome nobody can know, and resolve them."""
    _check(resolve, task_id)
    with _open(config, sandbox=sandbox, asks=resolve == "found") as session:
        if batch is not None:
            find_batch(session.ledger, batch)
        if key is not None:
            demand_key(session.ledger, [batch] if batch else [each.name for each in session.ledger.batches.all()], key)
        attempts = session.ledger.unknowns.all(batch, key)
        if resolve is None:
            mark = session.settings.is_sandbox
            show_json(unknown_document(attempts)) if json else show(_page(attempts, sandbox=mark), sandbox=mark)
            return 0
        if resolve == "found" and batch is not None and key is not None:
            attempts += session.ledger.unknowns.given_up(batch, key)
        if key is not None and not attempts:
            raise BadInput(f"Nothing to resolve: no such attempt of {key} is unknown.")
        settled = _resolve(session, attempts, resolve, task_id, yes=yes)
    if json:
        show_json({"resolved": settled, "how": resolve, **unknown_document(attempts)})
    return 0


@contextmanager
def _open(config: Path | None, *, sandbox: bool, asks: bool) -> Iterator[LedgerSession]:
    """The ledger. `asks`: a provider will be asked, so --sandbox has to start the stand-in."""
    if not (sandbox and asks):
        with open_session(config, sandbox=sandbox) as session:
            yield session
        return
    from cli.flow.environment import settings_for

    with settings_for(config, sandbox=True) as settings, session_of(settings) as session:
        yield session


def _check(resolve: str | None, task_id: str | None) -> None:
    if resolve is not None and resolve not in WAYS:
        raise BadInput(f'--resolve: "{resolve}". Legal: {", ".join(WAYS)}.')
    if (task_id is not None) != (resolve == "found"):
        raise BadInput(
            "--resolve found needs --task-id ID, the provider's task as its console names it; nothing else takes one."
        )
    if task_id is not None and not (0 < len(task_id) <= LONGEST_TASK_ID and task_id.isprintable()):
        raise BadInput(f"--task-id: not a provider task id: {task_id[:60]!r}.")


# -- the list ------------------------------------------------------------------------------------------------------


def _page(attempts: list[UnknownAttempt], *, sandbox: bool) -> list[Line]:
    if not attempts:
        return [("Nothing is unknown: every attempt's outcome is on record.", "")]
    if len(attempts) <= TOLD_ONE_BY_ONE:
        return [line for attempt in attempts for line in _told(attempt, sandbox=sandbox)]
    return _table(attempts, sandbox=sandbox)


def _told(attempt: UnknownAttempt, *, sandbox: bool) -> list[Line]:
    why = (attempt.message or attempt.code or "no readable answer came").rstrip(".")
    sent = f"{attempt.key} was sent to {attempt.provider} at {day_and_time(attempt.sent_at)}, outcome not known"
    return [
        (f"held: key {sent}: {why}.", "yellow"),
        ("  It may be paid; it is not sent again by itself.", ""),
        ("  Look in your dashboard, then one of these:", ""),
        *_choices(attempt, _price(attempt), sandbox=sandbox),
    ]


def _choices(attempt: UnknownAttempt, price: str, *, sandbox: bool) -> list[Line]:
    """Commands to paste, each on its own line."""
    which = ("unknown", attempt.batch, *keyed(attempt.key), "--resolve")
    ways = {
        "its task is there, and has this id": ("found", "--task-id", "ID"),
        f"make it again, and pay again ({price})": ("pay-again",),
        "count it as paid and lost": ("give-up",),
    }
    told = {why: command(*which, *way, sandbox=sandbox) for why, way in ways.items()}
    return [line for why, what in told.items() for line in ((f"    {why}:", ""), (f"      {what}", ""))]


def _price(attempt: UnknownAttempt) -> str:
    return money(attempt.money) if attempt.price_known else "price not known"


def _table(attempts: list[UnknownAttempt], *, sandbox: bool) -> list[Line]:
    head = ("BATCH", "KEY", "SENT", "PROVIDER", "ACCOUNT", "IMAGES", "AT MOST", "WHY")
    rows = [
        (a.batch, a.key, day_and_time(a.sent_at), a.provider, a.account, str(len(a.slots)), _price(a), a.code or "")
        for a in attempts
    ]
    first, *lines = aligned([head, *rows], right=frozenset({5, 6}))
    return [(first, "bold"), *((line, "") for line in lines), ("", ""), *_summary(attempts, sandbox=sandbox)]


def _summary(attempts: list[UnknownAttempt], *, sandbox: bool) -> list[Line]:
    total = f"{count(len(attempts), 'attempt')}, {at_most(attempts)}"
    return [
        (f"{total}. They may be paid; none is sent again by itself.", "yellow"),
        ("Look in your dashboard, then one of these, as for the first:", ""),
        *_choices(attempts[0], _price(attempts[0]), sandbox=sandbox),
        *_of_all(attempts, sandbox=sandbox),
    ]


def _of_all(attempts: list[UnknownAttempt], *, sandbox: bool) -> Iterator[Line]:
    """The command that resolves all attempts of a batch alike."""
    for name, alike in Counter(attempt.batch for attempt in attempts).items():
        if alike > 1:
            yield f"The same for all {alike:,} of batch {name}, as to count them as paid and lost:", ""
            yield f"      {command('unknown', name, '--resolve', 'give-up', sandbox=sandbox)}", ""


def at_most(attempts: list[UnknownAttempt]) -> str:
    """The money at risk, as far as prices are known."""
    unpriced = sum(not attempt.price_known for attempt in attempts)
    more = f" and {unpriced:,} of unknown price" if unpriced else ""
    return f"at most {money(money_of(attempts))}{more}"


# -- a person's word -----------------------------------------------------------------------------------------------


def _resolve(
    session: LedgerSession, attempts: list[UnknownAttempt], how: str, task_id: str | None, *, yes: bool
) -> int:
    if not attempts:
        note("Nothing to resolve: nothing is unknown.")
        return 0
    poll_path = None
    if how == "pay-again":
        _consent(session, attempts, yes=yes)
    if task_id is not None:
        if len({(attempt.batch, attempt.key) for attempt in attempts}) > 1:
            raise BadInput(
                f"--resolve found adopts one task; {len(attempts)} attempts are unknown. Name one: BATCH --key K."
            )
        found, poll_path = _ask_about(session, attempts, task_id, yes=yes)
        attempts = [found]
    now = time.time() + session.ledger.clock_offset()
    settled = session.ledger.unknowns.resolve(
        [attempt.attempt_id for attempt in attempts], how, now, task_id, poll_path
    )
    for batch, number in Counter(attempt.batch for attempt in attempts).items():
        put_on_log(session, f"unknown {how}", batch, {"attempts": number})
    note(_done(attempts, settled, how, session))
    return settled


def _ask_about(
    session: LedgerSession, attempts: list[UnknownAttempt], task_id: str, *, yes: bool
) -> tuple[UnknownAttempt, str | None]:
    """The attempt whose provider knows the task, and where it is asked about, if not at the usual place.

    A row's attempts at one account are alike: the same request, sent again. The first is taken.

    Raises:
        BadInput: No provider knows the task.
        LightfastError: A provider could not be asked, and `yes` is False.
    """
    from worker.recovery.provider_task import call_for, who_knows

    chosen, unasked = asyncio.run(who_knows(session.settings, attempts, task_id))
    if chosen is None and not unasked:
        providers = " and ".join(sorted({attempt.provider for attempt in attempts}))
        raise BadInput(f"--task-id {task_id}: {providers} knows no such task. Nothing was changed.")
    if chosen is None:
        chosen, problem = unasked[0]
        if not yes:
            raise LightfastError(
                f"--task-id {task_id}: {chosen.provider} could not be asked about it: "
                f"{problem.message or problem.code}. Nothing was changed. --yes adopts it unasked."
            )
    return chosen, call_for(session.settings, chosen, task_id).path if chosen.edits else None


def _consent(session: LedgerSession, attempts: list[UnknownAttempt], *, yes: bool) -> None:
    """Asks for the money, and notes what was agreed to, so that `run` does not ask for it again."""
    batches = {name: find_batch(session.ledger, name) for name in {attempt.batch for attempt in attempts}}
    cancelled = [name for name, batch in batches.items() if batch.state == "cancelled"]
    if cancelled:
        raise BadInput([cancelled_for_good(name, session.ledger.batches.other_name(name)) for name in cancelled])
    images = sum(len(attempt.slots) for attempt in attempts)
    unpriced = sum(len(attempt.slots) for attempt in attempts if not attempt.price_known)
    again = f"{count(images, 'image')} of {count(len(attempts), 'attempt')} to make again"
    note(f"{again}: {at_most(attempts)}, on top of what may be paid already.")
    sandbox = all(batch.sandbox for batch in batches.values())
    agree(money_of(attempts), unpriced=unpriced, yes=yes, sandbox=sandbox, command="--resolve pay-again")
    for name, batch in batches.items():
        more = money_of([attempt for attempt in attempts if attempt.batch == name])
        session.ledger.batches.agree(name, batch.agreed + more, batch.budget)


def _done(attempts: list[UnknownAttempt], settled: int, how: str, session: LedgerSession) -> str:
    what = {
        "pay-again": f"made again; {at_most(attempts)} counts as spent, for it may be",
        "give-up": f"given up; {at_most(attempts)} counts as spent, for it may be",
        "found": "adopted: its task is asked about next",
    }[how]
    at_work = not session.ledger.is_sqlite or session.ledger.is_held()
    who = "Who is at work goes on with it." if at_work else "The same `lightfast run` goes on with it."
    return f"{count(settled, 'attempt')} {what}.{'' if how == 'give-up' else ' ' + who}"
