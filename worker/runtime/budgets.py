"""Daily budgets of these settings beside those that are kept: workers keep what the last start has told the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.runtime.limits import budget_of

if TYPE_CHECKING:
    from jobs.ledger import Ledger
    from jobs.settings.model import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Differing:
    """A daily budget that is another in the ledger than here. Micro-dollars; None: no budget."""

    account: str | None  # None: of all accounts together
    here: int | None
    kept: int | None


def differing(settings: Settings, ledger: Ledger, now: float) -> list[Differing]:
    """Every daily budget that differs; none where no process has told the ledger of its settings yet."""
    known = {account.name for account in ledger.accounts.all()}
    if not known:
        return []
    kept = {limit.account: limit.budget for limit in ledger.accounts.daily_budgets(now)}
    here: dict[str | None, int | None] = {None: budget_of(settings.daily_budget)}
    here |= {name: budget_of(account.daily_budget) for name, account in settings.accounts.items()}
    return [
        Differing(account=whose, here=budget, kept=kept.get(whose))
        for whose, budget in here.items()
        if budget != kept.get(whose) and (whose is None or whose in known or budget is not None)
    ]
