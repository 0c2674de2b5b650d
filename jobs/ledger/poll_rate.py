"""How fast an account's tasks may be asked about: where undeclared, more while that is too little, less after a 429."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select, update

from jobs import learning
from jobs.ledger.schema import accounts, attempts
from jobs.ledger.values import TaskStillRunning
from jobs.limits import Permits


def poll_rate(account: Row[Any]) -> float:
    """Requests a second: declared, or learnt so far."""
    return float(account.polls_per_second or account.learnt_polls)


def after_use(account: Row[Any], permits: Permits, used: int, now: float) -> float:
    """The learnt rate after a claim took so many of its permits."""
    bound = used == permits.count and not permits.short
    calm = account.polls_cut_at is None or abs(now - account.polls_cut_at) >= learning.POLLS_CALM
    return learning.more_polls(account.learnt_polls, used) if bound and calm else float(account.learnt_polls)


def cool(tx: Connection, facts: Sequence[TaskStillRunning]) -> None:
    """A 429 to a poll: all polls of the account rest, once, and are fewer from then on."""
    throttled = {fact.attempt_id: fact for fact in facts if fact.rest is not None}
    if not throttled:
        return
    whose = select(attempts.c.id, attempts.c.account_id).where(attempts.c.id.in_(throttled))
    worst: dict[int, TaskStillRunning] = {}
    for row in tx.execute(whose):
        worst[row.account_id] = max(worst.get(row.account_id, throttled[row.id]), throttled[row.id], key=_until)
    # Locked in order, and before any attempt is written: as everybody does.
    mine = select(accounts).where(accounts.c.id.in_(worst)).order_by(accounts.c.id).with_for_update(key_share=True)
    for account in tx.execute(mine).all():
        _cool(tx, account, worst[account.id])


def _until(fact: TaskStillRunning) -> float:
    return fact.at + min(fact.rest or 0.0, learning.LONGEST_POLL_REST)


def _cool(tx: Connection, account: Row[Any], fact: TaskStillRunning) -> None:
    until = _until(fact)
    values: dict[str, float] = {"poll_tat": max(account.poll_tat, until)}
    if account.polls_cut_at is None or fact.at > account.polls_cut_at:
        values.update(learnt_polls=learning.fewer_polls(account.learnt_polls), polls_cut_at=until)
    tx.execute(update(accounts).where(accounts.c.id == account.id).values(**values))
