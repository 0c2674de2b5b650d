"""What a dead holder left: leases that ended without a word, and lanes with work that nobody woke."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, literal_column, select, update

from jobs.facts import SubmitRefused, SubmitUnclear
from jobs.ledger.claims.fair_share import IS_READY, MAY_SPEND
from jobs.ledger.database.schema import accounts, attempts, batches, destination_troubles, images, jobs
from jobs.ledger.database.send_journal import SendJournal
from jobs.ledger.facts import record
from jobs.policy.endings import Silence
from providers.types import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """What a sweep found: attempts that became unknown, and lanes that may have work."""

    unknown: int
    wakeups: frozenset[str]


def sweep(tx: Connection, now: float) -> SweepResult:
    """Submits whose lease ended without an outcome become unknown; tells which lanes have work."""
    expired = select(attempts.c.id).where(
        attempts.c.state == literal_column("'submitting'"), attempts.c.lease_until <= now
    )
    gone = list(tx.execute(expired).scalars())
    wakeups = record.record(tx, [_died(attempt_id, now) for attempt_id in gone]).wakeups if gone else set()
    return SweepResult(unknown=len(gone), wakeups=frozenset({*wakeups, *_lanes_with_work(tx, now)}))


def end_all(tx: Connection, now: float, departures: SendJournal) -> None:
    """Ends every lease at once, for the one who knows that all holders are dead. What never left is free again."""
    begun = _end_leases(tx, now)
    stayed = departures.never_left(begun)
    record.record(tx, [(_stayed if number in stayed else _died)(number, now) for number, _ in begun])


def _died(attempt_id: int, now: float) -> SubmitUnclear:
    message = "the process that was sending it ended before the answer was on record"
    return SubmitUnclear(attempt_id=attempt_id, at=now, code=Silence.DIED.value, message=message)


def _stayed(attempt_id: int, now: float) -> SubmitRefused:
    message, code = "the process that held it ended before it was sent", Silence.NOT_SENT.value
    return SubmitRefused(
        attempt_id=attempt_id, at=now, kind=Kind.TRANSIENT, code=code, message=message, retry_after=0.0
    )


def _end_leases(tx: Connection, now: float) -> list[tuple[int, str | None]]:
    """The submits that were open, and who held each."""
    tx.execute(update(attempts).where(attempts.c.next_poll_at.is_not(None)).values(next_poll_at=now))
    tx.execute(
        update(images)
        .where(images.c.state == literal_column("'generated'"), images.c.next_copy_at.is_not(None))
        .values(lease_until=None, next_copy_at=now)
    )
    tx.execute(delete(destination_troubles))
    # A person began again, so rests end; what is known of trouble stays, and one submit probes.
    tx.execute(update(accounts).values(paused_until=None))
    begun = select(attempts.c.id, attempts.c.holder).where(attempts.c.state == literal_column("'submitting'"))
    return [(row.id, row.holder) for row in tx.execute(begun)]


def _lanes_with_work(tx: Connection, now: float) -> Iterable[str]:
    """Lanes that may have something to do now."""
    names = {row.id: row for row in tx.execute(select(accounts).where(accounts.c.configured))}
    for row in names.values():
        wanted = {"at_provider": row.provider, "moment": now, "only": None, "of_schedule": None}
        if tx.execute(_ANY_READY, wanted).first() is not None:
            yield f"submit:{row.name}"
    polled = select(attempts.c.account_id).where(attempts.c.next_poll_at <= now).distinct()
    for account_id in tx.execute(polled).scalars():
        if account_id in names:
            yield f"poll:{names[account_id].name}"
    # Ordered, so that SQLite takes the index of those alone and does not look through every image.
    generated = select(images.c.id).where(images.c.state == literal_column("'generated'"))
    if tx.execute(generated.order_by(images.c.expires_at).limit(1)).first():
        yield "copy"


_ANY_READY = select(jobs.c.id).where(*IS_READY, jobs.c.batch_id.in_(select(batches.c.id).where(MAY_SPEND))).limit(1)
