"""Reports on batches whose bulk lies in an archive: the same lines as before, made of what the archive holds.

Reading it is not the ledger's matter: whoever opens the ledger gives it something that does (`Archives`).
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

from sqlalchemy import Connection, select

from jobs.errors import LightfastError
from jobs.ledger.batches.batches import as_batch
from jobs.ledger.batches.values import Batch
from jobs.ledger.claims import reuse
from jobs.ledger.database.schema import batches, jobs
from jobs.ledger.reports import results
from jobs.ledger.reports.books import AuditLine, Entry, Money
from jobs.ledger.reports.money import AuditFilter
from jobs.ledger.reports.values import Result, Story
from jobs.states import IN_ARCHIVE, JobState

#: A row of a table, by the names of its columns, as the ledger held it; and what reports add to it.
ArchivedRow = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowWithImages:
    """A job and all of its images."""

    job: ArchivedRow
    images: Sequence[ArchivedRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeRow:
    """All that the archive has of one job."""

    job: ArchivedRow
    images: Sequence[ArchivedRow]
    attempts: Sequence[ArchivedRow]
    events: Sequence[ArchivedRow]


class Archive(Protocol):
    """The archive of one batch. Raises `LightfastError` where it cannot be read, or is not as it was written."""

    def rows(self) -> Iterator[RowWithImages]:
        """Every job by its position, and then those that are in the newest manifest no more."""

    def books(self) -> Iterator[ArchivedRow]:
        """Every attempt, in the order of their intents."""

    def of_job(self, job_id: int) -> WholeRow | None:
        """One job, and all that happened to it."""


#: Opens an archive by its address.
Archives = Callable[[str], Archive]


def unread(_address: str) -> Archive:
    """For ledgers that nobody has given a way to read archives."""
    raise LightfastError("this process does not read archives of batches")


# -- results and stories -------------------------------------------------------------------------------------------


def results_after(archive: Archive, after: int) -> Iterator[Result]:
    """The lines after a position, as `results.results_page` gives them."""
    for row in archive.rows():
        if row.job["position"] is None:
            return
        if row.job["position"] > after:
            yield _as_result(row.job, row.images)


def _as_result(job: ArchivedRow, images: Iterable[ArchivedRow]) -> Result:
    cost = results.JobCost(job["cost"], job["estimated"]) if job["has_attempts"] else None
    return results.as_result(_record(job), [_record(image) for image in images if not image["surplus"]], cost)


def _record(row: ArchivedRow) -> Any:
    return SimpleNamespace(**row)


def job_id_of(tx: Connection, batch_id: int, key: str) -> int | None:
    """The number of the job with this key."""
    return tx.execute(select(jobs.c.id).where(jobs.c.batch_id == batch_id, jobs.c.key == key)).scalar()


def story(row: WholeRow) -> Story:
    """Everything that happened to one job, but for where its images were taken from."""
    result = _as_result(row.job, row.images)
    slots = [_record(each) for each in row.images if not each["surplus"] and each["revision"] != result.revision]
    in_order = sorted(row.attempts, key=lambda each: (each["created_at"], each["id"]))
    return Story(
        result=result,
        attempts=tuple(results.as_attempt_story(_record(each)) for each in in_order),
        events=tuple(results.as_event(_record(each)) for each in row.events),
        next_try_at=row.job["ready_at"] if result.state is JobState.READY and row.job["ready_at"] else None,
        older=tuple(results.as_stored(slot) for slot in slots),
    )


taken_from = reuse.taken_from


# -- books ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedBooks:
    """Where the attempts of a batch are written down, and from when to when they were sent."""

    batch: str
    archive: str
    first: float
    last: float


def books_of(tx: Connection, wish: AuditFilter) -> list[ArchivedBooks]:
    """The archives in which attempts may be that are asked for, in the order of their first."""
    found = []
    for batch, sums in sums_of(tx, wish.batch):
        first, last = sums["first_intent"], sums["last_intent"]
        if first is None or (wish.since is not None and last < wish.since):
            continue
        if wish.until is None or first < wish.until:
            found.append(ArchivedBooks(batch=batch.name, archive=batch.archive or "", first=first, last=last))
    return sorted(found, key=lambda each: each.first)


def merged(
    lines: Iterator[AuditLine], books: Iterable[ArchivedBooks], open_: Archives, wish: AuditFilter
) -> Iterator[AuditLine]:
    """The ledger's lines and those of archives, in the order of their intents; each archive is opened at its turn."""
    waiting: list[tuple[float, int, int, AuditLine | None, Iterator[AuditLine]]] = []

    def push(number: int, source: Iterator[AuditLine]) -> None:
        if (line := next(source, None)) is not None:
            heapq.heappush(waiting, (line.intended_at, line.attempt, number, line, source))

    push(-1, lines)
    for number, each in enumerate(books):
        source = _lines(each, open_, wish)
        heapq.heappush(waiting, (each.first, -1, number, None, source))
    while waiting:
        _, _, number, line, source = heapq.heappop(waiting)
        if line is not None:
            yield line
        push(number, source)


def _lines(books: ArchivedBooks, open_: Archives, wish: AuditFilter) -> Iterator[AuditLine]:
    for row in open_(books.archive).books():
        at = row["created_at"]
        is_late = wish.since is None or at >= wish.since
        is_early = wish.until is None or at < wish.until
        if is_late and is_early and wish.account in (None, row["account"]):
            yield _audit_line(row, books.batch)


def _audit_line(row: ArchivedRow, batch: str) -> AuditLine:
    return AuditLine(
        attempt=row["id"],
        batch=batch,
        key=row["key"],
        account=row["account"],
        provider=row["provider"],
        model=row["provider_model"],
        task_id=row["task_id"],
        state=row["state"],
        asked=row["n"],
        delivered=row["images_delivered"],
        surplus=row["images_surplus"],
        surplus_cost=row["surplus_cost"],
        price=row["price"],
        reserved=row["ever_reserved"],
        open=row["reserved"],
        charged=row["charged"],
        intended_at=row["created_at"],
        accepted_at=row["accepted_at"],
        finished_at=row["finished_at"],
        code=row["error_code"],
    )


# -- sums ----------------------------------------------------------------------------------------------------------


def sums_of(tx: Connection, batch: str | None) -> list[tuple[Batch, dict[str, Any]]]:
    """The batches that lie in archives, one or all, and the sums of their money."""
    archived = batches.c.archive_step.in_([step.value for step in IN_ARCHIVE])
    mine = (archived,) if batch is None else (archived, batches.c.name == batch)
    rows = tx.execute(select(batches).where(*mine)).all()
    return [(as_batch(row), json.loads(row.archive_sums)) for row in rows]


def entries(tx: Connection, batch: str | None) -> list[Entry]:
    """The money of archived batches at each account."""
    return [
        Entry(batch=owner.name, account=each["account"], provider=each["provider"], money=Money(**each["money"]))
        for owner, sums in sums_of(tx, batch)
        for each in sums["accounts"]
    ]
