"""Batches most of whose rows fail alike pause themselves. What a person has seen before a `resume` counts no more."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from sqlalchemy import Connection, func, select, update

from jobs.ledger.database.schema import batches, jobs
from jobs.policy.failure_breaker import common_failure
from jobs.states import TRIED, BatchState, JobState


def pause_hopeless(tx: Connection) -> list[tuple[str, str]]:
    """Pauses active batches with something left to spare; tells their names, and the code their rows failed with."""
    has_ready = select(jobs.c.id).where(jobs.c.batch_id == batches.c.id, jobs.c.state == JobState.READY).exists()
    active = select(batches).where(batches.c.state == BatchState.ACTIVE, has_ready)
    paused: list[tuple[str, str]] = []
    for row in tx.execute(active.order_by(batches.c.id).with_for_update(key_share=True)).all():
        code = _judge(row, counts(tx, row.id))
        if code is not None:
            why = {"state": BatchState.PAUSED.value, "reason": f"over half of the rows that ended failed with {code}"}
            tx.execute(update(batches).where(batches.c.id == row.id).values(**why))
            paused.append((row.name, code))
    return paused


def counts(tx: Connection, batch_id: int) -> dict[str, int]:
    """Rows that were tried and ended, by error code; "" for those that went well."""
    ended = (jobs.c.batch_id == batch_id, jobs.c.state.in_(TRIED))
    told: Counter[str] = Counter()
    grouped = (
        select(jobs.c.state, jobs.c.error_code, func.count()).where(*ended).group_by(jobs.c.state, jobs.c.error_code)
    )
    for state, code, count in tx.execute(grouped):
        told["" if state == JobState.DONE else code or "outcome_unknown"] += count
    return dict(told)


def forgive(tx: Connection, name: str) -> None:
    """A person goes on with the batch: from here on it is judged anew."""
    row = tx.execute(select(batches.c.id).where(batches.c.name == name)).first()
    if row is not None:
        seen = json.dumps(counts(tx, row.id))
        tx.execute(update(batches).where(batches.c.id == row.id).values(judged_from=seen))


def _judge(row: Any, now: dict[str, int]) -> str | None:
    seen = json.loads(row.judged_from) if row.judged_from else {}
    fresh = {code: count - seen.get(code, 0) for code, count in now.items()}
    errors = {code: count for code, count in fresh.items() if code}
    return common_failure(sum(fresh.values()), errors)
