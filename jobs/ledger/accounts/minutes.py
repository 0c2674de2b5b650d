"""How accounts stood over the last day, minute by minute while they worked. Every sweep notes it; charts show it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, select

from jobs.ledger.accounts.places import in_flight, most_in_flight, submit_rate
from jobs.ledger.accounts.values import AccountMinute
from jobs.ledger.database.schema import account_minutes, accounts
from jobs.ledger.database.statements import INSERT

#: Seconds of one of them, and for which they are kept.
MINUTE, KEPT = 60.0, 86_400.0


def note(tx: Connection, now: float) -> None:
    """How each configured account stands in this minute, unless it stands as it did when that was last noted."""
    for account in tx.execute(select(accounts).where(accounts.c.configured)).all():
        stands = _standing(tx, account)
        newest = tx.execute(_NEWEST.where(account_minutes.c.account_id == account.id)).first()
        if newest is not None and all(getattr(newest, name) == value for name, value in stands.items()):
            continue
        row = {"account_id": account.id, "at": now - now % MINUTE, **stands}
        fresh = INSERT[tx.dialect.name](account_minutes).values(**row)
        tx.execute(fresh.on_conflict_do_update(index_elements=["account_id", "at"], set_=stands))
        tx.execute(delete(account_minutes).where(account_minutes.c.at < now - KEPT))


_NEWEST = select(account_minutes).order_by(account_minutes.c.at.desc()).limit(1)


def _standing(tx: Connection, account: Any) -> dict[str, Any]:
    return {
        "attempts_made": account.attempts_made,
        "throttled": account.throttled,
        "in_flight": in_flight(tx, account.id),
        "submits_per_second": submit_rate(account),
        "max_in_flight": most_in_flight(account),
    }


def known(tx: Connection, now: float) -> dict[str, list[AccountMinute]]:
    """By the names of the configured accounts, the oldest first."""
    wanted = (
        select(account_minutes, accounts.c.name)
        .join(accounts, accounts.c.id == account_minutes.c.account_id)
        .where(accounts.c.configured, account_minutes.c.at >= now - KEPT)
        .order_by(account_minutes.c.account_id, account_minutes.c.at)
    )
    found: dict[str, list[AccountMinute]] = {}
    for row in tx.execute(wanted):
        found.setdefault(row.name, []).append(
            AccountMinute(
                at=row.at,
                attempts_made=row.attempts_made,
                throttled=row.throttled,
                in_flight=row.in_flight,
                submits_per_second=row.submits_per_second,
                max_in_flight=row.max_in_flight,
            )
        )
    return found
