"""How a batch came along: images stored, and what they cost, by stretches of time."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Integer, cast, func, select

from jobs.ledger.database.schema import COST_OF_IMAGE, attempts, images


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was stored in one stretch of time. `number`: from 0."""

    number: int
    images: int
    money: int  # micro-dollars at list price, as far as it is known


def span(tx: Connection, batch_id: int) -> tuple[float, float] | None:
    """When the first and the newest image of a batch were stored; None: none is."""
    # One by one: for both at once SQLite reads every image that is stored.
    mine = (images.c.batch_id == batch_id, images.c.stored_at.is_not(None))
    first, last = [tx.execute(select(end(images.c.stored_at)).where(*mine)).scalar() for end in (func.min, func.max)]
    return None if first is None or last is None else (float(first), float(last))


def stored(tx: Connection, batch_id: int, since: float, width: float) -> list[Stretch]:
    """What was stored from `since` on, by stretches of `width` seconds; those without an image are left out."""
    passed = (images.c.stored_at - since) / width
    whole = passed if tx.dialect.name == "sqlite" else func.floor(passed)  # there a cast cuts, elsewhere it rounds
    number = cast(whole, Integer).label("number")
    counted = (
        select(number, func.count(), func.sum(COST_OF_IMAGE))
        .select_from(images.outerjoin(attempts, attempts.c.id == images.c.attempt_id))
        .where(images.c.batch_id == batch_id, images.c.stored_at.is_not(None), images.c.stored_at >= since)
        .group_by(number)
        .order_by(number)
    )
    return [Stretch(int(at), int(many), int(cost or 0)) for at, many, cost in tx.execute(counted)]
