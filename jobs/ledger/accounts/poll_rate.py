"""How fast an account's tasks may be asked about: where undeclared, more while that is too little, less after a 429."""

from __future__ import annotations

from sqlalchemy import Connection, select

from jobs.facts import TaskStillRunning
from jobs.ledger.accounts.places import in_flight
from jobs.ledger.accounts.values import PollRoom
from jobs.ledger.database.schema import accounts
from jobs.ledger.database.statements import Row
from jobs.policy import adaptive_limits
from jobs.policy.adaptive_limits import Bound
from jobs.policy.rate import Permits


def poll_rate(account: Row) -> float:
    """Requests a second: declared, or learnt so far."""
    return float(account.polls_per_second or account.learnt_polls)


def rooms(tx: Connection) -> dict[str, PollRoom]:
    """By the names of the configured accounts."""
    rows = tx.execute(select(accounts).where(accounts.c.configured)).all()
    return {
        row.name: PollRoom(
            per_second=poll_rate(row),
            is_learnt=row.polls_per_second is None,
            in_flight=in_flight(tx, row.id),
            is_full=row.bound_by == Bound.IN_FLIGHT.value,
        )
        for row in rows
    }


def after_use(account: Row, permits: Permits, used: int, now: float) -> float:
    """The learnt rate after a claim took `used` of its permits."""
    bound = used == permits.count and not permits.short
    calm = account.polls_cut_at is None or abs(now - account.polls_cut_at) >= adaptive_limits.POLLS_CALM
    return adaptive_limits.more_polls(account.learnt_polls, used) if bound and calm else float(account.learnt_polls)


def cooled(account: Row, fact: TaskStillRunning) -> dict[str, float]:
    """The account's columns after a 429 to a poll: all its polls rest, once, and are fewer from then on."""
    until = fact.at + min(fact.rest or 0.0, adaptive_limits.LONGEST_POLL_COOLDOWN)
    values = {"poll_tat": max(account.poll_tat, until)}
    if account.polls_cut_at is None or fact.at > account.polls_cut_at:
        values.update(learnt_polls=adaptive_limits.fewer_polls(account.learnt_polls), polls_cut_at=until)
    return values
