"""Batches share an account by weight: whose turn it is, by start-time fair queueing.

A batch's tag is what it was served at the account, divided by its weight; each submit goes to the lowest tag. One that
comes late, or had nothing to do for a while, starts level with the lowest of the others: it has no claim to what it
missed. While one batch is alone nothing is written.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Float,
    Text,
    and_,
    bindparam,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from jobs.ledger.accounts.destinations import HELD_UP
from jobs.ledger.accounts.emergency_stop import NOT_STOPPED
from jobs.ledger.database.schema import accounts, batches, jobs, shares
from jobs.ledger.database.statements import Row, fetch, fetch_value, has_row, run, run_each
from jobs.policy import retry
from jobs.states import BatchState


@dataclass(frozen=True, slots=True)
class BatchShare:
    """A batch with work at an account, and its tag there."""

    batch: Row
    tag: float
    models: tuple[str, ...] | None = None  # the provider's own, whose rows may be sent; None: all


_ONLY = bindparam("only", type_=Text)
_OF_SCHEDULE = bindparam("of_schedule", type_=BigInteger)
#: Batches that may spend now; `only` binds one of them, or None, `of_schedule` those of one schedule, or None, `moment`
#: is now. Where what is paid already cannot be put, or not in time, nothing more is paid for; nor while all is stopped.
MAY_SPEND = (
    (batches.c.state == BatchState.ACTIVE)
    & (_ONLY.is_(None) | (batches.c.name == _ONLY))
    & (_OF_SCHEDULE.is_(None) | (batches.c.schedule_id == _OF_SCHEDULE))
    & batches.c.dest.not_in(HELD_UP)
    & NOT_STOPPED
)
#: Jobs that wait to be sent, now or later.
WAITS = (
    jobs.c.state == literal_column("'ready'"),
    jobs.c.provider == bindparam("at_provider"),
    jobs.c.position.is_not(None),
)
_BEYOND_REASON = bindparam("moment", type_=Float) + (retry.LONGEST_COOLDOWN + retry.CLOCKS_DIFFER)
#: Jobs that may be sent now. A wait that ends beyond all reason was said by a clock that was wrong, and is over.
IS_READY = (*WAITS, or_(jobs.c.ready_at <= bindparam("moment", type_=Float), jobs.c.ready_at > _BEYOND_REASON))


def _with_work() -> Any:
    work = select(jobs.c.id).where(*IS_READY, jobs.c.batch_id == batches.c.id)
    served = and_(shares.c.batch_id == batches.c.id, shares.c.account_id == bindparam("of_account"))
    return (
        select(batches, shares.c.tag)
        .select_from(batches.outerjoin(shares, served))
        .where(MAY_SPEND, has_row(work))
        .order_by(batches.c.id)
        .with_for_update(key_share=True, of=batches)
    )


_WITH_WORK = _with_work()  # built once: to build it costs more than to run it

#: Whether rows of a provider's own model may be sent for a destination.
Which = Callable[[str, str], bool]


def with_work(
    tx: Connection,
    account: Row,
    now: float,
    only: str | None,
    of_schedule: int | None,
    which: Which | None,
) -> list[BatchShare]:
    """The batches that may spend and have work at the account, each locked; the caller holds the account's row.

    `which`: only such rows count as work; None: all.
    """
    mine = {"of_account": account.id, "at_provider": account.provider}
    wanted = {**mine, "moment": now, "only": only, "of_schedule": of_schedule}
    floor = account.share_floor
    open_shares: list[BatchShare] = []
    for batch in fetch(tx, _WITH_WORK, wanted):
        models = None
        if which is not None:
            waiting = _waiting_models(tx, batch.id, account.provider)
            models = tuple(model for model in waiting if which(model, batch.dest))
        # Who is served was the lowest, so no tag is further from it than one submit: more is an old weight's debt.
        tag = min(max(batch.tag or floor, floor), floor + 1 / float(batch.weight))
        if models != ():
            open_shares.append(BatchShare(batch, tag, models))
    return open_shares


def _waiting_models(tx: Connection, batch_id: int, provider: str) -> Iterator[str]:
    """Those of its rows that wait; from one to the next by the index, since to read all rows takes long."""
    last = ""
    while after := fetch_value(tx, _NEXT_MODEL, {"of_batch": batch_id, "at_provider": provider, "last": last}):
        yield (last := after)


_NEXT_MODEL = (
    select(jobs.c.provider_model)
    .where(jobs.c.batch_id == bindparam("of_batch"), *WAITS, jobs.c.provider_model > bindparam("last"))
    .order_by(jobs.c.provider_model)
    .limit(1)
)


def divide(open_shares: Sequence[BatchShare], most: int) -> list[tuple[BatchShare, int]]:
    """Divides `most` submits: each goes to the batch that was served least for its weight."""
    if len(open_shares) == 1:
        return [(open_shares[0], most)]
    queue = [(share.tag, share.batch.id, share) for share in open_shares]
    heapq.heapify(queue)
    given: Counter[int] = Counter()
    for _ in range(most if queue else 0):
        tag, batch_id, share = queue[0]
        given[batch_id] += 1
        heapq.heapreplace(queue, (tag + 1 / share.batch.weight, batch_id, share))
    return [(share, given[share.batch.id]) for share in open_shares if given[share.batch.id]]


def note(tx: Connection, account: Row, open_shares: Sequence[BatchShare], taken: Mapping[int, int]) -> None:
    """Notes what each batch took, where several wanted some."""
    after = {share.batch.id: share.tag + taken.get(share.batch.id, 0) / share.batch.weight for share in open_shares}
    floor = min(after.values())
    if len(open_shares) == 1:
        floor = open_shares[0].tag
    else:
        _write(tx, account, open_shares, after)
    if floor > account.share_floor:
        run(tx, _FLOOR, {"of_account": account.id, "floor": floor})


def _write(tx: Connection, account: Row, open_shares: Sequence[BatchShare], after: Mapping[int, float]) -> None:
    rows = [
        ({"of_account": account.id, "of_batch": share.batch.id, "now_at": after[share.batch.id]}, share.batch.tag)
        for share in open_shares
    ]
    if fresh := [row for row, known in rows if known is None]:
        run_each(tx, _NEW, fresh)
    if moved := [row for row, known in rows if known is not None and known != row["now_at"]]:
        run_each(tx, _MOVED, moved)


_NEW = insert(shares).values(
    account_id=bindparam("of_account"), batch_id=bindparam("of_batch"), tag=bindparam("now_at")
)
_MOVED = (
    update(shares)
    .where(shares.c.account_id == bindparam("of_account"), shares.c.batch_id == bindparam("of_batch"))
    .values(tag=bindparam("now_at"))
)
_FLOOR = update(accounts).where(accounts.c.id == bindparam("of_account")).values(share_floor=bindparam("floor"))
