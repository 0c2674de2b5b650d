"""Attempts whose outcome nobody can know: listing them, and what a person decides about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select, update

from jobs.errors import BadInput
from jobs.ledger.accounts import conditions
from jobs.ledger.batches.values import UnknownAttempt
from jobs.ledger.database.events import event_row, write_events
from jobs.ledger.database.job_state import derive_jobs
from jobs.ledger.database.schema import accounts, attempts, batches, images, jobs
from jobs.states import AttemptState, ImageState
from providers.types import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTask:
    """What a person found in the provider's console."""

    task_id: str
    poll_path: str | None  # where it is asked about; None: as the attempt's model says


def unknown(tx: Connection, batch: str | None, key: str | None) -> list[UnknownAttempt]:
    """The unknown attempts, oldest first."""
    return _listed(tx, batch, key, attempts.c.state == AttemptState.UNKNOWN)


def given_up(tx: Connection, batch: str, key: str) -> list[UnknownAttempt]:
    """A row's attempts that were given up, or paid again, and of which no provider task is known; oldest first."""
    return _listed(tx, batch, key, _IS_GIVEN_UP)


_IS_GIVEN_UP = and_(attempts.c.state == AttemptState.ABANDONED, attempts.c.task_id.is_(None))


def _listed(tx: Connection, batch: str | None, key: str | None, which: Any) -> list[UnknownAttempt]:
    joined = (
        attempts.join(jobs, jobs.c.id == attempts.c.job_id)
        .join(batches, batches.c.id == attempts.c.batch_id)
        .join(accounts, accounts.c.id == attempts.c.account_id)
    )
    named = (
        jobs.c.key,
        jobs.c.request,
        batches.c.name.label("batch"),
        accounts.c.name.label("account"),
        accounts.c.provider,
    )
    wanted = select(attempts, *named).select_from(joined).where(which)
    if batch is not None:
        wanted = wanted.where(batches.c.name == batch)
    if key is not None:
        wanted = wanted.where(jobs.c.key == key)
    return [_as_unknown(row) for row in tx.execute(wanted.order_by(attempts.c.created_at, attempts.c.id))]


def _as_unknown(row: Any) -> UnknownAttempt:
    return UnknownAttempt(
        attempt_id=row.id,
        batch=row.batch,
        key=row.key,
        account=row.account,
        provider=row.provider,
        provider_model=row.provider_model,
        slots=tuple(json.loads(row.slots)),
        money=row.reserved + row.charged,  # that of one given up counts as charged
        price_known=row.price is not None,
        sent_at=row.created_at,
        code=row.error_code,
        message=row.message,
        edits=bool(row.request and Request.from_json(row.request).references),
    )


def resolve(tx: Connection, attempt_ids: Sequence[int], how: str, now: float, found: FoundTask | None = None) -> int:
    """`pay-again`, `policy` (the same, by the settings), `give-up` or `found`; returns how many attempts it settled.

    What was given up can still be found: a late fact counts, as surplus.
    """
    batch_ids = select(attempts.c.batch_id).where(attempts.c.id.in_(attempt_ids))
    tx.execute(
        select(batches.c.id).where(batches.c.id.in_(batch_ids)).order_by(batches.c.id).with_for_update(key_share=True)
    )
    is_open = attempts.c.state == AttemptState.UNKNOWN
    still = is_open if found is None else or_(is_open, _IS_GIVEN_UP)
    rows = tx.execute(select(attempts).where(attempts.c.id.in_(attempt_ids), still)).all()
    for row in rows:
        _settle(tx, row, how, now, found)
    # What was paid again by the policy stays so: it has used the budget for that.
    settled = [row.id for row in rows if row.state == AttemptState.UNKNOWN]
    tx.execute(update(attempts).where(attempts.c.id.in_(settled)).values(resolution=how))
    derive_jobs(tx, [row.job_id for row in rows])
    for batch_id in sorted({row.batch_id for row in rows}):
        conditions.goes_on_again(tx, batch_id)
    write_events(
        tx, [event_row("resolved", now, row, {"how": how, "task_id": found and found.task_id}) for row in rows]
    )
    return len(rows)


def _settle(tx: Connection, row: Any, how: str, now: float, found: FoundTask | None) -> None:
    if found is not None:
        _demand_unclaimed(tx, row, found.task_id)
        state = AttemptState.RUNNING.value if row.state == AttemptState.UNKNOWN else row.state
        named = {"task_id": found.task_id, "poll_path": found.poll_path, "accepted_at": now, "next_poll_at": now}
        tx.execute(update(attempts).where(attempts.c.id == row.id).values(state=state, **named))
        return
    _abandon(tx, row, now)
    if how == "give-up":
        told = {"closed": True, "error_code": "outcome_unknown", "message": "given up: its outcome was never known"}
        tx.execute(update(jobs).where(jobs.c.id == row.job_id).values(**told))


def _demand_unclaimed(tx: Connection, row: Any, task_id: str) -> None:
    """One provider task belongs to one attempt; to take another's would store its images under this key."""
    mine = (attempts.c.account_id == row.account_id, attempts.c.task_id == task_id, attempts.c.id != row.id)
    other = tx.execute(select(jobs.c.key).join(attempts, attempts.c.job_id == jobs.c.id).where(*mine)).scalar()
    if other is not None:
        raise BadInput(f"--task-id {task_id}: this provider task belongs to key {other} already. Nothing was changed.")


def _abandon(tx: Connection, row: Any, now: float) -> None:
    """Its money counts as spent from here on: nobody can say that it was not."""
    gone = {"state": AttemptState.ABANDONED.value, "finished_at": now, "reserved": 0, "charged": row.reserved}
    tx.execute(update(attempts).where(attempts.c.id == row.id).values(**gone))
    spent = {"reserved": batches.c.reserved - row.reserved, "charged": batches.c.charged + row.reserved}
    tx.execute(update(batches).where(batches.c.id == row.batch_id).values(**spent))
    missing = (images.c.attempt_id == row.id, images.c.state == ImageState.MISSING)
    tx.execute(update(images).where(*missing).values(attempt_id=None))


# -- the policy for outcomes that stay unknown ---------------------------------------------------------------------


def pay_again(tx: Connection, now: float, budget: int) -> int:
    """Pays those again whose lease is over twice, as far as `budget` (a batch) allows; returns how many."""
    return resolve(tx, _to_pay_again(tx, now, budget), "policy", now)


def _to_pay_again(tx: Connection, now: float, budget: int) -> list[int]:
    old = attempts.c.lease_until + (attempts.c.lease_until - attempts.c.created_at) <= now
    wanted = select(attempts).where(attempts.c.state == AttemptState.UNKNOWN, attempts.c.price.is_not(None), old)
    spent: dict[int, int] = {}
    chosen: list[int] = []
    for row in tx.execute(wanted.order_by(attempts.c.created_at)):
        used = spent.setdefault(row.batch_id, _paid_again(tx, row.batch_id))
        if used + row.reserved <= budget:
            spent[row.batch_id] = used + row.reserved
            chosen.append(row.id)
    return chosen


def _paid_again(tx: Connection, batch_id: int) -> int:
    mine = (attempts.c.batch_id == batch_id, attempts.c.resolution == "policy")
    return int(
        tx.execute(select(func.coalesce(func.sum(attempts.c.price * attempts.c.n), 0)).where(*mine)).scalar_one()
    )
