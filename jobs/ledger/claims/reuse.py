"""Images that are taken from where they are: which rows have them, and rows that are given them when recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Boolean,
    Connection,
    Integer,
    Select,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    or_,
    select,
    update,
)

from jobs.ledger.claims.values import ReuseOrigin, TakenFrom
from jobs.ledger.database.schema import (
    IS_CURRENT,
    access_tokens,
    attempts,
    batches,
    earlier_requests,
    images,
    jobs,
)
from jobs.policy.access import Role
from jobs.policy.reuse import NEVER_DIES, Allotment, Reuse, ReuseSource, is_reusable
from jobs.states import MADE_IMAGES, UNFINISHED, AttemptState, ImageState, JobState
from providers.types import Request

#: Rows whose images are there, or will be, or may be: those of the others are made anew.
USABLE = (JobState.DONE, JobState.WORKING, JobState.HELD)
#: Rows that are given their images with one statement.
_PAGE = 500

_ROOT = func.coalesce(images.c.origin_id, images.c.id)
#: The `of_token` that leaves no batch out.
ANYBODY = -1


def batches_of() -> Select[Any]:
    """The batches that are looked into: those of `sandbox`, and of the token `of_token` if it is not `ANYBODY`."""
    of_token = bindparam("of_token", type_=Integer)
    mine = or_(of_token == literal_column(str(ANYBODY)), batches.c.token_id == of_token)
    return select(batches.c.id).where(batches.c.sandbox == bindparam("sandbox"), mine)


def sources(
    tx: Connection,
    hashes: Sequence[str],
    *,
    batch_id: int | None,
    sandbox: bool,
    here: bool,
    of_token: int | None = None,
) -> list[ReuseSource]:
    """Rows with these requests whose images a row of the batch may take. `here`: rows that left the batch, too.

    `of_token`: of batches of that token alone; None: of all.
    """
    whose = {"sandbox": sandbox, "of_token": ANYBODY if of_token is None else of_token}
    wanted = {"hashes": hashes, "of_batch": -1 if batch_id is None else batch_id, "here": here, **whose}
    return [ReuseSource._make(row) for row in tx.execute(_SOURCES, wanted)]


def _sources() -> Select[Any]:
    # A sum, as in `again`: no index of batches is to be taken.
    batch_id = jobs.c.batch_id + literal_column("0")
    of_batch = bindparam("of_batch", type_=Integer)
    theirs, owner = images.alias(), jobs.alias()
    # Here, too: PostgreSQL knows nothing yet of a batch that is just being recorded, takes it for empty, and would read
    # all of it for each source.
    listed = owner.c.position.is_not(None) & (owner.c.batch_id + literal_column("0") == of_batch)
    has_a_copy = exists().where(theirs.c.origin_id == _ROOT, owner.c.id == theirs.c.job_id, listed)
    has_it = exists().where(theirs.c.id == _ROOT, owner.c.id == theirs.c.job_id, listed)
    return (
        select(
            jobs.c.request_hash,
            jobs.c.id,
            jobs.c.request,
            _ROOT,
            case((jobs.c.state == JobState.DONE.value, 1), else_=0),
        )
        .select_from(jobs.join(images, IS_CURRENT & (images.c.slot == 0)))
        .where(
            jobs.c.request_hash.in_(bindparam("hashes", expanding=True)),
            jobs.c.state.in_([state.value for state in USABLE]),
            jobs.c.request.is_not(None),
            batch_id.in_(batches_of()),
            or_(batch_id != of_batch, bindparam("here", type_=Boolean) & jobs.c.position.is_(None)),
            ~has_a_copy,
            ~has_it,
        )
    )


_SOURCES = _sources()


# -- recording -----------------------------------------------------------------------------------------------------


class FewerToReuse(Exception):
    """Images that the plan counted on are not there any more: they would be paid for without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReuseOptions:
    """Rows that are not to be paid for where their images are there."""

    how: Reuse
    at_least: int  # rows that the plan counted on
    of_token: int | None = None  # only images of that token's batches; None: of all


@dataclass(frozen=True, slots=True, kw_only=True)
class Allotted:
    """What rows have been given, and do not pay for. `cost`: micro-dollars, as far as their prices are known."""

    rows: int
    images: int
    cost: int


def allot(tx: Connection, batch_id: int, wish: ReuseOptions, now: float) -> Allotted:
    """Gives the batch's rows that nothing was paid for the images of the same request, before anybody can buy them.

    Raises:
        FewerToReuse: They are fewer than `wish` counted on.
    """
    batch = tx.execute(_WHOSE, {"of_batch": batch_id}).one()
    # A producer's batch may be resumed by anybody: it takes images of its own producer alone all the same.
    of_token = batch.producer if wish.of_token is None else wish.of_token
    allotment = Allotment(
        lambda hashes: sources(tx, hashes, batch_id=batch_id, sandbox=bool(batch.sandbox), here=True, of_token=of_token)
    )
    given, images_given, cost, after = 0, 0, 0, -1
    while page := tx.execute(_UNTOUCHED, {"of_batch": batch_id, "after": after, "most": _PAGE}).all():
        after = page[-1].position
        able = [row for row in page if is_reusable(Request.from_json(row.request))]
        allotment.ask(row.request_hash for row in able)
        found = [(row, source) for row in able if (source := allotment.take(row.request_hash, row.request))]
        _give(tx, [(row.id, source.job_id) for row, source in found], wish.how, now)
        given += len(found)
        images_given += sum(row.n for row, _ in found)
        cost += sum(row.n * (row.price or 0) for row, _ in found)
    if given < wish.at_least:
        raise FewerToReuse
    return Allotted(rows=given, images=images_given, cost=cost)


_PRODUCERS = (access_tokens.c.id == batches.c.token_id) & (access_tokens.c.role == Role.PRODUCER.value)
_WHOSE = (
    select(batches.c.sandbox, access_tokens.c.id.label("producer"))
    .select_from(batches.outerjoin(access_tokens, _PRODUCERS))
    .where(batches.c.id == bindparam("of_batch"))
)


def _untouched() -> Select[Any]:
    slot = images.alias()
    taken = slot.c.state != ImageState.MISSING.value
    begun = exists().where(
        slot.c.job_id == jobs.c.id,
        slot.c.revision == jobs.c.revision,
        slot.c.surplus.is_(False),
        or_(taken, slot.c.attempt_id.is_not(None), slot.c.source_id.is_not(None)),
    )
    return (
        select(jobs.c.id, jobs.c.position, jobs.c.request, jobs.c.request_hash, jobs.c.n, jobs.c.price)
        .where(
            jobs.c.batch_id == bindparam("of_batch"),
            jobs.c.position > bindparam("after"),
            jobs.c.state == literal_column("'ready'"),
            ~begun,
        )
        .order_by(jobs.c.position)
        .limit(bindparam("most", type_=Integer))
    )


_UNTOUCHED = _untouched()
_ROWS_SLOTS = (
    select(images.c.job_id, images.c.slot, images.c.id, _ROOT.label("root"), images.c.lies_at, batches.c.dest)
    .select_from(jobs.join(images, IS_CURRENT).join(batches, batches.c.id == jobs.c.batch_id))
    .where(jobs.c.id.in_(bindparam("these", expanding=True)))
)
_TAKE = (
    update(images)
    .where(images.c.id == bindparam("of_image"))
    .values(
        state=ImageState.GENERATED.value,
        source_id=bindparam("source"),
        origin_id=bindparam("root"),
        lies_at=bindparam("there"),
        generated_at=bindparam("moment"),
        next_copy_at=bindparam("moment"),
        expires_at=NEVER_DIES,
    )
)


def _give(tx: Connection, pairs: Sequence[tuple[int, int]], how: Reuse, now: float) -> None:
    if not pairs:
        return
    numbers = [number for pair in pairs for number in pair]
    slots = {(row.job_id, row.slot): row for row in tx.execute(_ROWS_SLOTS, {"these": numbers})}
    source_of = dict(pairs)
    values = [
        {
            "of_image": row.id,
            "source": source.id,
            "root": source.root,
            "there": (source.lies_at or source.dest) if how is Reuse.LINK else None,
            "moment": now,
        }
        for (job_id, slot), row in slots.items()
        if job_id in source_of and (source := slots.get((source_of[job_id], slot))) is not None
    ]
    tx.execute(_TAKE, values)
    tx.execute(_WORKING, {"these": list(source_of)})


_WORKING = update(jobs).where(jobs.c.id.in_(bindparam("these", expanding=True))).values(state=JobState.WORKING.value)


# -- a row that asks for what it asked for before ------------------------------------------------------------------


def whole_earlier(tx: Connection, job_ids: Sequence[int]) -> dict[int, dict[str, int]]:
    """By row and request: the newest revision before the present one of which all images are there, or will be.

    A request of the manifest's stands for what the row had when the manifest asked for it: it may have been made anew
    with a prompt of its own since.
    """
    found: dict[int, dict[str, int]] = {}
    rows = tx.execute(_WHOLE_EARLIER, {"these": list(job_ids)}).all() if job_ids else []
    for row in rows:
        found.setdefault(row.job_id, {})[row.request_hash] = row.revision
    for row in rows:
        if row.manifest_hash is not None:
            found[row.job_id][row.manifest_hash] = row.revision
    return found


_OF_THEN = (images.c.job_id == earlier_requests.c.job_id) & (images.c.revision == earlier_requests.c.revision)
_TOLD = [earlier_requests.c[name] for name in ("job_id", "revision", "request_hash", "manifest_hash")]
_WHOLE_EARLIER = (
    select(*_TOLD)
    .select_from(earlier_requests.join(images, _OF_THEN & images.c.surplus.is_(False)))
    .where(earlier_requests.c.job_id.in_(bindparam("these", expanding=True)))
    .group_by(*_TOLD)
    .having(func.sum(case((images.c.state.in_(MADE_IMAGES), 0), else_=1)) == 0)
    .order_by(earlier_requests.c.revision)
)


def give_back(tx: Connection, revisions: Mapping[int, int], now: float) -> None:
    """Gives the present, empty slots of these rows the images of an earlier revision, by row: they are copied."""
    if not revisions:
        return
    slots = tx.execute(_ALL_SLOTS, {"these": list(revisions)}).all()
    then = {(row.job_id, row.slot): row for row in slots if row.revision == revisions[row.job_id]}
    values = [
        {"of_image": row.id, "source": source.id, "root": source.root, "there": None, "moment": now}
        for row in slots
        if row.revision == row.present and (source := then.get((row.job_id, row.slot))) is not None
    ]
    tx.execute(_TAKE, values)
    tx.execute(_WORKING, {"these": list(revisions)})
    own = tx.execute(_OWN_REQUESTS, {"these": list(revisions)}).all()
    asked = [{"of_job": row.job_id, "own": row.request} for row in own if row.revision == revisions[row.job_id]]
    if asked:  # these images are not those of the manifest's request, and are never to pass for them
        tx.execute(_AS_ASKED, asked)


_OWN_REQUESTS = select(earlier_requests).where(
    earlier_requests.c.job_id.in_(bindparam("these", expanding=True)), earlier_requests.c.request.is_not(None)
)
_AS_ASKED = update(jobs).where(jobs.c.id == bindparam("of_job")).values(request=bindparam("own"))
_ALL_SLOTS = (
    select(
        images.c.job_id,
        images.c.revision,
        images.c.slot,
        images.c.id,
        _ROOT.label("root"),
        jobs.c.revision.label("present"),
    )
    .select_from(jobs.join(images, images.c.job_id == jobs.c.id))
    .where(jobs.c.id.in_(bindparam("these", expanding=True)), images.c.surplus.is_(False))
)


# -- copying -------------------------------------------------------------------------------------------------------


def origins(tx: Connection, image_ids: Sequence[int]) -> dict[int, ReuseOrigin]:
    """Where these images lie, or whether they still may come. One that is not on record any more is left out."""
    if not image_ids:
        return {}
    return {row.id: _as_origin(row) for row in tx.execute(_ORIGINS, {"these": list(image_ids)})}


#: Rows whose missing images are being made, or will be by themselves: also between two attempts.
_IS_WANTED = IS_CURRENT & jobs.c.position.is_not(None) & jobs.c.state.in_([state.value for state in UNFINISHED])
_ORIGINS = (
    select(
        images,
        batches.c.dest.label("of_batch"),
        attempts.c.state.label("attempt"),
        _IS_WANTED.label("wanted"),
    )
    .select_from(
        images.join(batches, batches.c.id == images.c.batch_id)
        .join(jobs, jobs.c.id == images.c.job_id)
        .outerjoin(attempts, attempts.c.id == images.c.attempt_id)
    )
    .where(images.c.id.in_(bindparam("these", expanding=True)))
)
_OPEN = (AttemptState.SUBMITTING, AttemptState.RUNNING, AttemptState.UNKNOWN)


def _as_origin(row: Any) -> ReuseOrigin:
    stored = row.state == ImageState.STORED
    is_made = row.attempt in _OPEN or (row.attempt_id is None and row.wanted)
    waits = row.state == ImageState.GENERATED or (row.state == ImageState.MISSING and is_made)
    return ReuseOrigin(
        dest=row.lies_at or row.of_batch,
        path=row.object_path if stored else None,
        sha256=row.sha256,
        is_coming=waits,
        bytes=row.bytes,
        width=row.width,
        height=row.height,
        format=row.format,
    )


def taken(tx: Connection, batch: str | None) -> tuple[int, int]:
    """Images that were taken from other rows, and what they would have cost."""
    sums = (func.count(), func.coalesce(func.sum(jobs.c.price), 0))
    taken_over = (images.c.origin_id.is_not(None), images.c.source_id.is_not(None))  # the first has an index
    mine = (*taken_over, images.c.attempt_id.is_(None), images.c.state == ImageState.STORED.value)
    found = select(*sums).select_from(images.join(jobs, jobs.c.id == images.c.job_id)).where(*mine)
    if batch is not None:
        found = found.where(images.c.batch_id == select(batches.c.id).where(batches.c.name == batch).scalar_subquery())
    count, money = tx.execute(found).one()
    return int(count), int(money)


def taken_from(tx: Connection, job_id: int) -> dict[tuple[int, int], TakenFrom]:
    """Where a row's images were taken from, or were to be, by revision and slot."""
    source, owner = images.alias(), jobs.alias()
    joined = (
        images.join(source, source.c.id == images.c.source_id)
        .join(owner, owner.c.id == source.c.job_id)
        .join(batches, batches.c.id == owner.c.batch_id)
    )
    told = select(images.c.revision, images.c.slot, images.c.generated_at, owner.c.key, batches.c.name)
    rows = tx.execute(told.select_from(joined).where(images.c.job_id == job_id, images.c.attempt_id.is_(None)))
    return {
        (row.revision, row.slot): TakenFrom(batch=row.name, key=row.key, at=row.generated_at or 0.0) for row in rows
    }
