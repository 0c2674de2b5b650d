"""What accepted batches hold of a token's daily budget.

A batch holds its amount on the UTC day on which it is accepted, as long as it has rows to be made; when it has none
any more it holds what was spent for it. Nothing is written when a batch ends: what it holds follows from what is on
record, so no crash can leave a hold behind. `retry` and the like are accepted anew and hold again; each hold counts
what was spent until the next one of its batch, and those from before the batch had ended nothing else.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, insert, literal_column, or_, select, update

from jobs.ledger.access.values import NO_TOKEN, Acceptance, NotItsOwnError, OverDailyBudget, RevokedError
from jobs.ledger.accounts.daily_budgets import day_of
from jobs.ledger.database.schema import access_tokens, batches, jobs, token_holds
from jobs.ledger.database.statements import fetch, fetch_first, has_row
from jobs.states import BatchState


def goes_on(batch_id: Any) -> Any:
    """Whether something of a batch may still be sent by itself, or is on its way. `batches` is in the question."""
    mine = select(jobs.c.id).where(jobs.c.batch_id == batch_id)
    waits = has_row(mine.where(jobs.c.state == literal_column("'ready'")))
    is_made = has_row(mine.where(jobs.c.state == literal_column("'working'")))
    return or_(and_(waits, batches.c.state != BatchState.CANCELLED.value), is_made)


def accept(tx: Connection, by: Acceptance, batch_id: int, now: float, *, is_new: bool) -> None:
    """The batch belongs to the token, and holds its amount. The caller holds the batch's row.

    `NO_TOKEN`: it stays nobody's.

    The token's row is locked, so of any number that ask at once none is let through on what another one takes.

    Raises:
        NotItsOwnError: It was there, and is not the token's.
        RevokedError: The token was revoked meanwhile.
        OverDailyBudget: The token's day does not leave as much.
    """
    if by.token_id == NO_TOKEN:
        return
    token = fetch_first(tx, _TOKEN, {"of_token": by.token_id})
    batch = fetch_first(tx, _BATCH, {"of_batch": batch_id})
    if token is None or batch is None:
        raise LookupError("no such token or batch")
    if token.revoked_at is not None:
        raise RevokedError
    if is_new:
        tx.execute(update(batches).where(batches.c.id == batch_id).values(token_id=by.token_id))
    elif by.amount is not None and batch.token_id != by.token_id:
        raise NotItsOwnError
    if by.amount is None:
        return
    if not tx.execute(_GOES_ON, {"of_batch": batch_id}).scalar():  # before its rows are opened again, by `retry`
        tx.execute(update(token_holds).where(token_holds.c.batch_id == batch_id).values(amount=0))
    day = day_of(now)
    free = token.daily_budget - held(tx, by.token_id, day)
    if by.amount > free:
        raise OverDailyBudget(by.amount, max(0, free))
    spent = batch.charged + batch.reserved
    row = {"token_id": by.token_id, "batch_id": batch_id, "day": day, "amount": by.amount, "spent_before": spent}
    tx.execute(insert(token_holds).values(**row))


_TOKEN = select(access_tokens).where(access_tokens.c.id == bindparam("of_token")).with_for_update(key_share=True)
_GOES_ON = select(goes_on(batches.c.id)).where(batches.c.id == bindparam("of_batch"))
_BATCH = select(batches).where(batches.c.id == bindparam("of_batch"))


def held(tx: Connection, token_id: int, day: int) -> int:
    """Micro-dollars that the token's batches hold of a UTC day."""
    return sum(_holds(row) for row in fetch(tx, _HELD, {"of_token": token_id, "of_day": day}))


def _holds(row: Any) -> int:
    until = row.charged + row.reserved if row.next_before is None else row.next_before
    spent = max(0, until - row.spent_before)
    return int(max(row.amount, spent) if row.is_open else spent)  # tries that fail may cost more than was estimated


def _held() -> Any:
    later = token_holds.alias()
    next_before = (
        select(func.min(later.c.spent_before))
        .where(later.c.batch_id == token_holds.c.batch_id, later.c.id > token_holds.c.id)
        .scalar_subquery()
    )
    return (
        select(
            token_holds.c.amount,
            token_holds.c.spent_before,
            batches.c.charged,
            batches.c.reserved,
            next_before.label("next_before"),
            goes_on(token_holds.c.batch_id).label("is_open"),
        )
        .select_from(token_holds.join(batches, batches.c.id == token_holds.c.batch_id))
        .where(token_holds.c.token_id == bindparam("of_token"), token_holds.c.day == bindparam("of_day"))
    )


_HELD = _held()
