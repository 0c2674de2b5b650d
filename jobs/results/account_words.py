"""Accounts and their daily budgets, in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from jobs.formatting import day_and_minute, day_and_time, duration, here, money

if TYPE_CHECKING:
    from jobs.ledger.accounts.values import Account, DayLimit, Use


def day_line(limit: DayLimit) -> str:
    """A daily budget, and how far it is used."""
    whose = f"account {limit.account}" if limit.account else "all accounts"
    spent = f"{money(limit.spent)} of daily_budget {money(limit.budget)}"
    return f"today, {whose}: {spent}; anew at {day_and_minute(limit.again_at)}{here(limit.again_at)}"


def is_paused(account: Account, now: float) -> bool:
    """Whether it takes no submits now."""
    return account.cooldown_until(now) is not None


def state_of(account: Account, now: float) -> str:
    """Awake, or until when and why it rests."""
    if not is_paused(account, now):
        return "awake"
    until = account.cooldown_until(now) or now
    how_long = (
        "until a person helps"
        if math.isinf(until)
        else f"until {day_and_time(until)}{here(until)}, {duration(until - now)} more"
    )
    return f"paused {how_long}: {account.paused_message or account.paused_code}"


def bound_words(use: Use) -> str:
    """Which limit keeps the account from sending more, if rows wait for it."""
    words = {"rate": ", held up by its rate", "in_flight": ", held up by what is in flight"}
    return words.get(use.bound_by, "") if use.waiting else ""
