"""Sessions of browsers that a log-out ended: every process of a cluster is to know."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, select

from jobs.ledger.database.schema import ended_sessions
from jobs.ledger.database.statements import INSERT, has_row


def end(tx: Connection, session_id: str, now: float, kept: float) -> None:
    """The session is over; those that ended `kept` seconds ago are forgotten."""
    tx.execute(delete(ended_sessions).where(ended_sessions.c.ended_at < now - kept))
    fresh = INSERT[tx.dialect.name](ended_sessions).values(id=session_id, ended_at=now)
    tx.execute(fresh.on_conflict_do_nothing())


def is_ended(tx: Connection, session_id: str) -> bool:
    """Whether a log-out ended it."""
    return bool(tx.execute(_IS_ENDED, {"session": session_id}).scalar())


_IS_ENDED = select(has_row(select(ended_sessions.c.id).where(ended_sessions.c.id == bindparam("session"))))
