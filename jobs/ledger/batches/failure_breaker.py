"""Batches most of whose rows fail alike pause themselves: the same rule for a local run and for a cluster.

A row that ended before a person last went on with the batch (recorded a manifest, resumed, retried or redid rows) is
not counted: that person has seen it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

from sqlalchemy import Connection, func, select, true, update

from jobs.ledger.database.schema import batches, jobs
from jobs.ledger.database.statements import has_row
from jobs.policy.failure_breaker import common_failure
from jobs.states import TRIED, BatchState, JobState


def pause_failing(tx: Connection, only: str | None = None) -> list[tuple[str, str]]:
    """Pauses active batches with rows left to send; their names, and the code their rows failed with.

    It counts all rows of each batch that it looks at. `only`: that batch.
    """
    has_ready = has_row(select(jobs.c.id).where(jobs.c.batch_id == batches.c.id, jobs.c.state == JobState.READY))
    named = true() if only is None else batches.c.name == only
    active = select(batches).where(batches.c.state == BatchState.ACTIVE, has_ready, named)
    paused: list[tuple[str, str]] = []
    for row in tx.execute(active.order_by(batches.c.id).with_for_update(key_share=True)).all():
        code = verdict(row.judged_from, _counts(tx, row.id))
        if code is not None:
            why = {"state": BatchState.PAUSED.value, "reason": f"over half of the rows that ended failed with {code}"}
            tx.execute(update(batches).where(batches.c.id == row.id).values(**why))
            paused.append((row.name, code))
    return paused


def verdict(judged_from: str | None, ended: Mapping[str, int]) -> str | None:
    """The code a batch's rows fail with, when that is reason to pause it.

    `judged_from`: the batch's column of that name. `ended`: rows by error code, "" for those that went well.
    """
    seen = json.loads(judged_from) if judged_from else {}
    fresh = {code: max(0, count - seen.get(code, 0)) for code, count in ended.items()}
    errors = {code: count for code, count in fresh.items() if code}
    return common_failure(sum(fresh.values()), errors)


def judge_anew(tx: Connection, batch_id: int) -> None:
    """A person goes on with the batch: only rows that end from here on are counted."""
    seen = json.dumps(_counts(tx, batch_id))
    tx.execute(update(batches).where(batches.c.id == batch_id).values(judged_from=seen))


def _counts(tx: Connection, batch_id: int) -> dict[str, int]:
    """Rows that were tried and ended, by error code; "" for those that went well."""
    ended = (jobs.c.batch_id == batch_id, jobs.c.state.in_(TRIED))
    told: Counter[str] = Counter()
    grouped = (
        select(jobs.c.state, jobs.c.error_code, func.count()).where(*ended).group_by(jobs.c.state, jobs.c.error_code)
    )
    for state, code, count in tx.execute(grouped):
        told["" if state == JobState.DONE else code or "outcome_unknown"] += count
    return dict(told)
