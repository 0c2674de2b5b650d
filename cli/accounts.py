"""`lightfast accounts`: the limits of each API key, how far they are used, and what it waits for."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Annotated

import typer

from cli.commands import command
from cli.options import Config, Json, Sandbox
from cli.reading import Desk, note, open_desk, show, show_json
from cli.wording import aligned, day_and_minute, day_and_time, money, span
from jobs.errors import BadInput
from jobs.result_files import utc
from providers.dialect import MICROS

if TYPE_CHECKING:
    from jobs.ledger.values import Account, DayLimit
    from jobs.settings import Account as Declared

Probe = Annotated[str | None, typer.Option("--probe", metavar="NAME", help="Wake this paused account now.")]
Line = tuple[str, str]

HEADINGS = ("ACCOUNT", "PROVIDER", "SUBMITS/S", "POLLS/S", "IN FLIGHT", "429s", "STATE")


def accounts(*, probe: Probe = None, json: Json = False, config: Config = None, sandbox: Sandbox = False) -> int:
    """Limits, use and pauses of each account."""
    with open_desk(config, sandbox=sandbox) as desk:
        if probe is not None:
            _wake(desk, probe)
        known = desk.ledger.accounts()
        now = time.time() + desk.ledger.clock_offset()
        if json:
            told = [_document(account, desk.settings.accounts.get(account.name)) for account in known]
            days = [day_document(limit) for limit in desk.ledger.daily_budgets(now)]
            show_json({"accounts": told, "daily_budgets": days})
        else:
            show(_page(known, desk, now), sandbox=sandbox)
    return 0


def _wake(desk: Desk, name: str) -> None:
    from jobs.results import near  # noqa: PLC0415  only for a mistyped name

    names = [account.name for account in desk.ledger.accounts()]
    if name not in names:
        raise BadInput(f"--probe: there is no account {name!r}. {near(name, names)}")
    desk.ledger.wake_account(name, time.time() + desk.ledger.clock_offset())
    note(f"{name} is awake: the next submit is the probe. If it is refused, the account pauses again.")


def _page(known: list[Account], desk: Desk, now: float) -> list[Line]:
    if not known:
        return [("No account has worked on this ledger yet.", "")]
    rows = [_row(account, desk.settings.accounts.get(account.name), now) for account in known]
    head, *lines = aligned([HEADINGS, *rows], right=frozenset({2, 3, 4, 5}))
    styles = ["yellow" if is_paused(account, now) else "" for account in known]
    told = [(line, style) for line, style in zip(lines, styles, strict=True)]
    if any("*" in cell for row in rows for cell in row):
        told.append(("* not declared: learnt so far, from a cautious start", "dim"))
    today = [(day_line(limit), "") for limit in desk.ledger.daily_budgets(now)]
    return [(head, "bold"), *told, *today, *_advice(known, now, sandbox=desk.settings.is_sandbox)]


def day_line(limit: DayLimit) -> str:
    """A daily budget, and how far it is used."""
    whose = f"account {limit.account}" if limit.account else "all accounts"
    spent = f"{money(limit.spent)} of daily_budget {money(limit.budget)}"
    return f"today, {whose}: {spent}; anew at {day_and_minute(limit.again_at)}"


def day_document(limit: DayLimit) -> dict[str, object]:
    """The same, for programs."""
    return {
        "account": limit.account,
        "budget_usd": limit.budget / MICROS,
        "spent_usd": limit.spent / MICROS,
        "again_at": utc(limit.again_at),
    }


def _row(account: Account, declared: Declared | None, now: float) -> tuple[str, ...]:
    return (
        account.name,
        account.provider,
        _limit(account.submits_per_second, declared.submits_per_second if declared else None),
        _limit(account.polls_per_second, declared.polls_per_second if declared else None),
        f"{account.in_flight} of {_limit(account.max_in_flight, declared.max_in_flight if declared else None)}",
        f"{account.throttled:,}",
        state_of(account, now),
    )


def _limit(used: float, declared: float | None) -> str:
    return f"{used:g}{' ' if declared is not None else '*'}"


def is_paused(account: Account, now: float) -> bool:
    """Whether it takes no submits now."""
    return account.paused_until is not None and account.paused_until > now


def state_of(account: Account, now: float) -> str:
    """Awake, or until when and why it rests."""
    if not is_paused(account, now):
        return "awake"
    until = account.paused_until or now
    how_long = "until a person helps" if math.isinf(until) else f"until {day_and_time(until)}, {span(until - now)} more"
    return f"paused {how_long}: {account.paused_message or account.paused_code}"


def _advice(known: list[Account], now: float, *, sandbox: bool) -> list[Line]:
    paused = [account.name for account in known if is_paused(account, now)]
    return [(f"When it is mended:  {command(f'accounts --probe {name}', sandbox=sandbox)}", "") for name in paused]


def _document(account: Account, declared: Declared | None) -> dict[str, object]:
    until = account.paused_until
    return {
        "name": account.name,
        "provider": account.provider,
        "submits_per_second": account.submits_per_second,
        "polls_per_second": account.polls_per_second,
        "max_in_flight": account.max_in_flight,
        "declared": [] if declared is None else [name for name in _LIMITS if getattr(declared, name) is not None],
        "in_flight": account.in_flight,
        "throttled": account.throttled,
        "paused": until is not None,
        "paused_until": None if until is None or math.isinf(until) else day_and_time(until),
        "paused_code": account.paused_code,
        "paused_message": account.paused_message,
    }


_LIMITS = ("submits_per_second", "polls_per_second", "max_in_flight")
