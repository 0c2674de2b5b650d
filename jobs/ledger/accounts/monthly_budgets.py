"""What each schedule has cost in each UTC month, and what its monthly budget leaves.

An attempt counts in the month of its intent, whoever asked for it; what is refunded is taken off that month. Locks are
taken in one order: accounts, the ledger's row, batches, schedules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from sqlalchemy import Connection, bindparam, func, insert, select, update

from jobs.formatting import moment
from jobs.ledger.accounts.values import PeriodLimit
from jobs.ledger.database.schema import batches, schedule_months, schedules
from jobs.ledger.database.statements import among, fetch, fetch_value, run

#: What moves on the months' rows: (batch's id, month) -> micro-dollars.
Moved = Counter[tuple[int, int]]
_MONTHS = 12


def month_of(at: float) -> int:
    """The UTC month of a time, counted from the year 0."""
    day = moment(at)
    return day.year * _MONTHS + day.month - 1


def next_month(at: float) -> float:
    """When the UTC month after that of `at` begins."""
    year, month = divmod(month_of(at) + 1, _MONTHS)
    return datetime(year, month + 1, 1, tzinfo=UTC).timestamp()


class LeftToSpend:
    """What the month leaves to schedules, while a claim divides it among their batches."""

    def __init__(self, tx: Connection, schedule_ids: Iterable[int | None], now: float) -> None:
        # In one order, as everybody takes these locks.
        wanted = sorted({each for each in schedule_ids if each is not None})
        self._left = {each: left(tx, each, now) for each in wanted}

    def of(self, schedule_id: int | None) -> int | None:
        """Micro-dollars; None: no monthly budget."""
        return None if schedule_id is None else self._left[schedule_id]

    def take(self, schedule_id: int | None, cost: int) -> None:
        """So much of it is taken."""
        if schedule_id is not None and (before := self._left[schedule_id]) is not None:
            self._left[schedule_id] = before - cost


def left(tx: Connection, schedule_id: int, now: float) -> int | None:
    """Micro-dollars that the month leaves to a schedule; None: it has no such budget. Its row is held from here on."""
    budget = fetch_value(tx, _BUDGET, {"of_schedule": schedule_id})
    return None if budget is None else int(budget) - spent(tx, schedule_id, now)


_BUDGET = (
    select(schedules.c.monthly_budget)
    .where(schedules.c.id == bindparam("of_schedule"))
    .with_for_update(key_share=True, of=schedules)
)


def limit(tx: Connection, schedule_id: int, budget: int, now: float) -> PeriodLimit:
    """A schedule's monthly budget, and what it has cost so far. Holds nothing."""
    return PeriodLimit(budget=budget, spent=spent(tx, schedule_id, now), again_at=next_month(now))


def spent(tx: Connection, schedule_id: int, now: float) -> int:
    """Micro-dollars that its attempts of this month have reserved and been charged."""
    return int(fetch_value(tx, _SPENT, {"of_schedule": schedule_id, "of_month": month_of(now)}))


_SPENT = select(func.coalesce(func.sum(schedule_months.c.spent), 0)).where(
    schedule_months.c.schedule_id == bindparam("of_schedule"), schedule_months.c.month == bindparam("of_month")
)


def move(tx: Connection, moved: Mapping[tuple[int, int], int]) -> None:
    """Counts the money of these batches in its months, or takes it off. The caller holds the batches' rows."""
    of_batches = {batch_id for (batch_id, _), more in moved.items() if more}
    if not of_batches:
        return
    owners = {row.id: row.schedule_id for row in fetch(tx, _OWNERS, {"these": sorted(of_batches)})}
    sums: Counter[tuple[int, int]] = Counter()
    for (batch_id, month), more in moved.items():
        if batch_id in owners:
            sums[owners[batch_id], month] += more
    count(tx, sums)


def count(tx: Connection, sums: Mapping[tuple[int, int], int]) -> None:
    """Counts money in the months of schedules, by (schedule's id, month)."""
    for (schedule_id, month), more in sorted(sums.items()):
        if more:
            which = {"of_schedule": schedule_id, "of_month": month, "more": more}
            if not run(tx, _MOVE, which):
                tx.execute(insert(schedule_months).values(schedule_id=schedule_id, month=month, spent=more))


_OWNERS = select(batches.c.id, batches.c.schedule_id).where(
    among(batches.c.id, "these"), batches.c.schedule_id.is_not(None)
)
_MOVE = (
    update(schedule_months)
    .where(schedule_months.c.schedule_id == bindparam("of_schedule"), schedule_months.c.month == bindparam("of_month"))
    .values(spent=schedule_months.c.spent + bindparam("more"))
)
