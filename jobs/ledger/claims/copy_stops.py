"""What submits wait for since its images cannot be stored: read by every claim of submits, and told.

The counts are kept by `failing`; claims only read them, but for the probes they send.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Integer, bindparam, func, literal_column, select, update

from jobs.ledger.accounts.destinations import HELD_UP, heard
from jobs.ledger.claims.copy_failures import Scope, is_of, scope_of, told, waiting_images
from jobs.ledger.claims.values import Failing
from jobs.ledger.database.schema import (
    ANY_ACCOUNT,
    ATTEMPTS_AN_ACCOUNT,
    accounts,
    attempts,
    batches,
    copy_failures,
    images,
    jobs,
)
from jobs.ledger.database.statements import INSERT, among, fetch
from jobs.policy.copy_failures import BEGUN, ENOUGH, blind_probe_after, is_stopped, probe_after
from jobs.states import TroubleKind

#: An account's newest attempts, of which those are counted whose images are not tried yet.
NEWEST = 1_000


@dataclass(frozen=True, slots=True)
class CopyStops:
    """For what of an account nothing more is bought just now."""

    stopped: tuple[Scope, ...]
    tried: tuple[Scope, ...]  # of these a probe has told, or is about to

    def frees(self, provider_model: str, dest: str) -> bool:
        """Whether such rows may be sent."""
        return not any(_holds(scope, provider_model, dest) for scope in self.stopped)

    def probes(self, provider_model: str, dest: str) -> bool:
        """Whether one of such rows may be sent, to see whether it can be stored."""
        tried = any(_holds(scope, provider_model, dest) for scope in self.tried)
        return not (tried or self.frees(provider_model, dest))


def _holds(scope: Scope, provider_model: str, dest: str) -> bool:
    return scope[1] in ("", provider_model) and scope[2] in ("", dest)


def stops(tx: Connection, account_id: int, now: float) -> CopyStops | None:
    """For what of the account submits wait; None where all goes well. The caller holds the account's row."""
    rows = fetch(tx, _FAILING, {"of": [account_id, ANY_ACCOUNT]})
    stopped = tuple(scope for row in rows if _is_stopped(tx, row, scope := scope_of(row), now))
    if not stopped:
        return None
    cells = fetch(tx, _CELLS, {"of_account": account_id, "moment": now})
    return CopyStops(stopped=stopped, tried=tuple(scope_of(row) for row in cells if not _may_probe_early(tx, row, now)))


_FAILING = select(copy_failures).where(among(copy_failures.c.account_id, "of"), copy_failures.c.images >= BEGUN)
#: What was bought there tells whether it can be stored, or will before then.
_CELLS = select(copy_failures).where(
    copy_failures.c.account_id == bindparam("of_account"),
    copy_failures.c.provider_model != "",
    copy_failures.c.dest != "",
    copy_failures.c.probe_at > bindparam("moment"),
)


def _is_stopped(tx: Connection, row: Any, scope: Scope, now: float) -> bool:
    if row.images >= ENOUGH:
        return True
    some = select(images.c.id).where(*_untried(scope)).limit(bindparam("most", type_=Integer))
    untried = tx.execute(
        select(func.count()).select_from(some.subquery()), {"most": ENOUGH, "moment": now}
    ).scalar_one()
    return is_stopped(row.images, untried)


def _untried(scope: Scope) -> tuple[Any, ...]:
    """Images of a scope that are about to be tried: what waits for a destination in trouble is not."""
    elsewhere = select(batches.c.id).where(batches.c.dest.in_(HELD_UP))
    conditions = (*waiting_images(scope), images.c.error_code.is_(None), images.c.batch_id.not_in(elsewhere))
    if scope[0] == ANY_ACCOUNT:
        return conditions
    # Of an account only its newest: a claim must not read what waits for others, which may be hundreds of thousands.
    first = scope[0] * ATTEMPTS_AN_ACCOUNT
    mine = attempts.c.id.between(first, first + ATTEMPTS_AN_ACCOUNT - 1)
    newest = select(attempts.c.id).where(mine).order_by(attempts.c.id.desc()).limit(NEWEST)
    return (*conditions, images.c.attempt_id.in_(newest))


def _may_probe_early(tx: Connection, row: Any, now: float) -> bool:
    """Where no paid image is left to be copied, and none is being made, only a submit can tell that it is mended."""
    return now >= _blind_at(row) and _is_blind(tx, row)


def _blind_at(row: Any) -> float:
    return float(row.probe_at - probe_after(row.probes) + blind_probe_after(row.probes))


def _is_blind(tx: Connection, row: Any) -> bool:
    account_id, provider_model, dest = scope = scope_of(row)
    if tx.execute(
        select(images.c.id).where(*waiting_images(scope), images.c.next_copy_at.is_not(None)).limit(1)
    ).first():
        return False
    there = select(batches.c.id).where(batches.c.dest == dest)
    flying = select(attempts.c.id).where(
        attempts.c.account_id == account_id,
        attempts.c.state.in_([literal_column("'submitting'"), literal_column("'running'")]),
        attempts.c.provider_model == provider_model,
        attempts.c.batch_id.in_(there),
    )
    return tx.execute(flying.limit(1)).first() is None


def note_probe(tx: Connection, account_id: int, provider_model: str, dest: str, now: float) -> None:
    """One submit tries whether images can be stored again; the next comes later. The caller holds the account's row."""
    cell: Scope = (account_id, provider_model, dest)
    named = dict(zip(("account_id", "provider_model", "dest"), cell, strict=True))
    # Its first image may fail at this very moment, and be recorded by somebody who does not hold the account's row.
    tx.execute(INSERT[tx.dialect.name](copy_failures).values(**named).on_conflict_do_nothing())
    row = tx.execute(select(copy_failures).where(is_of(cell)).with_for_update()).one()
    later = {"probes": row.probes + 1, "probe_at": now + probe_after(row.probes + 1)}
    tx.execute(update(copy_failures).where(is_of(cell)).values(**later))


# -- telling -------------------------------------------------------------------------------------------------------


def everywhere(tx: Connection, now: float) -> tuple[Failing, ...]:
    """Where nothing more is bought since nothing can be stored, the widest words for it."""
    return tuple(_told_of(tx, row, now) for row in _widest(tx, now))


def of_batch(tx: Connection, batch_id: int, dest: str, now: float) -> tuple[Failing, ...]:
    """What of it holds up a batch: rows that wait to be sent, or images of its own that failed."""
    rows = [row for row in _widest(tx, now) if row.dest in ("", dest)]
    return tuple(_told_of(tx, row, now, dest) for row in rows if _concerns(tx, row, batch_id))


def _widest(tx: Connection, now: float) -> Iterator[Any]:
    rows = fetch(tx, _STOPPED)
    if not rows:
        return
    scopes = {scope_of(row) for row in rows}
    refusing = {trouble.dest for trouble in heard(tx, now) if trouble.kind is TroubleKind.REFUSES}
    for row in rows:
        account_id, provider_model, dest = scope = scope_of(row)
        wider = {(account_id, "", ""), (account_id, provider_model, "")} - {scope}
        if account_id == ANY_ACCOUNT and dest in refusing:
            continue  # it has said so itself
        if account_id == ANY_ACCOUNT or not wider & scopes:
            yield row


_STOPPED = (
    select(copy_failures)
    .where(copy_failures.c.images >= ENOUGH)
    .order_by(copy_failures.c.account_id, copy_failures.c.provider_model, copy_failures.c.dest)
)


def _concerns(tx: Connection, row: Any, batch_id: int) -> bool:
    failed = select(images.c.id).where(
        *waiting_images(scope_of(row)), images.c.batch_id == batch_id, images.c.error_code.is_not(None)
    )
    if tx.execute(failed.limit(1)).first():
        return True
    ready = select(jobs.c.id).where(jobs.c.batch_id == batch_id, jobs.c.state == literal_column("'ready'"))
    if row.account_id != ANY_ACCOUNT:
        at = select(accounts.c.provider).where(accounts.c.id == row.account_id).scalar_subquery()
        ready = ready.where(jobs.c.provider == at)
    if row.provider_model:
        ready = ready.where(jobs.c.provider_model == row.provider_model)
    return tx.execute(ready.limit(1)).first() is not None


def _told_of(tx: Connection, row: Any, now: float, dest: str = "") -> Failing:
    """With what helps: whose images they are, and when the next submit (to `dest`) tries it by itself."""
    return replace(told(tx, row), batch=_blamed(tx, row), next_try_at=_next_try(tx, row, now, dest))


def _blamed(tx: Connection, row: Any) -> str | None:
    failed = select(images.c.batch_id).where(*waiting_images(scope_of(row)), images.c.error_code.is_not(None))
    newest = failed.order_by(images.c.id.desc()).limit(1).scalar_subquery()
    return tx.execute(select(batches.c.name).where(batches.c.id == newest)).scalar()


def _next_try(tx: Connection, row: Any, now: float, dest: str) -> float | None:
    cells = select(copy_failures).where(
        copy_failures.c.provider_model != "", copy_failures.c.dest != "", copy_failures.c.probe_at.is_not(None)
    )
    if row.account_id != ANY_ACCOUNT:
        cells = cells.where(copy_failures.c.account_id == row.account_id)
    if row.provider_model:
        cells = cells.where(copy_failures.c.provider_model == row.provider_model)
    if row.dest or dest:
        cells = cells.where(copy_failures.c.dest == (row.dest or dest))
    times = [_blind_at(cell) if _is_blind(tx, cell) else cell.probe_at for cell in tx.execute(cells)]
    coming = min(times, default=now)
    return coming if coming > now else None
