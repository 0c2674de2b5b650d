"""Who did what: one entry an action, never changed."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, insert, select

from jobs.ledger.access.values import LogEntry, NewLogEntry
from jobs.ledger.database.schema import access_log
from providers.types import clean


def note(tx: Connection, new: NewLogEntry, now: float) -> None:
    """Puts an action on record."""
    tx.execute(
        insert(access_log).values(
            at=now,
            token_id=new.token_id or None,  # `NO_TOKEN`
            who=clean(new.who),
            action=new.action,
            subject=None if new.subject is None else clean(new.subject),
            detail=json.dumps(dict(new.detail or {}), ensure_ascii=False),
        )
    )


def newest(tx: Connection, most: int, before: int | None) -> list[LogEntry]:
    """The newest entries first; `before`: those that are older than the entry of that id."""
    wanted = select(access_log).order_by(access_log.c.id.desc()).limit(most)
    found = tx.execute(wanted if before is None else wanted.where(access_log.c.id < before))
    return [_as_entry(row) for row in found]


def _as_entry(row: Any) -> LogEntry:
    detail = json.loads(row.detail)
    return LogEntry(id=row.id, at=row.at, who=row.who, action=row.action, subject=row.subject, detail=detail)
