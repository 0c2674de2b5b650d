"""The books: where the money is, and one line an attempt to lay beside an invoice. Reads only."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, bindparam, case, func, literal_column, select

from jobs.ledger.database.schema import COST_OF_IMAGE, accounts, attempts, batches, images, jobs
from jobs.ledger.reports.books import AuditLine, Entry, Money
from jobs.states import IN_ARCHIVE, AttemptState, ImageState

#: Attempts that are read at once.
PAGE = 2_000

Place = tuple[int, int]  # batch, account


def entries(tx: Connection, batch: str | None) -> list[Entry]:
    """The money of each batch at each account; of one batch, or of all. Without those that lie in archives."""
    only = _whole(batch)
    found: dict[Place, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in tx.execute(_by_state(only)):
        _add_attempts(found[row.batch_id, row.account_id], row)
    for row in tx.execute(_by_image(only)):
        _add_images(found[row.batch_id, row.account_id], row)
    named = {row.id: row.name for row in tx.execute(select(batches.c.id, batches.c.name))}
    known = {row.id: row for row in tx.execute(select(accounts.c.id, accounts.c.name, accounts.c.provider))}
    return [
        Entry(
            batch=named[batch_id],
            account=known[account_id].name,
            provider=known[account_id].provider,
            money=Money(**sums),
        )
        for (batch_id, account_id), sums in sorted(found.items())
    ]


def _whole(batch: str | None) -> Select[Any]:
    """The batches, one or all, whose attempts the ledger has."""
    whole = batches.c.archive_step.is_(None) | batches.c.archive_step.not_in([step.value for step in IN_ARCHIVE])
    return select(batches.c.id).where(whole, *(() if batch is None else (batches.c.name == batch,)))


#: What was set aside for an attempt, and what came beyond it. An attempt without a price has neither.
_EVER = case(
    (attempts.c.price * attempts.c.n > attempts.c.charged + attempts.c.reserved, attempts.c.price * attempts.c.n),
    else_=attempts.c.charged + attempts.c.reserved,
)
_PLACE = (attempts.c.batch_id, attempts.c.account_id)


def _by_state(only: Any) -> Select[Any]:
    sums = (
        func.sum(_EVER).label("ever"),
        func.sum(attempts.c.reserved).label("open"),
        func.sum(attempts.c.charged).label("charged"),
        func.sum(attempts.c.charged - func.coalesce(attempts.c.price, 0) * attempts.c.came).label("beside"),
    )
    wanted = select(*_PLACE, attempts.c.state, *sums).group_by(*_PLACE, attempts.c.state)
    return wanted.where(attempts.c.batch_id.in_(only))


def _by_image(only: Any) -> Select[Any]:
    kinds = (images.c.state, images.c.surplus)
    unpriced = func.sum(case((COST_OF_IMAGE.is_(None), 1), else_=0)).label("unpriced")
    sums = (func.coalesce(func.sum(COST_OF_IMAGE), 0).label("price"), unpriced)
    joined = images.join(attempts, attempts.c.id == images.c.attempt_id)
    wanted = select(*_PLACE, *kinds, *sums).select_from(joined).where(images.c.state != literal_column("'missing'"))
    return wanted.group_by(*_PLACE, *kinds).where(attempts.c.batch_id.in_(only))


#: What an attempt's charge counts as, where no image tells it; of a forgotten one some may have come.
_WITHOUT_IMAGES = {AttemptState.FAILED: "undelivered", AttemptState.LOST: "lost", AttemptState.ABANDONED: "given_up"}


def _add_attempts(sums: dict[str, int], row: Any) -> None:
    ever, open_, charged = int(row.ever), int(row.open), int(row.charged)
    sums["reserved"] += ever
    sums["charged"] += charged
    sums["refunded"] += ever - open_ - charged
    sums["unknown" if row.state == AttemptState.UNKNOWN else "in_flight"] += open_
    if row.state in _WITHOUT_IMAGES:
        sums[_WITHOUT_IMAGES[AttemptState(row.state)]] += int(row.beside)


def _add_images(sums: dict[str, int], row: Any) -> None:
    words = {ImageState.STORED: "stored", ImageState.GENERATED: "waiting", ImageState.LOST: "lost"}
    word = "surplus" if row.surplus and row.state != ImageState.LOST else words[ImageState(row.state)]
    sums[word] += int(row.price)
    sums["unpriced"] += int(row.unpriced)


# -- one line an attempt -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which attempts: all of them, or those of a batch, an account, a time. `until` is not in it."""

    batch: str | None = None
    account: str | None = None
    since: float | None = None
    until: float | None = None


def audited(tx: Connection, wish: AuditFilter) -> array[int]:
    """The attempts' numbers, in the order of their intents: eight bytes each, so that a million can be paged."""
    wanted = select(attempts.c.id).where(attempts.c.batch_id.in_(_whole(wish.batch)))
    if wish.account is not None:
        wanted = wanted.where(attempts.c.account_id.in_(select(accounts.c.id).where(accounts.c.name == wish.account)))
    if wish.since is not None:
        wanted = wanted.where(attempts.c.created_at >= wish.since)
    if wish.until is not None:
        wanted = wanted.where(attempts.c.created_at < wish.until)
    in_order = wanted.order_by(attempts.c.created_at, attempts.c.id)
    return array("q", tx.execution_options(yield_per=PAGE).execute(in_order).scalars())


def audit_lines(tx: Connection, ids: Sequence[int]) -> list[AuditLine]:
    """The lines of these attempts, in this order."""
    came = _delivered(tx, ids)
    rows = {row.id: row for row in tx.execute(_LINES, {"these": ids})}
    return [_line(rows[number], *came.get(number, (0, 0, 0))) for number in ids if number in rows]


_LINES = (
    select(
        attempts,
        jobs.c.key,
        batches.c.name.label("batch"),
        accounts.c.name.label("account"),
        accounts.c.provider,
        _EVER.label("ever"),
    )
    .select_from(
        attempts.join(jobs, jobs.c.id == attempts.c.job_id)
        .join(batches, batches.c.id == attempts.c.batch_id)
        .join(accounts, accounts.c.id == attempts.c.account_id)
    )
    .where(attempts.c.id.in_(bindparam("these", expanding=True)))
)


def _delivered(tx: Connection, ids: Sequence[int]) -> dict[int, tuple[int, int, int]]:
    """Images that came for each attempt, how many of them are surplus, and what these cost."""
    kept = images.c.surplus & (images.c.state != ImageState.LOST)
    sums = (func.count(), func.sum(case((kept, 1), else_=0)), func.sum(case((kept, COST_OF_IMAGE), else_=0)))
    mine = (images.c.attempt_id.in_(ids), images.c.state != ImageState.MISSING)
    joined = images.join(attempts, attempts.c.id == images.c.attempt_id)
    found = tx.execute(
        select(images.c.attempt_id, *sums).select_from(joined).where(*mine).group_by(images.c.attempt_id)
    )
    return {attempt_id: (count, int(surplus), int(cost or 0)) for attempt_id, count, surplus, cost in found}


def _line(row: Any, delivered: int, surplus: int, surplus_cost: int) -> AuditLine:
    return AuditLine(
        attempt=row.id,
        batch=row.batch,
        key=row.key,
        account=row.account,
        provider=row.provider,
        model=row.provider_model,
        task_id=row.task_id,
        state=row.state,
        asked=row.n,
        delivered=delivered,
        surplus=surplus,
        surplus_cost=surplus_cost,
        price=row.price,
        reserved=row.ever,
        open=row.reserved,
        charged=row.charged,
        intended_at=row.created_at,
        accepted_at=row.accepted_at,
        finished_at=row.finished_at,
        code=row.error_code,
    )
