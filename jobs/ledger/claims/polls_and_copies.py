"""What is due now: provider tasks to be asked about, images to be copied. Nothing is paid here, nothing can be lost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    Integer,
    Select,
    and_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    update,
)

from jobs.facts import ImageChecked
from jobs.ledger.accounts.places import SILENT_WORKERS, lock_account
from jobs.ledger.accounts.poll_rate import after_use, poll_rate
from jobs.ledger.claims.reuse import origins
from jobs.ledger.claims.values import DueCopy, DuePoll, ReuseOrigin
from jobs.ledger.database.schema import COST_OF_IMAGE, accounts, attempts, batches, images, jobs
from jobs.ledger.database.statements import Row, among, fetch, fetch_value, run
from jobs.policy import rate
from jobs.policy.copy_headroom import SAVED_BEFORE
from jobs.policy.doubts import Doubted
from providers.types import request_hash

# -- polls ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PollTerms:
    """How a claim of polls is to be made."""

    lease: float  # seconds
    at_most: int  # requests
    together: int = 1  # tasks that one request may ask about
    alone: frozenset[int] = frozenset()  # attempts that have a request of their own all the same
    provider: str | None = None  # as of a claim of submits


def claim_polls(tx: Connection, name: str, now: float, terms: PollTerms) -> tuple[list[DuePoll], float | None]:
    """Provider tasks to be asked about now, and when to ask again. It only moves `next_poll_at`: nothing to lose."""
    account = lock_account(tx, name)
    if terms.provider not in (None, account.provider):
        return [], None
    permits = rate.permits(
        tat=account.poll_tat, now=now, per_second=poll_rate(account), horizon=0.25, most=terms.at_most
    )
    requests = _requests(tx, account.id, now, permits.count, terms) if permits.count else []
    if requests:
        used = {"of_account": account.id, "tat": permits.tat(len(requests)), "more": len(requests)}
        run(tx, _TAKE_POLL_RATE, {**used, "learnt": after_use(account, permits, len(requests), now)})
        asked_about = [row.id for rows in requests for row in rows]
        run(tx, _POLLED, {"asked_about": asked_about, "until": now + terms.lease})
    due = [_due_poll(row, account, number) for number, rows in enumerate(requests) for row in rows]
    next_poll = fetch_value(tx, _NEXT_POLL, {"of_account": account.id})
    return due, None if next_poll is None else max(next_poll, permits.next_at(len(requests)))


def _requests(tx: Connection, account_id: int, now: float, permitted: int, terms: PollTerms) -> list[list[Row]]:
    """Due tasks by the request that asks about them. A request that has room takes those that are due next, too."""
    wanted = {"of_account": account_id, "moment": now, "most": permitted * terms.together}
    rows = fetch(tx, _DUE_POLLS, wanted)
    requests, shared = _dealt(rows, permitted, terms)
    room = terms.together - len(shared) if shared else 0
    if room > 0:
        window = {"of_account": account_id, "moment": now, "until": now + FILLED_AHEAD, "most": room}
        shared.extend(row for row in fetch(tx, _SOON_DUE, window) if _may_share(row, terms))
    return requests


def _dealt(rows: Sequence[Row], permitted: int, terms: PollTerms) -> tuple[list[list[Row]], list[Row]]:
    """The requests, and the one among them that others may still join; an empty one where there is none."""
    requests: list[list[Row]] = []
    shared: list[Row] = []
    for row in rows:
        joins = _may_share(row, terms)
        if joins and 0 < len(shared) < terms.together:
            shared.append(row)
        elif len(requests) < permitted:
            requests.append([row])
            shared = requests[-1] if joins else shared
    return requests, shared


def _may_share(row: Row, terms: PollTerms) -> bool:
    return terms.together > 1 and row.id not in terms.alone and row.poll_path is None


_TAKE_POLL_RATE = (
    update(accounts)
    .where(accounts.c.id == bindparam("of_account"))
    .values(
        poll_tat=bindparam("tat"),
        polls_made=accounts.c.polls_made + bindparam("more"),
        learnt_polls=bindparam("learnt"),
    )
)
_POLLED = (
    update(attempts)
    .where(among(attempts.c.id, "asked_about"))
    .values(next_poll_at=bindparam("until"), polls=attempts.c.polls + 1)
)


_DUE_POLLS = (
    select(attempts)
    .where(attempts.c.account_id == bindparam("of_account"), attempts.c.next_poll_at <= bindparam("moment"))
    .order_by(attempts.c.next_poll_at)
    .limit(bindparam("most", type_=Integer))
    .with_for_update(skip_locked=True)
)


#: Seconds ahead within which a task's poll may come early, where it costs nothing; far less than the lease of a poll
#: that is under way, which looks like one that is due later.
FILLED_AHEAD = 5.0
_SOON_DUE = (
    select(attempts)
    .where(
        attempts.c.account_id == bindparam("of_account"),
        attempts.c.next_poll_at > bindparam("moment"),
        attempts.c.next_poll_at <= bindparam("until"),
    )
    .order_by(attempts.c.next_poll_at)
    .limit(bindparam("most", type_=Integer))
    .with_for_update(skip_locked=True)
)


_NEXT_POLL = select(func.min(attempts.c.next_poll_at)).where(
    attempts.c.account_id == bindparam("of_account"), attempts.c.next_poll_at.is_not(None)
)


def _due_poll(row: Row, account: Row, request: int) -> DuePoll:
    return DuePoll(
        attempt_id=row.id,
        account=account.name,
        job_id=row.job_id,
        provider_model=row.provider_model,
        mode=row.mode,
        price=row.price,
        task_id=row.task_id,
        poll_path=row.poll_path,
        n=row.n,
        accepted_at=row.accepted_at or row.created_at,
        polls=row.polls,
        not_found_since=row.not_found_since,
        doubted=Doubted(code=row.doubt, since=row.doubted_since, answers=row.doubts),
        came=row.came,
        answered_at=account.answered_at,
        resolution=row.asked_resolution or "",
        request=request,
    )


# -- copies --------------------------------------------------------------------------------------------------------


def claim_copies(  # noqa: PLR0913  as the ledger's
    tx: Connection,
    now: float,
    *,
    holder: str,
    lease: float,
    at_most: int,
    barred: Sequence[str] = (),
    only: str | None = None,
) -> tuple[list[DueCopy], float | None]:
    """Images to be copied now, those whose links die first first, and when to ask again.

    `barred`: destinations that take no writes. Their images are left, but for those that soon die: to be kept here.
    `only`: of that batch.
    """
    wanted = {"moment": now, "barred": barred, "soon": now + SAVED_BEFORE, "batch": only}
    due = fetch(tx, _DUE_COPIES[only is not None], {**wanted, "me": holder, "most": at_most})
    if due:
        run(tx, _LEASE, {"taken": [row.id for row in due], "until": now + lease, "by": holder})
    lie_at = origins(tx, [row.source_id for row in due if _is_reused(row)])
    # Where as many came as may, more may be due: to find out would read the whole backlog at each claim.
    next_at = now if len(due) == at_most else fetch_value(tx, _NEXT_COPY[only is not None], wanted)
    return [_due_copy(row, lie_at) for row in due], next_at


_LEASE = (
    update(images)
    .where(among(images.c.id, "taken"))
    .values(lease_until=bindparam("until"), holder=bindparam("by"), tries=images.c.tries + 1)
)


_BARRED = select(batches.c.id).where(among(batches.c.dest, "barred"))
_NOT_BARRED = or_(
    images.c.batch_id.not_in(_BARRED), and_(images.c.expires_at <= bindparam("soon"), images.c.spool.is_(None))
)


def _due_copies() -> Any:
    wanted = (
        *images.c,
        jobs.c.key,
        jobs.c.path,
        jobs.c.request,
        jobs.c.provider,
        jobs.c.width.label("asked_width"),
        jobs.c.height.label("asked_height"),
        batches.c.name.label("batch"),
        batches.c.dest,
        batches.c.strict_size,
        batches.c.decode,
        batches.c.sidecar,
        attempts.c.provider_model,
        COST_OF_IMAGE.label("paid"),
        attempts.c.slots,
        attempts.c.task_id,
        attempts.c.poll_path,
        accounts.c.name.label("account"),
        accounts.c.provider.label("made_by"),
    )
    joined = (
        images.join(jobs, jobs.c.id == images.c.job_id)
        .join(batches, batches.c.id == images.c.batch_id)
        # Outer: an image that is taken from another row has no attempt.
        .outerjoin(attempts, attempts.c.id == images.c.attempt_id)
        .outerjoin(accounts, accounts.c.id == attempts.c.account_id)
    )
    # A copy may be made twice without harm, so one is taken from a worker that fell silent before its lease ends.
    moment: BindParameter[Any] = bindparam("moment")
    free = or_(images.c.lease_until.is_(None), images.c.lease_until <= moment, images.c.holder.in_(SILENT_WORKERS))
    return (
        select(*wanted)
        .select_from(joined)
        .where(images.c.state == literal_column("'generated'"), images.c.next_copy_at <= moment, free, _NOT_BARRED)
        .order_by(images.c.expires_at)
        .limit(bindparam("most", type_=Integer))
        .with_for_update(of=images, skip_locked=True)
    )


_MINE = images.c.batch_id == select(batches.c.id).where(batches.c.name == bindparam("batch")).scalar_subquery()


def _any_or_mine(these: Select[Any]) -> dict[bool, Select[Any]]:
    """Of every batch (False), or of one (True)."""
    return {False: these, True: these.where(_MINE)}


_DUE_COPIES = _any_or_mine(_due_copies())


_BUSY_UNTIL = func.coalesce(images.c.lease_until, 0.0)
#: The later of lease and delay, in portable SQL.
_FREE_AT = (images.c.next_copy_at + _BUSY_UNTIL + func.abs(images.c.next_copy_at - _BUSY_UNTIL)) / 2
_NEXT_COPY = _any_or_mine(
    select(func.min(_FREE_AT)).where(images.c.state == literal_column("'generated'"), _NOT_BARRED)
)


def _is_reused(row: Row) -> bool:
    return row.source_id is not None and row.attempt_id is None


def _due_copy(row: Row, lie_at: Mapping[int, ReuseOrigin]) -> DueCopy:
    asked = (row.asked_width, row.asked_height) if row.asked_width else None
    slots = json.loads(row.slots or "[]")
    return DueCopy(
        image_id=row.id,
        attempt_id=row.attempt_id or 0,
        job_id=row.job_id,
        batch=row.batch,
        dest=row.dest,
        key=row.key,
        slot=row.slot,
        revision=row.revision,
        surplus=row.surplus,
        path=row.path,
        request_hash=request_hash(row.request),
        pixels=asked,
        provider=row.made_by or row.provider,
        provider_model=row.provider_model or "",
        account=row.account or "",
        task_id=row.task_id,
        poll_path=row.poll_path,
        nth=slots.index(row.slot) if row.slot in slots else 0,  # a surplus image has no slot of its own
        url=row.url,
        spool=row.spool,
        expires_at=row.expires_at,
        tries=row.tries,
        recorded_path=row.object_path,
        recorded_sha256=row.sha256,
        recorded=_recorded(row),
        request=row.request,
        price=row.paid,
        generated_at=row.generated_at,
        strict_size=row.strict_size,
        decode=row.decode,
        sidecar=row.sidecar,
        reused=_is_reused(row),
        origin=lie_at.get(row.source_id) if _is_reused(row) else None,
        linked=row.lies_at is not None,
    )


def _recorded(row: Row) -> ImageChecked | None:
    if row.object_path is None or row.sha256 is None:
        return None
    return ImageChecked(
        image_id=row.id,
        object_path=row.object_path,
        sha256=row.sha256,
        bytes=row.bytes,
        width=row.width,
        height=row.height,
        format=row.format,
        flags=tuple(json.loads(row.flags)) if row.flags else (),
    )
