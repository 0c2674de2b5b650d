"""How the accounts stand: their limits, how far these are used, and what they wait for; as a document, too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from jobs.formatting import day_and_time, utc
from jobs.ledger.accounts.values import Account
from jobs.policy.adaptive_limits import FIRST_IN_FLIGHT, FIRST_POLLS_PER_SECOND, FIRST_SUBMITS_PER_SECOND
from jobs.results.documents import day_document, failing_document, stop_document

if TYPE_CHECKING:
    from jobs.ledger import Ledger
    from jobs.ledger.accounts.values import DayLimit, Use
    from jobs.ledger.accounts.worker_values import EmergencyStop
    from jobs.ledger.claims.values import Failing
    from jobs.settings.model import AccountSettings, Settings

#: What may be declared of an account.
LIMITS = ("submits_per_second", "polls_per_second", "max_in_flight")


class AccountsReport(NamedTuple):
    """How the accounts stand."""

    known: list[Account]
    days: Sequence[DayLimit]
    now: float
    uses: Mapping[str, Use]  # by account; none before the first run
    failing: tuple[Failing, ...] = ()  # for what nothing more is bought, since nothing of it can be stored
    stop: EmergencyStop | None = None


def read_accounts(ledger: Ledger, settings: Settings, now: float) -> AccountsReport:
    """What the ledger says of them; before any run, what the settings declare. `now`: the ledger's clock."""
    return AccountsReport(
        ledger.accounts.all() or declared_accounts(settings),
        ledger.accounts.daily_budgets(now),
        now,
        ledger.accounts.usage(now),
        ledger.claims.failing(now),
        ledger.emergency_stop.current(),
    )


def declared_accounts(settings: Settings) -> list[Account]:
    """The accounts of the settings, for a ledger that no run has made yet."""
    return [
        Account(
            name=name,
            provider=account.provider,
            submits_per_second=account.submits_per_second or FIRST_SUBMITS_PER_SECOND,
            polls_per_second=account.polls_per_second or FIRST_POLLS_PER_SECOND,
            max_in_flight=account.max_in_flight or int(FIRST_IN_FLIGHT),
            in_flight=0,
            paused_until=None,
            paused_code=None,
            paused_message=None,
            throttled=0,
        )
        for name, account in sorted(settings.accounts.items())
    ]


def used_part(account: Account, use: Use) -> float:
    """Submits of the last minute, as a share of what the rate allows."""
    return use.sent / (60 * account.submits_per_second)


def accounts_document(report: AccountsReport, settings: Settings) -> dict[str, object]:
    """The same for programs."""
    declared = settings.accounts
    return {
        "accounts": [
            _account_document(one, declared.get(one.name), report.uses.get(one.name), report.now)
            for one in report.known
        ],
        "daily_budgets": [day_document(limit) for limit in report.days],
        "nothing_stored": [failing_document(each) for each in report.failing],
        "stopped": report.stop and stop_document(report.stop),
    }


def _account_document(
    account: Account, declared: AccountSettings | None, use: Use | None, now: float
) -> dict[str, object]:
    until = account.cooldown_until(now)
    return {
        "name": account.name,
        "provider": account.provider,
        "submits_per_second": account.submits_per_second,
        "polls_per_second": account.polls_per_second,
        "max_in_flight": account.max_in_flight,
        "declared": [] if declared is None else [name for name in LIMITS if getattr(declared, name) is not None],
        "in_flight": account.in_flight,
        "throttled": account.throttled,
        "paused": until is not None,
        "paused_until": None if until is None or math.isinf(until) else day_and_time(until),
        "paused_code": account.paused_code,
        "paused_message": account.paused_message,
        "polls": account.polls_made,
        "polls_a_task": account.polls_per_task,
        "found_after_seconds": account.mean_lateness,
        **(_use_document(account, use) if use else {}),
    }


def _use_document(account: Account, use: Use) -> dict[str, object]:
    return {
        "submits_last_minute": use.sent,
        "used": round(used_part(account, use), 4),
        "waiting_rows": use.waiting,
        "bound_by": use.bound_by.value,
        "submits_per_second_top": use.rate_top,
        "max_in_flight_top": use.in_flight_top,
        "called_back_at": None if use.called_back_at is None else utc(use.called_back_at),
    }
