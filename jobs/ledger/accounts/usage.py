"""How far accounts use what they may, and what waits for them. Reads only, and little: a scrape asks for it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, case, func, literal_column, select

from jobs.ledger.accounts import durations
from jobs.ledger.accounts.places import in_flight, most_in_flight, submit_rate
from jobs.ledger.accounts.poll_rate import poll_rate
from jobs.ledger.accounts.values import Account, LearntLimits, Use
from jobs.ledger.database.schema import ATTEMPTS_AN_ACCOUNT, accounts, attempts, batches, jobs
from jobs.policy.adaptive_limits import Bound
from jobs.policy.endings import Silence
from jobs.states import BatchState

#: Seconds over which submits are counted.
MINUTE = 60.0
#: An account's newest attempts, of which those of the last minute are counted: more than any rate makes in one.
_NEWEST = 10_000


def all_accounts(tx: Connection) -> list[Account]:
    """The configured accounts, by name."""
    rows = tx.execute(select(accounts).where(accounts.c.configured).order_by(accounts.c.name)).all()
    found = durations.found(tx)
    return [_as_account(row, in_flight(tx, row.id), found.get(row.id, (0, 0.0))) for row in rows]


def _as_account(row: Any, flying: int, found: tuple[int, float]) -> Account:
    return Account(
        name=row.name,
        provider=row.provider,
        submits_per_second=submit_rate(row),
        polls_per_second=poll_rate(row),
        max_in_flight=most_in_flight(row),
        in_flight=flying,
        paused_until=row.paused_until,
        paused_code=row.paused_code,
        paused_message=row.paused_message,
        throttled=row.throttled,
        polls_made=row.polls_made,
        tasks_found=found[0],
        lateness_sum=found[1],
        troubled_since=row.troubled_since,
    )


def uses(tx: Connection, now: float) -> dict[str, Use]:
    """By the names of the configured accounts."""
    waiting = _waiting(tx)
    rows = tx.execute(select(accounts).where(accounts.c.configured)).all()
    return {row.name: _use(tx, row, waiting.get(row.provider, 0), now) for row in rows}


def learnt(tx: Connection) -> dict[str, LearntLimits]:
    """What was learnt of each account, by name."""
    found = durations.found(tx)
    return {row.name: _learnt(row, found.get(row.id, (0, 0.0))) for row in tx.execute(select(accounts))}


def _learnt(row: Any, found: tuple[int, float]) -> LearntLimits:
    return LearntLimits(
        provider=row.provider,
        submits_per_second=row.learnt_rate,
        max_in_flight=row.learnt_in_flight,
        rate_is_met=row.rate_top is not None,
        in_flight_is_met=row.in_flight_top is not None,
        lateness=found[1] / found[0] if found[0] else 0.0,
    )


def _use(tx: Connection, row: Any, waiting: int, now: float) -> Use:
    return Use(
        sent=_sent(tx, row.id, now - MINUTE),
        waiting=waiting,
        bound_by=Bound(row.bound_by),
        rate_top=None if row.submits_per_second else row.rate_top,
        in_flight_top=None if row.max_in_flight else row.in_flight_top,
        called_back_at=row.called_back_at,
    )


def _sent(tx: Connection, account_id: int, since: float) -> int:
    """Submits that left since then. Attempts are numbered by account and in time, so only the newest are read."""
    first = account_id * ATTEMPTS_AN_ACCOUNT
    mine = attempts.c.id.between(first, first + ATTEMPTS_AN_ACCOUNT - 1)
    newest = select(attempts).where(mine).order_by(attempts.c.id.desc()).limit(_NEWEST).subquery()
    left = func.coalesce(newest.c.error_code, "") != Silence.NOT_SENT
    return tx.execute(select(func.count()).where(newest.c.created_at >= since, left)).scalar_one()


def _waiting(tx: Connection) -> dict[str, int]:
    """Rows that could be sent, by provider."""
    active = select(batches.c.id).where(batches.c.state == BatchState.ACTIVE)
    # Not below WHERE: the index of positions would be taken, and every row be read.
    listed = func.sum(case((jobs.c.position.is_not(None), 1), else_=0))
    ready = select(jobs.c.provider, listed).where(
        jobs.c.batch_id.in_(active), jobs.c.state == literal_column("'ready'")
    )
    return {provider: int(count) for provider, count in tx.execute(ready.group_by(jobs.c.provider)) if provider}
