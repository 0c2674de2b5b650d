"""Events: what is worth telling in a job's history."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, insert

from jobs.ledger.schema import events
from providers.dialect import RAW_LIMIT, clean


def event_row(name: str, at: float, row: Any, detail: dict[str, Any]) -> dict[str, Any]:
    """An event about an attempt."""
    cleaned = {key: clean(value, RAW_LIMIT) if isinstance(value, str) else value for key, value in detail.items()}
    return {
        "at": at,
        "name": name,
        "batch_id": row.batch_id,
        "job_id": row.job_id,
        "attempt_id": row.id,
        "detail": json.dumps(cleaned),
    }


def write_events(tx: Connection, rows: list[dict[str, Any]]) -> None:
    """Adds events to the history."""
    if rows:
        tx.execute(insert(events), rows)
