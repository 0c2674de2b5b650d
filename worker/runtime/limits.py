"""The limits and budgets of accounts, as settings declare them and as the ledger takes them."""

from __future__ import annotations

import hashlib

from jobs.ledger.accounts.values import AccountLimits
from jobs.settings.model import AccountSettings, Settings
from providers.types import MICROS


def budget_of(dollars: float | None) -> int | None:
    """A budget of the settings in micro-dollars; None where there is none. 0 is a budget: nothing may be spent."""
    return None if dollars is None else round(dollars * MICROS)


def _mark_of(account: AccountSettings) -> str:
    """Tells one key from another, and gives neither away."""
    return hashlib.sha256(f"{account.provider} {account.api_key.get_secret_value()}".encode()).hexdigest()[:16]


def limits_of(settings: Settings) -> list[AccountLimits]:
    """What the settings declare of each account, as the ledger takes it."""
    return [
        AccountLimits(
            name=name,
            provider=account.provider,
            submits_per_second=account.submits_per_second,
            polls_per_second=account.polls_per_second,
            max_in_flight=account.max_in_flight,
            key_mark=_mark_of(account),
            daily_budget=budget_of(account.daily_budget),
        )
        for name, account in settings.accounts.items()
    ]
