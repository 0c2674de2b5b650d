"""Rows that go to another provider, as their batch's --failover allows. Only what is certainly unpaid moves.

A row's attempts all count: with one that runs, is unknown, was given up or has cost anything, it stays. A row that
failed out moves in the transaction that would have closed it; rows that wait for a provider in long trouble are moved
by the sweep.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    Integer,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    select,
    update,
)

from jobs.ledger.database.events import write_events
from jobs.ledger.database.schema import IS_CURRENT, accounts, attempts, batches, images, jobs
from jobs.policy.failover import PATIENCE, Failover, StuckRow, elsewhere, more
from jobs.policy.retry import cooldown_until
from jobs.states import AttemptState, BatchState, ImageState
from providers.dialects.answers import THROTTLED
from providers.types import Request, Route

#: Every legal route of a request at the configured providers, best first.
Routes = Callable[[Request], Sequence[Route]]

#: Waiting rows of one batch that are looked at in one sweep.
AT_ONCE = 1_000


def move_failed(tx: Connection, job_ids: Sequence[int], at: float, routes: Routes) -> None:
    """Rows that failed as often as their batch tolerates; their slots are free. The caller holds their batches."""
    if job_ids:
        _move(tx, _jobs(tx, jobs.c.id.in_(job_ids)), at, routes, because="failed_there")


def move_waiting(tx: Connection, now: float, routes: Routes, begin_at: dict[int, int]) -> int:
    """Rows that wait for a provider that has taken nothing for long; returns how many went elsewhere.

    `begin_at`: where the last look at a batch ended, so that rows that may not move hide no others.
    """
    since = now - PATIENCE
    troubled = _where_all(tx, lambda row: row.troubled_since is not None and row.troubled_since <= since)
    moved = 0
    for batch in tx.execute(_WITH_FAILOVER).all() if troubled else ():
        after = begin_at.get(batch.id, -1)
        waiting = and_(jobs.c.state == literal_column("'ready'"), jobs.c.provider.in_(troubled))
        found = _jobs(tx, and_(waiting, jobs.c.batch_id == batch.id, jobs.c.position > after))
        begin_at[batch.id] = found[-1].position if len(found) == AT_ONCE else -1
        moved += _move(tx, found, now, routes, because="provider_in_trouble")
    return moved


_WITH_FAILOVER = (
    select(batches)
    .where(batches.c.state == BatchState.ACTIVE, batches.c.failover != Failover.OFF)
    .order_by(batches.c.id)
    .with_for_update(key_share=True)
)


def _jobs(tx: Connection, which: Any) -> Sequence[Any]:
    return tx.execute(
        select(jobs).where(which).order_by(jobs.c.position).limit(AT_ONCE).with_for_update(key_share=True)
    ).all()


def _is_closed(account: Any, now: float) -> bool:
    """Whether an account rests, or was last known to be without balance, key or health."""
    if account.troubled_since is None:
        return False
    return cooldown_until(account.paused_until, now) is not None or account.paused_code != THROTTLED[1]


def _where_all(tx: Connection, holds: Callable[[Any], bool]) -> set[str]:
    """Providers all of whose accounts are so."""
    by_provider: dict[str, list[bool]] = defaultdict(list)
    for row in tx.execute(select(accounts).where(accounts.c.configured)):
        by_provider[row.provider].append(holds(row))
    return {provider for provider, each in by_provider.items() if all(each)}


# -- one row after the other ---------------------------------------------------------------------------------------


def _move(tx: Connection, found: Sequence[Any], at: float, routes: Routes, *, because: str) -> int:
    policies = {row.id: row for row in tx.execute(_POLICIES, {"these": list({job.batch_id for job in found})})}
    found = [job for job in found if _may_move(job, policies[job.batch_id])]
    if not found:
        return 0
    in_trouble = _where_all(tx, lambda account: _is_closed(account, at))
    histories = _histories(tx, [job.id for job in found])
    spare = {batch_id: _spare(tx, policies[batch_id]) for batch_id in {job.batch_id for job in found}}
    moves = []
    for job in found:
        stuck = _stuck(job, histories[job.id], policies[job.batch_id], in_trouble)
        if stuck is None:
            continue
        policy = Failover(policies[job.batch_id].failover)
        anew = (job.price or 0) * stuck.images if job.closed else 0  # a row that ended is no part of the plan any more
        route = elsewhere(stuck, policy, routes(stuck.request), spare[job.batch_id] - anew)
        if route:
            spare[job.batch_id] -= anew + more(route, stuck)
            moves.append((job, route))
    if moves:
        tx.execute(_MOVED, [_moved(job, route, at) for job, route in moves])
        write_events(tx, [_event(job, route, at, because) for job, route in moves])
    return len(moves)


def _may_move(job: Any, batch: Any) -> bool:
    return batch.failover != Failover.OFF and batch.state != BatchState.CANCELLED and not job.cancelled


_POLICIES = select(batches).where(batches.c.id.in_(bindparam("these", expanding=True)))


class _History:
    """What a row's attempts of its revision came to, and the slots it still needs."""

    __slots__ = ("failed_at", "free", "is_unpaid")

    def __init__(self) -> None:
        self.is_unpaid = True
        self.failed_at: set[str] = set()
        self.free = 0


def _histories(tx: Connection, job_ids: Sequence[int]) -> Mapping[int, _History]:
    told: dict[int, _History] = defaultdict(_History)
    for row in tx.execute(_ATTEMPTS, {"of_jobs": job_ids}):
        story = told[row.job_id]
        unpaid = row.state in (AttemptState.REFUSED, AttemptState.FAILED) and not row.charged
        story.is_unpaid = story.is_unpaid and unpaid
        if row.state == AttemptState.FAILED:
            story.failed_at.add(row.provider)
    for row in tx.execute(_SLOTS, {"of_jobs": job_ids}):
        told[row.job_id].free = row.free
        told[row.job_id].is_unpaid = told[row.job_id].is_unpaid and row.free == row.slots
    return told


_THESE: BindParameter[Any] = bindparam("of_jobs", expanding=True)
_ATTEMPTS = (
    select(attempts.c.job_id, attempts.c.state, attempts.c.charged, accounts.c.provider)
    .select_from(
        attempts.join(jobs, jobs.c.id == attempts.c.job_id).join(accounts, accounts.c.id == attempts.c.account_id)
    )
    .where(attempts.c.job_id.in_(_THESE), attempts.c.revision == jobs.c.revision)
)
_IS_FREE = and_(images.c.state == ImageState.MISSING, images.c.attempt_id.is_(None))
_SLOTS = (
    select(images.c.job_id, func.count().label("slots"), func.sum(case((_IS_FREE, 1), else_=0)).label("free"))
    .select_from(images.join(jobs, IS_CURRENT))
    .where(images.c.job_id.in_(_THESE))
    .group_by(images.c.job_id)
)


def _stuck(job: Any, history: _History, batch: Any, in_trouble: Iterable[str]) -> StuckRow | None:
    if not history.is_unpaid or job.request is None:
        return None
    return StuckRow(
        request=Request.from_json(job.request),
        provider=job.provider,
        pixels=(job.width, job.height) if job.width else None,
        price=job.price,
        images=history.free,
        allowed=tuple(json.loads(batch.providers)) if batch.providers else (),
        closed=frozenset({*history.failed_at, *in_trouble}),
    )


def _spare(tx: Connection, batch: Any) -> int:
    """Money agreed to that the plan does not need: what a dearer route may cost more, in all."""
    planned = batch.charged + batch.reserved + int(tx.execute(_PLANNED, {"of_batch": batch.id}).scalar_one())
    agreed = batch.agreed if batch.budget is None else min(batch.agreed, batch.budget)
    return max(0, int(agreed) - int(planned))


_PLANNED = (
    select(func.coalesce(func.sum(jobs.c.price), 0))
    .select_from(images.join(jobs, IS_CURRENT))
    .where(
        jobs.c.batch_id == bindparam("of_batch", type_=Integer),
        jobs.c.position.is_not(None),
        jobs.c.closed.is_(False),
        _IS_FREE,
    )
)


_MOVED = (
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"))
    .values(
        provider=bindparam("to_provider"),
        provider_model=bindparam("to_model"),
        price=bindparam("at_price"),
        mode=bindparam("in_mode"),
        width=bindparam("wide"),
        height=bindparam("high"),
        max_n=bindparam("at_most"),
        failures=0,
        ready_at=bindparam("then"),
        closed=False,
        error_code=None,
        message=None,
    )
)


def _moved(job: Any, route: Route, at: float) -> dict[str, Any]:
    wide, high = route.pixels or (None, None)
    return {
        "of_job": job.id,
        "to_provider": route.provider,
        "to_model": route.provider_model,
        "at_price": route.price_of(Request.from_json(job.request).prompt),
        "in_mode": route.mode,
        "wide": wide,
        "high": high,
        "at_most": route.max_n,
        "then": at,
    }


def _event(job: Any, route: Route, at: float, because: str) -> dict[str, Any]:
    told = {"from": job.provider, "to": route.provider, "because": because}
    whose = {"batch_id": job.batch_id, "job_id": job.id, "attempt_id": None}
    return {"at": at, "name": "moved", **whose, "detail": json.dumps(told)}
