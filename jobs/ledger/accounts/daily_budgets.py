"""What each UTC day has cost so far, and whether the daily budgets allow more.

A day's row belongs to an account and is written under the account's lock. It counts what attempts whose intent fell on
that day have reserved and been charged; what is refunded is taken off the day of the intent. The overall budget is
kept by a claim that holds the ledger's own row as well, so accounts spend one after the other. Locks are taken in one
order: accounts, the ledger's row, batches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, literal_column, select, update

from jobs.ledger.accounts.values import DayLimit
from jobs.ledger.database.schema import accounts, days, jobs, ledger
from jobs.ledger.database.statements import fetch, fetch_first, fetch_value, run

DAY = 86_400  # seconds

#: What moves on the day's rows: (day, account's id) -> micro-dollars.
Moved = Counter[tuple[int, int]]


def day_of(at: float) -> int:
    """The UTC day of a time, counted from 1970."""
    return int(at // DAY)


def next_day(at: float) -> float:
    """When the UTC day after that of `at` begins."""
    return float((day_of(at) + 1) * DAY)


def left(tx: Connection, account: Any, now: float) -> int | None:
    """Micro-dollars the day's budgets leave to this account; None: there is no such budget.

    The caller holds the account's row; where there is an overall budget the ledger's row is held from here on.
    """
    overall = fetch_value(tx, _OVERALL)
    if overall is not None:
        run(tx, _OVERALL_HELD)
    today = {"of_day": day_of(now), "of_account": account.id}
    lefts = []
    if overall is not None:
        lefts.append(overall - fetch_value(tx, _SPENT_BY_ALL, today))
    if account.daily_budget is not None:
        lefts.append(account.daily_budget - fetch_value(tx, _SPENT, today))
    return min(lefts, default=None)


_OVERALL = select(ledger.c.daily_budget)
_OVERALL_HELD = _OVERALL.with_for_update(key_share=True)
_SPENT_BY_ALL = select(func.coalesce(func.sum(days.c.spent), 0)).where(days.c.day == bindparam("of_day"))
_SPENT = _SPENT_BY_ALL.where(days.c.account_id == bindparam("of_account"))


def move(tx: Connection, moved: Mapping[tuple[int, int], int]) -> None:
    """Counts money on its days, or takes it off. The caller holds the accounts' rows."""
    for (day, account_id), more in sorted(moved.items()):
        if more:
            which = {"of_day": day, "of_account": account_id, "more": more}
            if not run(tx, _MOVE, which):
                tx.execute(insert(days).values(day=day, account_id=account_id, spent=more))


_MOVE = (
    update(days)
    .where(days.c.day == bindparam("of_day"), days.c.account_id == bindparam("of_account"))
    .values(spent=days.c.spent + bindparam("more"))
)


# -- what stands in the way ----------------------------------------------------------------------------------------


def in_the_way(tx: Connection, batch_id: int, now: float) -> tuple[DayLimit, ...]:
    """The daily budgets that hold up the batch's next row: there is no account at its provider that could pay it."""
    overall, by_account = _budgets(tx, now)
    if overall is None and not any(by_account.values()):
        return ()
    found: dict[str | None, DayLimit] = {}
    for provider in sorted({provider for _, provider in by_account}):
        price = fetch_first(tx, NEXT_PRICE, {"of_batch": batch_id, "at_provider": provider, "moment": now})
        if price is not None:
            mine = [limit for (_, at), limit in by_account.items() if at == provider]
            found |= {limit.account: limit for limit in _holding_up(overall, mine, price[0])}
    return tuple(found.values())


def every(tx: Connection, now: float) -> list[DayLimit]:
    """Every daily budget, the overall one first."""
    overall, by_account = _budgets(tx, now)
    return [limit for limit in (overall, *by_account.values()) if limit is not None]


def _budgets(tx: Connection, now: float) -> tuple[DayLimit | None, dict[tuple[str, str], DayLimit | None]]:
    """The overall daily budget, and that of each configured account by (name, provider); None where there is none."""
    day = {"of_day": day_of(now)}
    total = fetch_value(tx, _OVERALL)
    again = next_day(now)
    overall = None
    if total is not None:
        spent = fetch_value(tx, _SPENT_BY_ALL, day)
        overall = DayLimit(account=None, budget=total, spent=int(spent), again_at=again)
    found = {(row.name, row.provider): _limit(row, again) for row in fetch(tx, _BY_ACCOUNT, day)}
    return overall, found


def _limit(row: Any, again: float) -> DayLimit | None:
    if row.daily_budget is None:
        return None
    return DayLimit(account=row.name, budget=row.daily_budget, spent=int(row.spent), again_at=again)


_BY_ACCOUNT = (
    select(accounts.c.name, accounts.c.provider, accounts.c.daily_budget, func.coalesce(days.c.spent, 0).label("spent"))
    .select_from(accounts.outerjoin(days, (days.c.account_id == accounts.c.id) & (days.c.day == bindparam("of_day"))))
    .where(accounts.c.configured)
    .order_by(accounts.c.name)
)
#: What one image costs of the batch's first row that may be sent to a provider.
NEXT_PRICE = (
    select(jobs.c.price)
    .where(
        jobs.c.batch_id == bindparam("of_batch"),
        jobs.c.provider == bindparam("at_provider"),
        jobs.c.state == literal_column("'ready'"),
        jobs.c.position.is_not(None),
        jobs.c.ready_at <= bindparam("moment"),
    )
    .order_by(jobs.c.position)
    .limit(1)
)


def _holding_up(overall: DayLimit | None, mine: list[DayLimit | None], price: int | None) -> Iterator[DayLimit]:
    if overall is not None and not overall.allows(price):
        yield overall
    elif mine and all(limit is not None and not limit.allows(price) for limit in mine):
        yield from (limit for limit in mine if limit is not None)
