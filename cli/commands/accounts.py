"""`lightfast accounts`: the limits of each API key, how far they are used, and what it waits for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flow.options import Config, Json, Sandbox
from cli.flow.session import LedgerSession, note, put_on_log, session_of, show, show_json
from cli.flow.settings import NOWHERE, read_settings
from cli.output.wording import aligned
from jobs.command_lines import command
from jobs.errors import BadInput
from jobs.formatting import duration
from jobs.results import copy_stops, emergency_stop
from jobs.results.account_report import AccountsReport, accounts_document, declared_accounts, read_accounts, used_part
from jobs.results.account_words import bound_words, day_line, is_paused, state_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.ledger.accounts.values import Account, Use
    from jobs.ledger.claims.values import Failing
    from jobs.settings.model import AccountSettings as Declared
    from jobs.settings.model import Settings

Probe = Annotated[str | None, typer.Option("--probe", metavar="NAME", help="Wake this paused account now.")]
Line = tuple[str, str]

HEADINGS = ("ACCOUNT", "PROVIDER", "SUBMITS/S", "USED", "IN FLIGHT", "WAITING", "429s", "STATE")
FOUND = ("", "POLLS/S", "POLLS", "A TASK", "FOUND AFTER", "CALLED BACK")


def accounts(*, probe: Probe = None, json: Json = False, config: Config = None, sandbox: Sandbox = False) -> int:
    """Limits, use and pauses of each account."""
    settings = read_settings(config, sandbox_url=NOWHERE if sandbox else None)
    path = settings.database_path
    if probe is None and path is not None and not path.exists():
        _tell(AccountsReport(declared_accounts(settings), [], time.time(), {}), settings, json=json)
        return 0
    with session_of(settings) as session:
        if probe is not None:
            _wake(session, probe)
        now = time.time() + session.ledger.clock_offset()
        _tell(read_accounts(session.ledger, settings, now), settings, json=json)
    return 0


def _tell(standing: AccountsReport, settings: Settings, *, json: bool) -> None:
    if json:
        show_json(accounts_document(standing, settings))
    else:
        show(_page(standing, settings), sandbox=settings.is_sandbox)


def _wake(session: LedgerSession, name: str) -> None:
    from jobs.results.rows import near

    names = [account.name for account in session.ledger.accounts.all()]
    if name not in names:
        raise BadInput(f"--probe: there is no account {name!r}. {near(name, names)}")
    session.ledger.accounts.wake(name, time.time() + session.ledger.clock_offset())
    put_on_log(session, "account probe", name)
    note(f"{name} is awake: the next submit is the probe. If it is refused, the account pauses again.")


def _page(standing: AccountsReport, settings: Settings) -> list[Line]:
    known, days, now, uses, failing, stop = standing
    if not known:
        return [
            ("No account: no provider has a key in the settings or the environment. lightfast doctor says more.", "")
        ]
    rows = [
        _row(account, settings.accounts.get(account.name), uses.get(account.name), now, failing) for account in known
    ]
    head, *lines = aligned([HEADINGS, *rows], right=frozenset(range(2, 7)))
    styles = ["yellow" if is_paused(account, now) else "" for account in known]
    told = [(line, style) for line, style in zip(lines, styles, strict=True)]
    if any("*" in cell for row in rows for cell in row):
        told.append(("* not declared: learnt so far, from a cautious start", "dim"))
    if uses and len({account.provider for account in known}) < len(known):
        told.append(("rows wait for a provider, and each of its accounts shows the same rows", "dim"))
    today = [(day_line(limit), "") for limit in days]
    found = _found(known, settings, standing)
    held_up = [
        (f"{'  ' if at else ''}{told}", "red")
        for each in failing
        for at, told in enumerate(copy_stops.lines(each, sandbox=settings.is_sandbox))
    ]
    held = [(emergency_stop.told(stop, sandbox=settings.is_sandbox), "red")] if stop else []
    advice = _advice(known, now, sandbox=settings.is_sandbox)
    return [*held, (head, "bold"), *told, *held_up, *found, *today, *advice]


def _row(
    account: Account, declared: Declared | None, use: Use | None, now: float, failing: Sequence[Failing]
) -> tuple[str, ...]:
    return (
        account.name,
        account.provider,
        _limit(account.submits_per_second, declared.submits_per_second if declared else None),
        f"{used_part(account, use):.0%}" if use else "",
        f"{account.in_flight} of {_limit(account.max_in_flight, declared.max_in_flight if declared else None)}",
        f"{use.waiting:,}" if use else "",
        f"{account.throttled:,}",
        state_of(account, now) + ("" if is_paused(account, now) else _held_up(account, use, failing)),
    )


def _held_up(account: Account, use: Use | None, failing: Sequence[Failing]) -> str:
    if any(each.account in (None, account.name) for each in failing):
        return ", submits wait: see below"
    return bound_words(use) if use else ""


def _found(known: list[Account], settings: Settings, standing: AccountsReport) -> list[Line]:
    """Polls a task, and how late ends of tasks were found. Nothing before the first task was found done."""
    rows = [_found_row(one, settings.accounts.get(one.name), standing) for one in known if one.polls_made]
    if not rows:
        return []
    head, *lines = aligned([FOUND, *rows], right=frozenset({1, 2, 3}))
    return [("", ""), (head, "bold"), *((line, "") for line in lines)]


def _found_row(account: Account, declared: Declared | None, standing: AccountsReport) -> tuple[str, ...]:
    polls, late = account.polls_per_task, account.mean_lateness
    use = standing.uses.get(account.name)
    called = use.called_back_at if use else None
    return (
        account.name,
        _limit(account.polls_per_second, declared.polls_per_second if declared else None),
        f"{account.polls_made:,}",
        "" if polls is None else f"{polls:.2f}",
        "" if late is None else f"{late:.1f} s on average",
        "" if called is None else f"{duration(standing.now - called)} ago",
    )


def _limit(used: float, declared: float | None) -> str:
    return f"{round(used, 2):g}{' ' if declared is not None else '*'}"


def _advice(known: list[Account], now: float, *, sandbox: bool) -> list[Line]:
    paused = [account.name for account in known if is_paused(account, now)]
    return [(f"When it is fixed:  {command('accounts', '--probe', name, sandbox=sandbox)}", "") for name in paused]
