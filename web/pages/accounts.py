"""Accounts: their limits, declared or learnt, how far these are used, and what they wait for."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from jobs.formatting import duration
from jobs.ledger.accounts.values import Account, Use
from jobs.results.account_report import AccountsReport, read_accounts, used_part
from jobs.results.account_words import bound_words, day_line, is_paused, state_of
from jobs.results.charts import account_history
from jobs.results.sentences import failing_line, next_try_line
from jobs.settings.model import AccountSettings
from web.api.operations import probe_account
from web.pages.charts import charts_of_account
from web.pages.frame import PageRoute, go, page, rendered
from web.pages.live import Version, answer_look
from web.pages.shared_text import SharedText
from web.pages.visitors import FormOfOperator, Operates, PagesState, SeesAll, pages_of

routes = APIRouter(route_class=PageRoute, include_in_schema=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountLine:
    """An account as it stands."""

    account: Account
    state: str
    is_paused: bool
    rate: str
    in_flight: str
    used: float | None  # of its rate in the last minute, 0 to 1
    waiting: int | None  # rows
    bound: str  # which limit holds it up
    found_after: str
    called_back: str


@routes.get("/accounts")
def show_accounts(request: Request, visitor: SeesAll) -> Response:
    """The accounts."""
    return page(request, visitor, "accounts.html.j2", part=_part(pages_of(request)).text)


@routes.get("/accounts/live")
def look_at_accounts(request: Request, _visitor: SeesAll, v: Version = "") -> Response:
    """The same alone, if it is another than the one of that version."""
    return answer_look(request, _part(pages_of(request)), v)


@routes.get("/accounts/{name}/probe")
def ask_probe(request: Request, visitor: Operates, name: str) -> Response:
    """Whether it is meant."""
    return page(request, visitor, "probe.html.j2", name=name)


@routes.post("/accounts/{name}/probe")
def probe(request: Request, form: FormOfOperator, name: str) -> Response:
    """The next submit tries the account."""
    pages = pages_of(request)
    probe_account(pages.door, form.by.token, name)
    pages.texts.forget()
    return go("/accounts")


def _part(pages: PagesState) -> SharedText:
    return pages.texts.get("accounts", lambda: _rendered(pages))


def _rendered(pages: PagesState) -> str:
    report = read_accounts(pages.door.ledger, pages.door.settings, pages.door.now)
    declared, over_time = pages.door.settings.accounts, pages.door.ledger.accounts.minutes(report.now)
    charts = [
        chart
        for each in report.known
        for history in (account_history(over_time.get(each.name, ()), report.now),)
        for chart in charts_of_account(each.name, history, report.now)
    ]
    return rendered(
        "accounts_part.html.j2",
        lines=[_line(report, each, declared.get(each.name), report.uses.get(each.name)) for each in report.known],
        charts=charts,
        has_refusals=any(each.trouble for each in charts),
        days=[day_line(limit) for limit in report.days],
        failing=[f"{failing_line(each)}; {next_try_line(each)}" for each in report.failing],
    )


def _line(report: AccountsReport, account: Account, declared: AccountSettings | None, use: Use | None) -> AccountLine:
    now, late, called = report.now, account.mean_lateness, use.called_back_at if use else None
    most = _limit(account.max_in_flight, declared.max_in_flight if declared else None)
    return AccountLine(
        account=account,
        state=state_of(account, now),
        is_paused=is_paused(account, now),
        rate=_limit(account.submits_per_second, declared.submits_per_second if declared else None),
        in_flight=f"{account.in_flight:,} of {most}",
        used=used_part(account, use) if use else None,
        waiting=use.waiting if use else None,
        bound=bound_words(use) if use else "",
        found_after="" if late is None else f"{late:.1f} s",
        called_back="" if called is None else f"{duration(now - called)} ago",
    )


def _limit(used: float, declared: float | None) -> str:
    return f"{round(used, 2):g}{'' if declared is not None else ' (learnt)'}"
