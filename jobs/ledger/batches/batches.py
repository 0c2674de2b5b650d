"""Batches: found by name, made or brought up to date, and the numbers of their jobs."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, insert, select, update

from jobs.errors import LightfastError
from jobs.ledger.batches.values import Batch, NewBatch
from jobs.ledger.database.schema import batches
from jobs.policy.failover import Failover
from jobs.policy.reuse import Reuse
from jobs.states import IN_ARCHIVE, ArchiveStep, BatchState

#: Jobs a batch can number before they would run into the next batch's.
_JOBS_A_BATCH = 1 << 32


def find_batch(tx: Connection, name: str) -> Batch | None:
    """The batch of that name."""
    row = tx.execute(select(batches).where(batches.c.name == name)).first()
    return as_batch(row) if row else None


def dest_of(tx: Connection, batch_id: int) -> str:
    """Where a batch's images go."""
    return str(tx.execute(select(batches.c.dest).where(batches.c.id == batch_id)).scalar_one())


def all_batches(tx: Connection) -> list[Batch]:
    """Every batch, newest first."""
    return [as_batch(row) for row in tx.execute(select(batches).order_by(batches.c.id.desc()))]


def page(tx: Connection, most: int, *, before: int | None, of_token: int | None) -> list[Batch]:
    """The newest batches first; `before`: older than the one of that number; `of_token`: those it has made."""
    wanted = select(batches).order_by(batches.c.id.desc()).limit(most)
    wanted = wanted if before is None else wanted.where(batches.c.id < before)
    wanted = wanted if of_token is None else wanted.where(batches.c.token_id == of_token)
    return [as_batch(row) for row in tx.execute(wanted)]


def batch_id_of(tx: Connection, name: str) -> int:
    """The number of a batch that is there."""
    return int(tx.execute(select(batches.c.id).where(batches.c.name == name)).scalar_one())


def batch_of(tx: Connection, batch_id: int) -> Batch:
    """The batch of that number."""
    return as_batch(tx.execute(select(batches).where(batches.c.id == batch_id)).one())


def as_batch(row: Any) -> Batch:
    """A batch's row as a value."""
    return Batch(
        id=row.id,
        name=row.name,
        dest=row.dest,
        path=row.path,
        columns=tuple(json.loads(row.columns)),
        source=row.source,
        state=BatchState(row.state),
        reason=row.reason,
        budget=row.budget,
        allow_partial=row.allow_partial,
        reserved=row.reserved,
        charged=row.charged,
        agreed=row.agreed,
        sandbox=row.sandbox,
        weight=row.weight,
        created_at=row.created_at,
        retries=row.retries,
        failover=Failover(row.failover),
        strict_size=row.strict_size,
        decode=row.decode,
        sidecar=row.sidecar,
        reuse=Reuse(row.reuse) if row.reuse else None,
        delimiter=row.delimiter,
        archive=row.archive if row.archive_step in IN_ARCHIVE else None,
        archived_at=row.archive_at if row.archive_step in IN_ARCHIVE else None,
        notify=tuple(json.loads(row.notify)) if row.notify else (),
        token_id=row.token_id,
    )


def demand_whole(tx: Connection, batch_id: int) -> None:
    """To be called before rows of a batch change. An archive of them that is just being written is of no use then.

    Raises:
        NotWhole: The bulk of its rows lies in an archive.
    """
    mine = batches.c.id == batch_id
    locked = select(batches.c.name, batches.c.archive_step).where(mine).with_for_update(key_share=True)
    row = tx.execute(locked).one()
    if row.archive_step in IN_ARCHIVE:
        raise NotWhole(row.name)
    if row.archive_step == ArchiveStep.WRITING:
        tx.execute(update(batches).where(mine).values(archive=None, archive_step=None, archive_at=None))


class NotWhole(LightfastError):
    """The rows of a batch that somebody wants to change lie in an archive, or are just being taken there."""

    def __init__(self, batch: str) -> None:
        super().__init__(
            f"the rows of batch {batch} were archived meanwhile. Nothing was changed: the same command brings them "
            "back first."
        )


def upsert_batch(tx: Connection, new: NewBatch, now: float) -> int:
    """The batch's id; what a later run may change is changed."""
    found = tx.execute(select(batches.c.id).where(batches.c.name == new.name).with_for_update(key_share=True)).scalar()
    changing = {
        "columns": json.dumps(new.columns, ensure_ascii=False),
        "source": new.source,
        "budget": new.budget,
        "allow_partial": new.allow_partial,
        "weight": new.weight,
        "agreed": new.agreed,
        "retries": new.retries,
        "failover": new.failover.value,
        "providers": json.dumps(new.providers) if new.providers else None,
        "strict_size": new.strict_size,
        "decode": new.decode,
        "sidecar": new.sidecar,
        "reuse": new.reuse.value if new.reuse else None,
        "delimiter": new.delimiter,
        "notify": json.dumps(new.notify) if new.notify else None,
    }
    if found is not None:
        tx.execute(update(batches).where(batches.c.id == found).values(**changing))
        return int(found)
    bound = {"name": new.name, "dest": new.dest, "path": new.path, "sandbox": new.sandbox, "created_at": now}
    values = {**changing, **bound, "state": BatchState.ACTIVE.value}
    made = tx.execute(insert(batches).values(**values).returning(batches.c.id))
    return int(made.scalar_one())


def first_number(batch_id: int) -> int:
    """The number that no job of this batch is below, and every job of an earlier one is."""
    return batch_id * _JOBS_A_BATCH


def number_jobs(tx: Connection, batch_id: int, count: int) -> int:
    """Reserves `count` numbers for new jobs of the batch; returns the first."""
    made = update(batches).where(batches.c.id == batch_id).values(jobs_made=batches.c.jobs_made + count)
    return first_number(batch_id) + int(tx.execute(made.returning(batches.c.jobs_made)).scalar_one()) - count
