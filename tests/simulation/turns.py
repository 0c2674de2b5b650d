"""Whether batches that share an account are served by their weights, while each of them has work and may spend."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.ledger.claims.values import Claim

    from .world import World

#: Batches with work at an account that may spend without regard to money, and their weights.
_BACKLOG = (
    "SELECT batches.id, weight FROM batches WHERE state = 'active' AND budget IS NULL"
    " AND dest NOT IN (SELECT dest FROM destination_troubles WHERE until > :moment)"
    " AND EXISTS (SELECT 1 FROM jobs WHERE jobs.batch_id = batches.id AND jobs.state = 'ready'"
    " AND jobs.position IS NOT NULL AND jobs.provider = :provider AND ready_at <= :moment) ORDER BY batches.id"
)


class Turns:
    """Counts what two batches were given for as long as both always had work, account by account.

    By start-time fair queueing they never differ by more than one submit of each, each by its weight.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._given: dict[str, dict[tuple[int, int], Counter[int]]] = defaultdict(dict)

    def forget(self, account: str) -> None:
        """Nobody heard what was given there."""
        self._given[account].clear()

    def backlog(self, account: str, now: float) -> dict[int, float]:
        """Who has work there, and with what weight. Nobody for sure where a day's money may stand in somebody's way."""
        settings = self._world.settings
        if settings.daily_budget or settings.accounts[account].daily_budget:
            return {}
        asked = {"provider": settings.accounts[account].provider, "moment": now}
        return dict(self._world.raw.execute(_BACKLOG, asked).fetchall())

    def claimed(self, account: str, before: dict[int, float], now: float, claim: Claim) -> str | None:
        """What is wrong with a claim; `before`: who had work when it was made."""
        after = self.backlog(account, now) if len(before) > 1 else {}
        both = {pair: Counter[int]() for pair in combinations([one for one in before if one in after], 2)}
        given = self._given[account] = {pair: self._given[account].get(pair, none) for pair, none in both.items()}
        told = None
        for (one, other), counted in given.items():
            counted.update(intent.batch_id for intent in claim.intents if intent.batch_id in (one, other))
            apart = counted[one] / before[one] - counted[other] / before[other]
            if abs(apart) > 1 / before[one] + 1 / before[other] + 1e-6:
                told = f"{account}: {dict(counted)} to batches of weight {before[one]} and {before[other]}"
        return told
