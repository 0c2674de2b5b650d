"""What must hold of every claim of submits, told from the ledger it was made in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobs.policy.liveness import SILENT_AFTER

from .turns import Turns

if TYPE_CHECKING:
    from jobs.ledger.claims.values import Claim

    from .process import Process
    from .world import World

_ACCOUNT = (
    "SELECT id, COALESCE(submits_per_second, learnt_rate), COALESCE(max_in_flight, learnt_in_flight), paused_until"
    " FROM accounts WHERE name = ?"
)
#: A silent worker's submits hold no place; silence counts from the asker's own last sign of life.
_FLYING = (
    "SELECT COUNT(*) FROM attempts WHERE account_id = :account AND (state = 'running' OR state = 'submitting'"
    " AND (holder IS NULL OR holder NOT IN (SELECT name FROM workers WHERE seen_at <"
    " COALESCE((SELECT seen_at FROM workers WHERE name = :asker), :moment) - :silent)))"
)
_HELD_UP = (
    "SELECT batches.id, batches.dest FROM batches JOIN destination_troubles USING (dest) WHERE until > ?"
    " ORDER BY batches.id"
)


class Claims:
    """Looks at the ledger before and after each claim."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._turns = Turns(world)
        self.highest: dict[str, tuple[float, float]] = {}  # account -> rate, places that ever stood in a claim's way

    def begins(self, account: str, now: float) -> dict[int, float]:
        """Who has work, just before a claim."""
        return self._turns.backlog(account, now) if len(self._world.batches) > 1 else {}

    def is_lost(self, account: str) -> None:
        """Its commit ended without a word."""
        self._turns.forget(account)

    def made(self, account: str, process: Process | None, before: dict[int, float], now: float, claim: Claim) -> None:
        """A claim is on record."""
        if not claim.intents:
            return
        number, rate, places, rest = self._world.raw.execute(_ACCOUNT, (account,)).fetchone()
        most = self.highest.get(account, (0.0, 0.0))
        self.highest[account] = max(most[0], rate), max(most[1], places)
        fault = self._world.watch.fault
        if rest is not None and rest > now:
            fault("an account that rests is left alone", f"{account} rests for {rest - now:.1f} s more")
        flying = self._flying(number, process, now)
        if flying > int(places):
            fault("no more is claimed than may be in flight", f"{account}: {flying} of {places}")
        held_up = dict(self._world.raw.execute(_HELD_UP, (now,)).fetchall())
        sent = sorted({intent.batch_id for intent in claim.intents} & set(held_up))
        if sent:
            fault("nothing is paid for a destination in trouble", f"batch {sent[0]}, {held_up[sent[0]]}")
        told = self._turns.claimed(account, before, now, claim)
        if told:
            fault("batches share an account by weight", told)

    def _flying(self, number: int, process: Process | None, now: float) -> int:
        asker: Any = process.name if process else None
        asked = {"account": number, "asker": asker, "moment": now, "silent": SILENT_AFTER}
        return int(self._world.raw.execute(_FLYING, asked).fetchone()[0])
