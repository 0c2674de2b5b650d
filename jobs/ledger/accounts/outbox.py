"""Messages that people and programs are to be told: written with the change that they tell of, sent by any process.

A row is one message for one channel. It is taken by moving its next try beyond the time that sending may take, so of
two processes one sends it, and one that dies meanwhile leaves it to the next. Then it may come twice, with one id.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence

from sqlalchemy import Connection, case, delete, func, insert, or_, select, update

from jobs.ledger.accounts.outbox_values import Delivery, NewMessage, Untold
from jobs.ledger.database.schema import outbox

#: Seconds that a try may take: then it belongs to whoever comes.
LEASE = 60.0
#: Seconds after which a message that nobody has tried is told of by `doctor`: no process here has its address.
OVERDUE = 3_600.0
#: Seconds that messages stay on record: those that were sent, and those that were not.
KEPT_SENT, KEPT = 7 * 86_400.0, 90 * 86_400.0


def put(tx: Connection, messages: Sequence[NewMessage], now: float) -> None:
    """Writes messages, due at once."""
    rows = [
        {"webhook_id": webhook_id, "channel": channel, "type": message.type, "payload": payload}
        for message in messages
        for webhook_id in [f"msg_{secrets.token_hex(12)}"]
        for channel, payload in message.payloads.items()
    ]
    if rows:
        tx.execute(insert(outbox), [{**row, "created_at": now, "next_at": now} for row in rows])


def next_due(tx: Connection, channels: Collection[str]) -> float | None:
    """When the first message for these channels is due; None: there is none."""
    return tx.execute(select(func.min(outbox.c.next_at)).where(outbox.c.channel.in_(channels))).scalar()


def take(tx: Connection, channels: Collection[str], now: float) -> list[Delivery]:
    """The first message that is due for each of these channels, for this process to send within `LEASE`."""
    taken = []
    for channel in sorted(channels):
        due = select(outbox.c.id).where(outbox.c.channel == channel, outbox.c.next_at <= now)
        first = due.order_by(outbox.c.next_at, outbox.c.id).limit(1).with_for_update(skip_locked=True)
        number = tx.execute(first).scalar()
        if number is not None:
            mine = update(outbox).where(outbox.c.id == number).values(next_at=now + LEASE, tries=outbox.c.tries + 1)
            row = tx.execute(mine.returning(outbox)).one()
            taken.append(
                Delivery(
                    id=row.id,
                    webhook_id=row.webhook_id,
                    channel=row.channel,
                    type=row.type,
                    payload=row.payload,
                    tries=row.tries,
                    created_at=row.created_at,
                )
            )
    return taken


def sent(tx: Connection, delivery: Delivery, now: float) -> None:
    """It was taken, whoever else tries it by now."""
    done = {"sent_at": now, "next_at": None, "given_up_at": None}
    tx.execute(update(outbox).where(outbox.c.id == delivery.id).values(**done))


def failed(tx: Connection, delivery: Delivery, problem: str, next_at: float | None, now: float) -> None:
    """It was not taken. `next_at`: when it is tried again; None: never. Changes nothing where another tries it."""
    mine = (outbox.c.id == delivery.id, outbox.c.tries == delivery.tries, outbox.c.sent_at.is_(None))
    values = {"problem": problem, "next_at": next_at, "given_up_at": None if next_at is not None else now}
    tx.execute(update(outbox).where(*mine).values(**values))


def untold(tx: Connection, now: float) -> list[Untold]:
    """What was not told, by channel."""
    waits = outbox.c.next_at.is_not(None) & or_(outbox.c.problem.is_not(None), outbox.c.created_at < now - OVERDUE)
    gone = outbox.c.given_up_at.is_not(None)
    counted = (
        select(
            outbox.c.channel,
            func.sum(case((waits, 1), else_=0)).label("waiting"),
            func.sum(case((gone, 1), else_=0)).label("given_up"),
            func.min(outbox.c.created_at).label("since"),
            func.max(outbox.c.given_up_at).label("last_given_up"),
            func.max(outbox.c.id).label("newest"),
        )
        .where(or_(waits, gone))
        .group_by(outbox.c.channel)
        .subquery()
    )
    joined = counted.join(outbox, outbox.c.id == counted.c.newest)
    wanted = select(counted, outbox.c.problem).select_from(joined).order_by(counted.c.channel)
    newest = select(outbox.c.channel, func.max(outbox.c.sent_at).label("at")).group_by(outbox.c.channel)
    last_sent = {row.channel: row.at or 0.0 for row in tx.execute(newest)}
    return [
        Untold(
            channel=row.channel,
            waiting=row.waiting,
            given_up=row.given_up,
            problem=row.problem,
            works_again=last_sent[row.channel] > (row.last_given_up or now),
            since=row.since,
        )
        for row in tx.execute(wanted)
    ]


def clear(tx: Connection, now: float) -> None:
    """Takes old messages off the record."""
    old = or_(outbox.c.sent_at < now - KEPT_SENT, outbox.c.created_at < now - KEPT)
    tx.execute(delete(outbox).where(old))
