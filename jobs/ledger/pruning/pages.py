"""What goes into an archive, read page by page: a batch's jobs with their images and events, and its attempts."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import BigInteger, Boolean, Connection, Float, Integer, LargeBinary, func, select
from sqlalchemy import Table as SchemaTable

from jobs.ledger.batches.batches import batch_id_of
from jobs.ledger.database.schema import attempts, events, images, jobs
from jobs.ledger.pruning.values import ColumnKind, Fingerprint, Table
from jobs.ledger.reports import money, progress, results
from jobs.ledger.reports.money import AuditFilter

#: Jobs and attempts that are read at once.
PAGE = 1_000

_TABLES: Mapping[Table, SchemaTable] = {
    Table.ROWS: jobs,
    Table.IMAGES: images,
    Table.EVENTS: events,
    Table.BOOKS: attempts,
}
#: What an archive has beside the ledger's columns: what reports know of a row by its attempts, and books by images.
_MORE: Mapping[Table, Mapping[str, ColumnKind]] = {
    Table.ROWS: {"has_attempts": ColumnKind.TRUTH, "cost": ColumnKind.INTEGER, "estimated": ColumnKind.TRUTH},
    Table.IMAGES: {"provider": ColumnKind.TEXT, "provider_model": ColumnKind.TEXT, "price": ColumnKind.INTEGER},
    Table.EVENTS: {},
    Table.BOOKS: {
        "key": ColumnKind.TEXT,
        "account": ColumnKind.TEXT,
        "provider": ColumnKind.TEXT,
        "images_delivered": ColumnKind.INTEGER,
        "images_surplus": ColumnKind.INTEGER,
        "surplus_cost": ColumnKind.INTEGER,
        "ever_reserved": ColumnKind.INTEGER,
    },
}


def columns(table: Table) -> dict[str, ColumnKind]:
    """The columns of an archive's table."""
    return {column.name: _kind(column.type) for column in _TABLES[table].columns} | dict(_MORE[table])


def _kind(type_: Any) -> ColumnKind:
    kinds = {
        Boolean: ColumnKind.TRUTH,
        BigInteger: ColumnKind.INTEGER,
        Integer: ColumnKind.INTEGER,
        Float: ColumnKind.NUMBER,
    }
    kinds |= {LargeBinary: ColumnKind.BYTES}
    return next((kind for sort, kind in kinds.items() if isinstance(type_, sort)), ColumnKind.TEXT)


def of_ledger(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """An archived row without what reports know of it: as it stands in the ledger."""
    return {column.name: row[column.name] for column in _TABLES[table].columns}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsPage:
    """Some jobs of a batch, and all of their images and events."""

    rows: list[dict[str, Any]]
    images: list[dict[str, Any]]  # in the order of their jobs, by slot
    events: list[dict[str, Any]]  # the same, by time


#: The last job of a page: its position and number.
Place = tuple[int | None, int]


def jobs_page(tx: Connection, batch_id: int, after: Place | None) -> JobsPage:
    """The next page: by position, and then the jobs that are in the newest manifest no more."""
    found = _listed(tx, batch_id, after) if after is None or after[0] is not None else []
    if not found:
        found = _dropped(tx, batch_id, after[1] if after is not None and after[0] is None else -1)
    ids = [row.id for row in found]
    costs = results.costs_of(tx, ids)
    by_job = results.images_of(tx, ids)
    told = _events_of(tx, ids)
    return JobsPage(
        rows=[_with_cost(row, costs.get(row.id)) for row in found],
        images=[image._asdict() for number in ids for image in by_job.get(number, ())],
        events=[event for number in ids for event in told[number]],
    )


def _listed(tx: Connection, batch_id: int, after: Place | None) -> Sequence[Any]:
    position, number = after if after is not None else (-1, -1)
    # Not the pair compared as one: SQLite would look for it without the index.
    behind = (jobs.c.position >= position, (jobs.c.position > position) | (jobs.c.id > number))
    wanted = select(jobs).where(jobs.c.batch_id == batch_id, *behind)
    return tx.execute(wanted.order_by(jobs.c.position, jobs.c.id).limit(PAGE)).all()


def _dropped(tx: Connection, batch_id: int, after: int) -> Sequence[Any]:
    wanted = select(jobs).where(jobs.c.batch_id == batch_id, jobs.c.position.is_(None), jobs.c.id > after)
    return tx.execute(wanted.order_by(jobs.c.id).limit(PAGE)).all()


def _with_cost(row: Any, cost: results.JobCost | None) -> dict[str, Any]:
    told = {"has_attempts": cost is not None, "cost": cost and cost.micros, "estimated": cost and cost.estimated}
    return {**row._asdict(), **told}


def _events_of(tx: Connection, job_ids: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in tx.execute(select(events).where(events.c.job_id.in_(job_ids)).order_by(events.c.id)).mappings():
        found[row["job_id"]].append(dict(row))
    return found


# -- books ---------------------------------------------------------------------------------------------------------


def numbers(tx: Connection, batch: str) -> array[int]:
    """The batch's attempts, in the order of their intents."""
    return money.audited(tx, AuditFilter(batch=batch))


def books_page(tx: Connection, ids: Sequence[int]) -> list[dict[str, Any]]:
    """These attempts, in this order."""
    rows = {row.id: row for row in tx.execute(select(attempts).where(attempts.c.id.in_(ids)))}
    return [
        {
            **rows[line.attempt]._asdict(),
            "key": line.key,
            "account": line.account,
            "provider": line.provider,
            "images_delivered": line.delivered,
            "images_surplus": line.surplus,
            "surplus_cost": line.surplus_cost,
            "ever_reserved": line.reserved,
        }
        for line in money.audit_lines(tx, ids)
    ]


# -- what stays known ----------------------------------------------------------------------------------------------


def fingerprint(tx: Connection, batch_id: int) -> Fingerprint:
    """Counts and sums of a batch's rows: facts that come late change them. What people ask for takes its mark away."""
    of_images = (func.count(), func.max(images.c.id), func.sum(images.c.bytes), func.sum(images.c.tries))
    paid = (func.count(), func.sum(attempts.c.charged), func.sum(attempts.c.polls), func.sum(attempts.c.came))
    told = (func.count(), func.max(events.c.id))
    found = (
        tx.execute(select(func.count(), func.sum(jobs.c.revision)).where(jobs.c.batch_id == batch_id)).one(),
        tx.execute(select(*of_images).where(images.c.batch_id == batch_id)).one(),
        tx.execute(select(*paid).where(attempts.c.batch_id == batch_id)).one(),
        tx.execute(
            select(*told).where(events.c.job_id.in_(select(jobs.c.id).where(jobs.c.batch_id == batch_id)))
        ).one(),
    )
    return tuple(int(value or 0) for row in found for value in row)


def sums(tx: Connection, name: str) -> dict[str, Any]:
    """The batch's money, as plain JSON values in micro-dollars, and between which intents it was spent."""
    spent = [
        {"account": each.account, "provider": each.provider, "money": asdict(each.money)}
        for each in money.entries(tx, name)
    ]
    batch_id = batch_id_of(tx, name)
    mine = attempts.c.batch_id == batch_id
    first, last = tx.execute(select(func.min(attempts.c.created_at), func.max(attempts.c.created_at)).where(mine)).one()
    return {"accounts": spent, "lost": progress.lost_money(tx, batch_id), "first_intent": first, "last_intent": last}


def in_pages(ids: array[int]) -> Iterator[list[int]]:
    """These numbers, a page at a time."""
    return (list(ids[start : start + PAGE]) for start in range(0, len(ids), PAGE))
