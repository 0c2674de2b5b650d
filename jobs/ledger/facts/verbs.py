"""The ledger's verbs that record what happened. Each is one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.facts import Fact
from jobs.ledger.claims.values import Failing
from jobs.ledger.database.engine import Database
from jobs.ledger.facts import failover, leases, record
from jobs.ledger.facts.leases import SweepResult


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordEffects:
    """What recording changed: the lanes that may have work now, and for what submits wait from now on, or go on."""

    wakeups: frozenset[str]
    stopped: tuple[Failing, ...] = ()
    mended: tuple[Failing, ...] = ()


class FactVerbs:
    """`ledger.facts`: what happened, whatever a lease or a state says by then."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.routes: failover.Routes | None = None  # set by who knows the catalogue: where --failover may lead
        self._looked_at: dict[int, int] = {}

    def record(self, facts: Sequence[Fact]) -> RecordEffects:
        """Records facts. Recording them twice is harmless."""
        news = self._database.planned_once.write(record.record, facts, self.routes)
        return RecordEffects(wakeups=frozenset(news.wakeups), stopped=tuple(news.stopped), mended=tuple(news.mended))

    def sweep(self, now: float) -> SweepResult:
        """Submits whose lease ended without an outcome become unknown; tells which lanes have work."""
        return self._database.write(leases.sweep, now)

    def fail_over(self, now: float) -> int:
        """Rows that wait for a provider in long trouble go elsewhere, where their batch allows it; returns how many."""
        if self.routes is None:
            return 0
        return self._database.write(failover.move_waiting, now, self.routes, self._looked_at)
