"""The emergency stop: no submit of any batch is claimed, by any process, until a person lifts it.

Every claim of submits holds its account's row until it commits. To stop, one transaction takes the rows of all
accounts, so it waits for the claims that are under way, and every later claim reads the stop. Polls, copies and sweeps
go on.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, literal_column, select, update

from jobs.ledger.accounts.worker_values import EmergencyStop
from jobs.ledger.database.schema import accounts, attempts
from jobs.ledger.database.schema import ledger as ledger_row
from jobs.policy.endings import Silence
from jobs.states import AttemptState

#: Part of a claim's own statement: a claim reads it after it has the account's row, never before.
NOT_STOPPED = select(ledger_row.c.stopped_at).scalar_subquery().is_(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class StopOutcome:
    """What a stop found."""

    stop: EmergencyStop
    anew: bool  # False: it stood already
    claimed: frozenset[int]  # attempts that were claimed before it, and are not answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Fates:
    """What became of attempts that were claimed before the stop."""

    open: int  # on the wire, or not yet given back by their process
    given_back: int  # never sent


def stop(tx: Connection, now: float, by: str) -> StopOutcome:
    """From the commit of this transaction on, nobody claims a submit."""
    tx.execute(_ALL_ACCOUNTS)
    anew = tx.execute(_STOP, {"moment": now, "who": by}).rowcount > 0
    # Again: a process that has just started may have put in an account that the first look did not find. From here on
    # it waits for the ledger's row, which this transaction holds.
    tx.execute(_ALL_ACCOUNTS)
    found = standing(tx) or EmergencyStop(since=now, by=by)
    return StopOutcome(stop=found, anew=anew, claimed=frozenset(tx.execute(_CLAIMED).scalars()))


# In the order in which everybody takes them.
_ALL_ACCOUNTS = select(accounts.c.id).order_by(accounts.c.id).with_for_update(key_share=True)
_STOP = (
    update(ledger_row)
    .where(ledger_row.c.stopped_at.is_(None))
    .values(stopped_at=bindparam("moment"), stopped_by=bindparam("who"))
)
_CLAIMED = select(attempts.c.id).where(attempts.c.state == literal_column("'submitting'"))


def lift(tx: Connection) -> EmergencyStop | None:
    """Submits are claimed again; returns the stop that stood. Batches that are paused stay paused."""
    before = standing(tx)
    tx.execute(update(ledger_row).values(stopped_at=None, stopped_by=None))
    return before


def standing(tx: Connection) -> EmergencyStop | None:
    """The stop, while there is one."""
    row = tx.execute(_STANDING).one()
    return None if row.stopped_at is None else EmergencyStop(since=row.stopped_at, by=row.stopped_by or "")


_STANDING = select(ledger_row.c.stopped_at, ledger_row.c.stopped_by)


def fates(tx: Connection, attempt_ids: Collection[int]) -> Fates:
    """How many of these attempts are still open, and how many were given back."""
    these = attempts.c.id.in_(attempt_ids)
    still = select(func.count()).where(these, attempts.c.state == AttemptState.SUBMITTING)
    back = select(func.count()).where(
        these, attempts.c.state == AttemptState.REFUSED, attempts.c.error_code == Silence.NOT_SENT.value
    )
    return Fates(open=tx.execute(still).scalar_one(), given_back=tx.execute(back).scalar_one())
