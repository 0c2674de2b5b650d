"""Events: what is worth telling in a job's history."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from jobs.ledger.database.many import insert_many
from jobs.ledger.database.schema import events
from jobs.ledger.database.statements import run_each
from providers.types import RAW_LIMIT, clean


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


def job_event(name: str, batch_id: int, job_id: int, now: float, detail: dict[str, Any]) -> dict[str, Any]:
    """An event about a job, and none of its attempts."""
    told = json.dumps(detail)
    return {"at": now, "name": name, "batch_id": batch_id, "job_id": job_id, "attempt_id": None, "detail": told}


_COLUMNS = ("at", "name", "batch_id", "job_id", "attempt_id", "detail")


def write_events(tx: Connection, rows: list[dict[str, Any]]) -> None:
    """Adds events to the history."""
    if rows:
        insert_many(tx, events, _COLUMNS, [tuple([row[name] for name in _COLUMNS]) for row in rows])


def write_or_count(tx: Connection, rows: list[dict[str, Any]]) -> None:
    """Adds events; what was said of an attempt before, with the same code, is counted there: `times`, `last_at`."""
    before = _said_before(tx, rows)
    fresh: dict[tuple[int, str], dict[str, Any]] = {}
    for row in rows:
        said = _what(row)
        old = before.get(said) or fresh.get(said)
        if old is None:
            fresh[said] = row
        else:
            detail = json.loads(old["detail"])
            old["detail"] = json.dumps(detail | {"times": detail.get("times", 1) + 1, "last_at": row["at"]})
    write_events(tx, list(fresh.values()))
    again = [before[said] for said in dict.fromkeys(map(_what, rows)) if said in before]
    if again:
        run_each(tx, _COUNTED, [{"of_event": row["id"], "now": row["detail"]} for row in again])


_COUNTED = update(events).where(events.c.id == bindparam("of_event")).values(detail=bindparam("now"))


def _said_before(tx: Connection, rows: list[dict[str, Any]]) -> dict[tuple[int, str], dict[str, Any]]:
    jobs, names = {row["job_id"] for row in rows}, {row["name"] for row in rows}
    wanted = select(events).where(events.c.job_id.in_(jobs), events.c.name.in_(names)).order_by(events.c.id)
    found = [dict(row) for row in tx.execute(wanted).mappings()]
    return {_what(row): row for row in found}


def _what(row: Mapping[str, Any]) -> tuple[int, str]:
    return row["attempt_id"], json.loads(row["detail"]).get("code") or ""


def history(tx: Connection, job_id: int) -> Sequence[Any]:
    """A job's events, oldest first."""
    return tx.execute(select(events).where(events.c.job_id == job_id).order_by(events.c.id)).all()
