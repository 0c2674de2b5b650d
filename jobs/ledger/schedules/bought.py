"""What each time of a schedule has bought: the one rule by which attempts belong to times.

An attempt belongs to the time whose manifest was recorded last for its batch when it was sent; its images and its
charge both do, whenever they come. The attempts of an account are numbered in the order in which they are sent, and a
time remembers how many there were when it was recorded, under its batch's lock. So no clock has a say, no attempt moves
to another time later, and what was sent for a batch since its first time belongs to exactly one
(docs/decisions/schedule_sums.md).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, false, func, literal, select

from jobs.ledger.database.schema import ATTEMPTS_AN_ACCOUNT, accounts, attempts, batches, firings, images
from jobs.ledger.schedules.values import Bought
from jobs.states import ImageState


def attempts_so_far(tx: Connection) -> str:
    """How many attempts each account has made, as a time remembers it. The batch's row is held."""
    made = tx.execute(select(accounts.c.id, accounts.c.attempts_made)).all()
    return json.dumps({str(row.id): row.attempts_made for row in made})


def by_times(tx: Connection, numbers: Collection[int]) -> dict[int, Bought]:
    """What the firings of these numbers have bought. Those without a batch are left out.

    So are those whose batch lies in an archive, with its attempts, unless it was theirs alone.
    """
    recorded = firings.join(batches, batches.c.id == firings.c.batch_id)
    wanted = select(firings.c.id, firings.c.batch_id, batches.c.archive_step, batches.c.charged)
    rows = tx.execute(wanted.select_from(recorded).where(firings.c.id.in_(list(numbers)))).all()
    of_batch: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        of_batch[row.batch_id].append(row)
    found: dict[int, Bought] = {}
    for batch_id, mine in of_batch.items():
        if mine[0].archive_step is None:
            sums = _of_batch(tx, batch_id, min(row.id for row in mine))
            found |= {row.id: sums.get(row.id, Bought()) for row in mine}
        elif _is_alone(tx, batch_id):
            found[mine[0].id] = Bought(images=None, charged=mine[0].charged)
    return found


def _is_alone(tx: Connection, batch_id: int) -> bool:
    return len(tx.execute(select(firings.c.id).where(firings.c.batch_id == batch_id).limit(2)).all()) == 1


def _of_batch(tx: Connection, batch_id: int, first: int) -> dict[int, Bought]:
    """What its times have bought from that number on: one time of a schedule is recorded after another."""
    wanted = select(firings.c.id, firings.c.taken_at, firings.c.ended_at, firings.c.attempts_before)
    times = tx.execute(
        wanted.where(firings.c.batch_id == batch_id, firings.c.id >= first).order_by(firings.c.id.desc())
    ).all()
    of_time = case(*((_sent_since(row), literal(row.id)) for row in times)).label("of_time")
    after = case((_sent_after_its_end(times, of_time), 1), else_=0).label("after")
    mine = (attempts.c.batch_id == batch_id, _sent_since(times[-1]))
    money = select(of_time, after, func.count(), func.sum(attempts.c.charged), func.sum(attempts.c.reserved))
    of_money = tx.execute(money.where(*mine).group_by("of_time", "after")).all()
    made = select(of_time, after, func.count()).select_from(images.join(attempts, attempts.c.id == images.c.attempt_id))
    bought = (
        images.c.batch_id == batch_id,
        images.c.state == ImageState.STORED.value,
    )  # one that was taken has no attempt
    of_images = tx.execute(made.where(*bought, *mine).group_by("of_time", "after")).all()
    return _added_up(of_money, of_images)


def _sent_since(time: Any) -> ColumnElement[bool]:
    """Whether an attempt was sent after a time was recorded. Older ledgers know only when its manifest was read."""
    if time.attempts_before is None:
        return attempts.c.created_at >= literal(time.taken_at)
    first = {int(account): int(account) * ATTEMPTS_AN_ACCOUNT + made for account, made in _counts(time)}
    # What was found to have been made twice was sent when the other was.
    number = func.coalesce(attempts.c.twin_of, attempts.c.id)
    begins: ColumnElement[int] = case(first, value=attempts.c.account_id, else_=0) if first else literal(0)
    return number >= begins


def _counts(time: Any) -> Sequence[tuple[str, int]]:
    return list(json.loads(time.attempts_before).items())


def _sent_after_its_end(times: Sequence[Any], of_time: Any) -> ColumnElement[bool]:
    ends = {row.id: row.ended_at for row in times if row.ended_at is not None}
    return attempts.c.created_at > case(ends, value=of_time.element, else_=None) if ends else false()


def _added_up(of_money: Sequence[Any], of_images: Sequence[Any]) -> dict[int, Bought]:
    sums: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for number, after, sent, charged, reserved in of_money:
        told = {"sent": sent, "charged": int(charged), "reserved": int(reserved)}
        told |= {"charged_after": int(charged)} if after else {}
        for name, value in told.items():
            sums[number][name] += value
    for number, after, count in of_images:
        sums[number]["images"] += count
        sums[number]["images_after"] += count if after else 0
    return {number: Bought(**each) for number, each in sums.items()}
