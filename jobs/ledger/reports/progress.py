"""How batches stand: rows, images and money, counted, and links that die."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, Connection, Select, bindparam, case, func, literal_column, select

from jobs.ledger.accounts import daily_budgets, destinations, durations, emergency_stop, monthly_budgets, usage
from jobs.ledger.batches import failure_breaker
from jobs.ledger.batches.appended import shown_key
from jobs.ledger.batches.batches import as_batch, batch_id_of
from jobs.ledger.batches.values import Batch
from jobs.ledger.claims import copy_stops
from jobs.ledger.database.job_state import HAS_WRONG_PIXELS
from jobs.ledger.database.schema import (
    COST_OF_IMAGE,
    IS_CURRENT,
    accounts,
    attempts,
    batches,
    firings,
    images,
    jobs,
    schedules,
)
from jobs.ledger.database.statements import fetch, fetch_value, has_row
from jobs.ledger.reports import token_costs
from jobs.ledger.reports.values import (
    BatchSchedule,
    DyingLinks,
    LearntFigures,
    Progress,
    StuckImage,
)
from jobs.ledger.schedules.schedules import as_schedule
from jobs.policy.cron import next_time
from jobs.policy.firing import Into
from jobs.policy.reuse import NEVER_DIES
from jobs.states import (
    AT_STAKE,
    ENDED_BADLY,
    GOING_ON,
    IN_FLIGHT,
    AttemptState,
    BatchState,
    FiringState,
    ImageState,
    JobState,
)
from providers.registry import PROVIDERS

#: Images that wait for a person that are named.
_NAMED = 5
#: Images whose times of storing tell the pace.
_PACE_SAMPLE = 50
#: Bound once for statements that are built once: building one costs more than running it, and a run counts on and on.
_OF_BATCH: BindParameter[int] = bindparam("of_batch")


def learnt(tx: Connection) -> LearntFigures:
    """What was learnt of accounts: their limits, how long their tasks take, and what images cost."""
    return LearntFigures(limits=usage.learnt(tx), durations=durations.known(tx), costs=token_costs.known(tx))


def progress(tx: Connection, name: str, now: float | None = None) -> Progress:
    """A batch, counted; of the rows that are not in the newest manifest, those that are done or going on."""
    row = tx.execute(select(batches).where(batches.c.name == name)).one()
    batch = as_batch(row)
    images_counted = _image_counts(tx, batch.id)
    counted = images_counted.wanted
    money = _attempt_money(tx, batch.id)
    lost = json.loads(row.archive_sums)["lost"] if batch.archive else _lost(tx, batch.id, money)
    rows, asked, out = _job_counts(tx, batch.id)
    remaining, ready, next_at, unpriced = _remaining(tx, batch.id)
    copy_errors, copy_words = _copy_errors(tx, batch.id)
    images_stuck, stuck_money = _stuck_count(tx, batch.id)
    errors = _errors(tx, batch.id)
    ended = {"": rows.get(JobState.DONE, 0), **errors}
    goes_on = batch.state is BatchState.ACTIVE and rows.get(JobState.READY, 0) > 0
    has_budget = batch.budget is not None or row.schedule_id is not None
    prices = _next_prices(tx, batch.id, now) if now is not None and has_budget else []
    return Progress(
        batch=batch,
        jobs=rows,
        images_total=asked + images_counted.out,
        images_stored=counted[ImageState.STORED][0],
        images_generated=counted[ImageState.GENERATED][0] - images_stuck,
        images_in_flight=money["flying"][1],
        images_unknown=money["unknown"][1],
        images_lost=counted[ImageState.LOST][0],
        bytes_stored=counted[ImageState.STORED][1],
        waits_at=_waits_at(tx, batch.id),
        wrong_pixels=counted[ImageState.STORED][2],
        unknown_money=money["unknown"][0],
        lost_money=lost["all"],
        lost_image_money=lost["images"],
        remaining_money=remaining,
        in_flight_money=money["flying"][0],
        errors=errors,
        fails_alike=failure_breaker.verdict(row.judged_from, ended) if goes_on else None,
        least_expiry=_least_expiry(tx, batch.id),
        next_at=next_at,
        stored_at=_pace(tx, batch.id),
        images_ready=ready,
        images_aside=images_counted.aside,
        rows_out=out,
        images_out=images_counted.out,
        copy_errors=copy_errors,
        copy_words=copy_words,
        images_stuck=images_stuck,
        stuck_money=stuck_money,
        stuck=_stuck(tx, batch.id) if images_stuck else (),
        day_limits=() if now is None else daily_budgets.in_the_way(tx, batch.id, now),
        schedule=None if now is None else _schedule(tx, batch, row.schedule_id, prices, now),
        troubles=() if now is None else destinations.heard(tx, now, batch.dest),
        failing=() if now is None else copy_stops.of_batch(tx, batch.id, batch.dest, now),
        stop=emergency_stop.standing(tx),
        has_adopted=_has_adopted(tx, batch),
        has_unpriced=unpriced,
        budget_allows=None if now is None else _budget_allows(batch, prices),
    )


def lost_money(tx: Connection, batch_id: int) -> dict[str, int]:
    """Micro-dollars paid for nothing, in all and for the images that are counted as lost."""
    return _lost(tx, batch_id, _attempt_money(tx, batch_id))


def _lost(tx: Connection, batch_id: int, money: dict[str, tuple[int, int]]) -> dict[str, int]:
    everything = money["lost"][0] + _dead_link_money(tx, batch_id)
    return {"all": everything, "images": _lost_image_money(tx, batch_id)}


def _has_adopted(tx: Connection, batch: Batch) -> bool:
    """Whether images were there before the batch was recorded here: by their times, so that no other image is read."""
    before = (images.c.batch_id == batch.id, images.c.stored_at <= batch.created_at)
    nobodys = (images.c.attempt_id.is_(None), images.c.origin_id.is_(None))
    return tx.execute(select(images.c.id).where(*before, *nobodys).limit(1)).first() is not None


def _listed() -> Any:
    return jobs.c.position.is_not(None) | jobs.c.state.in_([JobState.WORKING, JobState.HELD])


def _dropped() -> Any:
    """In no manifest any more, and nothing runs for it. Found by their positions: the others are not read for them."""
    return jobs.c.position.is_(None) & jobs.c.state.not_in([JobState.WORKING, JobState.HELD])


def _job_counts(tx: Connection, batch_id: int) -> tuple[dict[JobState, int], int, int]:
    """Rows by state, the images that the listed ones ask for, and how many of the done are not listed any more.

    A row that was taken out and is done is done all the same; one without its images is nobody's any more.
    """
    every = _rows_by_state(tx, batch_id, _ROWS)
    dropped = _rows_by_state(tx, batch_id, _DROPPED_ROWS)
    out, _ = dropped.get(JobState.DONE, (0, 0))
    counted = {state: _less(found, dropped.get(state, (0, 0))) for state, found in every.items()}
    asked = sum(found[1] for state, found in counted.items() if state not in (JobState.SKIPPED, JobState.INVALID))
    counted[JobState.DONE] = every.get(JobState.DONE, (0, 0))
    return {state: found[0] for state, found in counted.items() if found[0]}, asked, out


def _count_rows(state: Any, *only: Any) -> Select[Any]:
    return select(state, func.count(), func.sum(jobs.c.n)).where(jobs.c.batch_id == _OF_BATCH, *only).group_by(state)


_ROWS = _count_rows(jobs.c.state)
#: Not grouped by the bare column: the index of states would be taken for its order, and every row be read.
_DROPPED_ROWS = _count_rows(literal_column("coalesce(jobs.state, '')"), _dropped())


def _rows_by_state(tx: Connection, batch_id: int, counted: Select[Any]) -> dict[JobState, tuple[int, int]]:
    return {JobState(found): (rows, int(n)) for found, rows, n in tx.execute(counted, {"of_batch": batch_id})}


Count = tuple[int, ...]  # images, bytes, images with other pixels than asked for
Counts = dict[tuple[ImageState, bool], Count]  # by state and surplus


@dataclass(frozen=True, slots=True, kw_only=True)
class _ImageCounts:
    wanted: dict[ImageState, Count]  # without those that a redo has replaced, and those nobody asked for
    out: int  # of the stored: of rows that are in no manifest any more
    aside: int  # stored as well: replaced, or nobody asked for them


def _image_counts(tx: Connection, batch_id: int) -> _ImageCounts:
    every, redone, out = (_by_state(tx, batch_id, each) for each in (_IMAGES, _REDONE, _DROPPED))
    wanted = {state: _less(every[state, False], redone[state, False]) for state in ImageState}
    wanted[ImageState.LOST] = _less(
        wanted[ImageState.LOST], out[ImageState.LOST, False]
    )  # nobody waits for these any more
    copied = every[ImageState.GENERATED, False][0] + every[ImageState.GENERATED, True][0]  # whatever was paid is copied
    wanted[ImageState.GENERATED] = (copied, 0, 0)
    aside = every[ImageState.STORED, True][0] + redone[ImageState.STORED, False][0]
    return _ImageCounts(wanted=wanted, out=out[ImageState.STORED, False][0], aside=aside)


def _less(all_of_them: tuple[int, ...], *some: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(whole - sum(parts) for whole, *parts in zip(all_of_them, *some, strict=True))


def _count_images(source: Any, *where: Any) -> Select[Any]:
    groups = (images.c.state, images.c.surplus)
    wrong = func.sum(case((images.c.flags.like(HAS_WRONG_PIXELS), 1), else_=0))
    made = images.c.state.in_([ImageState.GENERATED, ImageState.STORED, ImageState.LOST])
    sums = select(*groups, func.count(), func.coalesce(func.sum(images.c.bytes), 0), wrong).select_from(source)
    return sums.where(*where, made).group_by(*groups)


_WITH_ROWS = jobs.join(images, images.c.job_id == jobs.c.id)
_ASKED_FOR = (jobs.c.batch_id == _OF_BATCH, images.c.surplus.is_(False))
_IMAGES = _count_images(images, images.c.batch_id == _OF_BATCH)
_REDONE = _count_images(
    _WITH_ROWS, *_ASKED_FOR, jobs.c.revision > literal_column("1"), images.c.revision != jobs.c.revision
)
_DROPPED = _count_images(_WITH_ROWS, *_ASKED_FOR, _dropped(), images.c.revision == jobs.c.revision)


def _by_state(tx: Connection, batch_id: int, counted: Select[Any]) -> Counts:
    counts: Counts = {(state, surplus): (0, 0, 0) for state in ImageState for surplus in (False, True)}
    for state, surplus, count, size, odd in tx.execute(counted, {"of_batch": batch_id}):
        counts[ImageState(state), bool(surplus)] = count, int(size), int(odd)
    return counts


#: Literal, not bound: only then can the planner use the partial index.
_AT_STAKE = attempts.c.state.in_([literal_column(f"'{state.value}'") for state in AT_STAKE])


#: What an attempt was charged for beside its images.
_BESIDE = attempts.c.charged - func.coalesce(attempts.c.price, 0) * attempts.c.came


def _sum_attempts() -> Select[Any]:
    lost = attempts.c.state.in_([AttemptState.LOST, AttemptState.ABANDONED])
    group = case(
        (attempts.c.state.in_([AttemptState.SUBMITTING, AttemptState.RUNNING]), "flying"),
        (attempts.c.state == AttemptState.UNKNOWN, "unknown"),
        # Given up, and its task was found since: asked about, as any that runs.
        (attempts.c.next_poll_at.is_not(None), "flying"),
        (lost, "lost"),
    )
    return (
        select(
            group.label("which"),
            func.sum(case((lost, _BESIDE), else_=attempts.c.reserved)),
            func.sum(attempts.c.n - attempts.c.came),
        )
        .where(attempts.c.batch_id == _OF_BATCH, _AT_STAKE)
        .group_by(literal_column("which"))
    )


_ATTEMPT_MONEY = _sum_attempts()


def _attempt_money(tx: Connection, batch_id: int) -> dict[str, tuple[int, int]]:
    """Micro-dollars and images: in flight, unknown, lost with tasks the provider has forgotten."""
    sums = fetch(tx, _ATTEMPT_MONEY, {"of_batch": batch_id})
    found = {which: (int(money or 0), int(count or 0)) for which, money, count in sums}
    return {which: found.get(which, (0, 0)) for which in ("flying", "unknown", "lost")}


_WITH_ATTEMPTS = images.join(attempts, attempts.c.id == images.c.attempt_id)
_PAID_FOR_THEM = select(func.coalesce(func.sum(COST_OF_IMAGE), 0))
_ARE_LOST = (images.c.batch_id == _OF_BATCH, images.c.state == ImageState.LOST)
_DEAD_LINK_MONEY = _PAID_FOR_THEM.select_from(_WITH_ATTEMPTS).where(*_ARE_LOST)
_LOST_IMAGE_MONEY = _PAID_FOR_THEM.select_from(_WITH_ATTEMPTS.join(jobs, jobs.c.id == images.c.job_id)).where(
    *_ARE_LOST, IS_CURRENT, ~_dropped()
)


def _dead_link_money(tx: Connection, batch_id: int) -> int:
    return int(fetch_value(tx, _DEAD_LINK_MONEY, {"of_batch": batch_id}))


def _lost_image_money(tx: Connection, batch_id: int) -> int:
    """The same of the images that are counted: not of those that were made anew or are wanted no more."""
    return int(fetch_value(tx, _LOST_IMAGE_MONEY, {"of_batch": batch_id}))


def _sum_ready() -> tuple[Select[Any], Select[Any]]:
    ready = (jobs.c.batch_id == _OF_BATCH, jobs.c.state == literal_column("'ready'"))
    # Within the sums and not below WHERE: the index of positions would be taken, and every row of the batch be read.
    listed = jobs.c.position.is_not(None)
    one = listed & (jobs.c.n == 1)
    sums = select(
        func.coalesce(func.sum(case((one, jobs.c.price))), 0),
        func.coalesce(func.sum(case((one, 1))), 0),
        func.count(case((listed & jobs.c.price.is_(None), 1))),
        func.min(case((listed, jobs.c.ready_at))),
    )
    joined = images.join(jobs, (jobs.c.id == images.c.job_id) & (jobs.c.revision == images.c.revision))
    free = (images.c.state == ImageState.MISSING, images.c.attempt_id.is_(None), images.c.surplus.is_(False))
    parts = select(func.coalesce(func.sum(jobs.c.price), 0), func.count()).select_from(joined)
    return sums.where(*ready), parts.where(*ready, listed, jobs.c.n > 1, *free)


_READY, _READY_PARTS = _sum_ready()


def _remaining(tx: Connection, batch_id: int) -> tuple[int, int, float | None, bool]:
    """The slots that ready jobs still have to fill: their planned price, how many, and when the first may be tried.

    Also whether any of these jobs has no price.
    """
    price, count, unpriced, next_at = fetch(tx, _READY, {"of_batch": batch_id})[0]
    more, slots = fetch(tx, _READY_PARTS, {"of_batch": batch_id})[0]
    return int(price) + int(more), int(count) + int(slots), next_at, bool(unpriced)


def _next_prices(tx: Connection, batch_id: int, now: float) -> list[int | None]:
    """What an image costs of the next row at each provider. Rows are sent in order, so these tell what a budget allows.

    All together may be estimated above it.
    """
    asked = ({"of_batch": batch_id, "at_provider": provider, "moment": now} for provider in PROVIDERS)
    rows = (tx.execute(daily_budgets.NEXT_PRICE, each).first() for each in asked)
    return [row.price for row in rows if row is not None]


def _budget_allows(batch: Batch, prices: Sequence[int | None]) -> bool | None:
    if batch.budget is None:
        return None
    left = max(0, batch.budget - batch.reserved - batch.charged)
    return any(price is not None and price <= left for price in prices)


def _schedule(
    tx: Connection, batch: Batch, schedule_id: int | None, prices: Sequence[int | None], now: float
) -> BatchSchedule | None:
    row = tx.execute(select(schedules).where(schedules.c.id == schedule_id)).first() if schedule_id else None
    if row is None:
        return None
    owner = as_schedule(row)
    budget = owner.monthly_budget
    month = None if budget is None else monthly_budgets.limit(tx, owner.id, budget, now)
    allows = month is None or not prices or any(map(month.allows, prices))
    # By the batch itself: --into may have been edited since.
    is_shared = batch.name == owner.name
    has_later = owner.into is Into.SAME if is_shared else _is_of_this_time(tx, owner.id, batch.id)
    goes_on = owner.options.get("partial") and has_later
    goes_on_at = owner.next_at if goes_on else None
    if goes_on_at is not None and month is not None and not allows:
        # A batch that all times share has money of its own left, perhaps, and then goes on without a time.
        waits = not is_shared or _budget_allows(batch, prices) is False
        first = next_time(owner.cron, owner.timezone, month.again_at - 1)
        goes_on_at = max(goes_on_at, first) if waits else month.again_at
    waiting = 0 if month is None else sum(_remaining(tx, each)[0] for each in _with_rows_that_wait(tx, owner.id))
    return BatchSchedule(
        name=owner.name, month=month, month_allows=allows, waiting_money=waiting, goes_on_at=goes_on_at
    )


def _with_rows_that_wait(tx: Connection, schedule_id: int) -> list[int]:
    """The batches of a schedule that rows wait in."""
    waits = select(jobs.c.id).where(jobs.c.batch_id == batches.c.id, jobs.c.state == literal_column("'ready'"))
    mine = (batches.c.schedule_id == schedule_id, batches.c.state != BatchState.CANCELLED.value)
    return list(tx.execute(select(batches.c.id).where(*mine, has_row(waits))).scalars())


def _is_of_this_time(tx: Connection, schedule_id: int, batch_id: int) -> bool:
    """Whether the time that a batch was made for is not over: later times make their own."""
    mine = (firings.c.schedule_id == schedule_id, firings.c.batch_id == batch_id)
    goes_on = firings.c.state == FiringState.WORKING.value
    return tx.execute(select(firings.c.id).where(*mine, goes_on)).first() is not None


def _waits_at(tx: Connection, batch_id: int) -> frozenset[str]:
    """Looked up provider by provider: to group them would read the index of all rows that are ready."""
    mine = (jobs.c.batch_id == batch_id, jobs.c.state == literal_column("'ready'"))
    some = (select(jobs.c.provider).where(*mine, jobs.c.provider == provider).limit(1) for provider in PROVIDERS)
    return frozenset(provider for each in some if (provider := tx.execute(each).scalar()) is not None)


def has_redone(tx: Connection, name: str) -> bool:
    """Whether rows that were made anew (`redo`, `--changed redo`) are not finished."""
    mine = (jobs.c.batch_id == batch_id_of(tx, name), jobs.c.state.in_(GOING_ON), jobs.c.revision > 1, _listed())
    return tx.execute(select(jobs.c.id).where(*mine).limit(1)).scalar() is not None


def _errors(tx: Connection, batch_id: int) -> dict[str, int]:
    mine = (jobs.c.batch_id == batch_id, jobs.c.state.in_(ENDED_BADLY), _listed())
    counted = select(jobs.c.error_code, func.count()).where(*mine).group_by(jobs.c.error_code)
    return {code or "unknown": count for code, count in tx.execute(counted)}


def _copy_errors(tx: Connection, batch_id: int) -> tuple[dict[str, int], dict[str, str]]:
    """Images that failed to be copied and are tried on, by code; and what one of each was told."""
    waiting = (images.c.batch_id == batch_id, images.c.state == literal_column("'generated'"))
    failed = (*waiting, images.c.error_code.is_not(None), images.c.next_copy_at.is_not(None))
    counted = select(images.c.error_code, func.count().label("number"), func.max(images.c.message).label("words"))
    rows = tx.execute(counted.where(*failed).group_by(images.c.error_code)).all()
    return {row.error_code: row.number for row in rows}, {row.error_code: row.words or "" for row in rows}


def _stuck_count(tx: Connection, batch_id: int) -> tuple[int, int]:
    joined = images.outerjoin(attempts, attempts.c.id == images.c.attempt_id)
    sums = select(func.count(), func.coalesce(func.sum(attempts.c.price), 0)).select_from(joined)
    count, money = tx.execute(sums.where(*_is_stuck(batch_id))).one()
    return int(count), int(money)


def _is_stuck(batch_id: int) -> tuple[Any, ...]:
    waits = (images.c.batch_id == batch_id, images.c.state == literal_column("'generated'"))
    return (*waits, images.c.next_copy_at.is_(None))


def _stuck(tx: Connection, batch_id: int) -> tuple[StuckImage, ...]:
    joined = images.join(jobs, jobs.c.id == images.c.job_id).outerjoin(attempts, attempts.c.id == images.c.attempt_id)
    wanted = select(images, jobs.c.key, attempts.c.price).select_from(joined).where(*_is_stuck(batch_id))
    rows = tx.execute(wanted.order_by(jobs.c.position, images.c.slot).limit(_NAMED))
    return tuple(
        StuckImage(
            key=shown_key(row.key),
            slot=row.slot,
            code=row.error_code or "",
            message=row.message or "",
            money=row.price or 0,
        )
        for row in rows
    )


def _least_expiry(tx: Connection, batch_id: int) -> float | None:
    dies = images.c.expires_at < NEVER_DIES
    waiting = (images.c.batch_id == batch_id, images.c.state == literal_column("'generated'"), dies)
    return tx.execute(select(func.min(images.c.expires_at)).where(*waiting)).scalar()


def first_death(tx: Connection) -> float | None:
    """When the first link dies that is not copied yet, of all batches; Unix seconds."""
    waiting = (images.c.state == literal_column("'generated'"), images.c.expires_at > 0)
    return tx.execute(select(func.min(images.c.expires_at)).where(*waiting)).scalar()


def dying_links(tx: Connection, now: float, *, within: float, waited: float) -> list[DyingLinks]:
    """By batch, the paid images that have waited `waited` seconds for their copy, and whose links die `within` more."""
    joined = images.join(batches, batches.c.id == images.c.batch_id).outerjoin(
        attempts, attempts.c.id == images.c.attempt_id
    )
    sums = (
        select(
            batches.c.name,
            batches.c.dest,
            batches.c.notify,
            func.count().label("number"),
            func.coalesce(func.sum(COST_OF_IMAGE), 0).label("money"),
            func.min(images.c.expires_at).label("first"),
        )
        .select_from(joined)
        .where(
            images.c.state == literal_column("'generated'"),
            images.c.expires_at > now,
            images.c.expires_at <= now + within,
            images.c.generated_at <= now - waited,
            images.c.spool.is_(None),  # those whose bytes are kept here are safe
        )
        .group_by(batches.c.id, batches.c.name, batches.c.dest, batches.c.notify)
        .order_by(batches.c.id)
    )
    return [
        DyingLinks(
            batch=row.name,
            dest=row.dest,
            images=row.number,
            money=int(row.money),
            first_dies_at=row.first,
            notify=tuple(json.loads(row.notify)) if row.notify else (),
        )
        for row in tx.execute(sums)
    ]


def _pace(tx: Connection, batch_id: int) -> tuple[float, ...]:
    mine = (images.c.batch_id == batch_id, images.c.stored_at.is_not(None))
    latest = select(images.c.stored_at).where(*mine).order_by(images.c.stored_at.desc()).limit(_PACE_SAMPLE)
    return tuple(sorted(at for at in tx.execute(latest).scalars() if at is not None))


def in_flight_of(tx: Connection, batch: str) -> dict[str, int]:
    """A batch's attempts that occupy a place at their provider, by account."""
    of_batch = select(batches.c.id).where(batches.c.name == batch).scalar_subquery()
    flying = (
        select(accounts.c.name, func.count())
        .select_from(attempts.join(accounts, accounts.c.id == attempts.c.account_id))
        .where(attempts.c.batch_id == of_batch, _AT_STAKE, attempts.c.state.in_(IN_FLIGHT))
        .group_by(accounts.c.name)
    )
    return {name: int(count) for name, count in tx.execute(flying)}


def at_risk(tx: Connection, batch: str | None = None) -> tuple[int, int]:
    """If everything died now: images and micro-dollars that are in flight, unknown, or waiting to be copied.

    Of one batch, by its name, or of the whole ledger. It is `at_risk` of docs/reference/money.md: surplus images,
    which no row waits for, are not in it.
    """
    of_batch = select(batches.c.id).where(batches.c.name == batch).scalar_subquery()
    mine, theirs = [() if batch is None else (table.c.batch_id == of_batch,) for table in (attempts, images)]
    states = [AttemptState.SUBMITTING, AttemptState.RUNNING, AttemptState.UNKNOWN]
    flying = select(
        func.coalesce(func.sum(attempts.c.n - attempts.c.came), 0), func.coalesce(func.sum(attempts.c.reserved), 0)
    )
    count, money = tx.execute(flying.where(_AT_STAKE, attempts.c.state.in_(states), *mine)).one()
    joined = images.join(attempts, attempts.c.id == images.c.attempt_id)
    waiting = select(func.count(), func.coalesce(func.sum(COST_OF_IMAGE), 0)).select_from(joined)
    # They all die some time: said so that their own index is taken, and not every image be read.
    dying = (images.c.state == literal_column("'generated'"), images.c.expires_at > 0)
    more, price = tx.execute(waiting.where(*dying, images.c.surplus.is_(False), *theirs)).one()
    return int(count) + int(more), int(money) + int(price)
