"""How many provider tasks an account may have at once, how many it has, and the lock under which that is decided."""

from __future__ import annotations

from sqlalchemy import (
    Connection,
    Float,
    Text,
    bindparam,
    func,
    literal_column,
    select,
)

from jobs.ledger.database.schema import accounts, attempts, workers
from jobs.ledger.database.statements import Row, fetch, fetch_value
from jobs.policy.liveness import SILENT_AFTER
from jobs.states import IN_FLIGHT


def lock_account(tx: Connection, name: str) -> Row:
    """The account's row, held until the transaction ends: the one place where its limits are decided."""
    return fetch(tx, _ACCOUNT, {"called": name})[0]


# Statements are built once: to build one and to look it up in SQLAlchemy's cache costs as much as to run it.
# `key_share`: a stronger lock would stand in the way of every foreign key that is checked, and make rings of waiting.
_ACCOUNT = select(accounts).where(accounts.c.name == bindparam("called")).with_for_update(key_share=True)


def in_flight(tx: Connection, account_id: int, now: float | None = None, holder: str | None = None) -> int:
    """Attempts that occupy a place at the provider.

    With `now`, submits of a process that gave no sign of life for long do not: they stay leased until nobody can send
    them, but their places must not stand empty for all that time. `holder`: the process that asks.
    """
    if now is None:
        return int(fetch_value(tx, _FLYING, {"of_account": account_id}))
    return int(fetch_value(tx, _FLYING_NOW, {"of_account": account_id, "moment": now, "me": holder}))


_me = workers.alias()


#: Silence counts from the asker's own last sign of life: while the database was away nobody could give any.
_MY_LIFE = select(_me.c.seen_at).where(_me.c.name == bindparam("me", type_=Text)).scalar_subquery()


_ALIVE_SINCE = func.coalesce(_MY_LIFE, bindparam("moment", type_=Float)) - SILENT_AFTER


#: Workers that gave no sign of life for long.
SILENT_WORKERS = select(workers.c.name).where(workers.c.seen_at < _ALIVE_SINCE)


_FLYING = select(func.count()).where(
    attempts.c.account_id == bindparam("of_account"),
    # Literal, not bound: only then can the planner use the partial index.
    attempts.c.state.in_([literal_column(f"'{state.value}'") for state in IN_FLIGHT]),
)


_FLYING_NOW = _FLYING.where(
    ~((attempts.c.state == literal_column("'submitting'")) & attempts.c.holder.in_(SILENT_WORKERS))
)


def submit_rate(account: Row) -> float:
    """Submits a second: declared, or learnt so far."""
    return float(account.submits_per_second or account.learnt_rate)


def most_in_flight(account: Row) -> int:
    """Provider tasks at once: declared, or learnt so far."""
    return int(account.max_in_flight or account.learnt_in_flight)
