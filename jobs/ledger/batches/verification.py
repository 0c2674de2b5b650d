"""Images that are paid: a second look at the stored, their flags, sending back what is gone, giving up what is lost."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Text, bindparam, func, select, update

from jobs.facts import ImageLost, ReuseGone
from jobs.ledger.batches.appended import shown_key
from jobs.ledger.batches.batches import NotWhole, batch_id_of, demand_whole
from jobs.ledger.batches.values import ImageFlags
from jobs.ledger.database.events import event_row, job_event, write_events
from jobs.ledger.database.job_state import derive_jobs
from jobs.ledger.database.schema import COST_OF_IMAGE, attempts, batches, images, jobs
from jobs.ledger.facts.record import record
from jobs.policy.reuse import REUSE_GONE
from jobs.policy.verification import AwaitedImage, StoredCopy
from jobs.states import IN_ARCHIVE, ImageState

#: The code of an image that a person gave up, and the event.
GIVEN_UP = "given_up"
#: Images read, or written, with one statement.
PAGE = 500


def kept(tx: Connection, batch_id: int, after: int) -> list[StoredCopy]:
    """The next page of stored images after an image's id; those that are only named are another batch's to look at."""
    joined = images.join(jobs, jobs.c.id == images.c.job_id).join(batches, batches.c.id == images.c.batch_id)
    joined = joined.outerjoin(attempts, attempts.c.id == images.c.attempt_id)
    # What is archived was made by an attempt that the archive tells of, or, if it is older than its batch, adopted.
    archived = batches.c.archive_step.in_([step.value for step in IN_ARCHIVE])
    made = archived & (images.c.stored_at > batches.c.created_at)
    planned = jobs.c.request.is_not(None).label("is_planned")
    wanted = select(images, jobs.c.key, planned, attempts.c.task_id, made.label("made")).select_from(joined)
    mine = (images.c.batch_id == batch_id, images.c.state == ImageState.STORED.value, images.c.id > after)
    own = images.c.lies_at.is_(None)
    return [_as_kept(row) for row in tx.execute(wanted.where(*mine, own).order_by(images.c.id).limit(PAGE))]


def named(tx: Connection, name: str) -> dict[str, int]:
    """How many stored images of a batch are only named, by the destination where they lie."""
    batch_id = batch_id_of(tx, name)
    mine = (images.c.batch_id == batch_id, images.c.state == ImageState.STORED.value, images.c.lies_at.is_not(None))
    counted = select(images.c.lies_at, func.count()).where(*mine).group_by(images.c.lies_at)
    return dict(map(tuple, tx.execute(counted.order_by(images.c.lies_at))))


def _as_kept(row: Any) -> StoredCopy:
    return StoredCopy(
        image_id=row.id,
        key=shown_key(row.key),
        slot=row.slot,
        revision=row.revision,
        surplus=bool(row.surplus),
        path=row.object_path or "",
        sha256=row.sha256,
        size=row.bytes or 0,
        link_dies_at=row.expires_at,
        is_planned=bool(row.is_planned),
        has_task=bool(row.url or row.task_id) if row.attempt_id is not None else bool(row.source_id or row.made),
    )


def copy_again(tx: Connection, reasons: Mapping[int, str], now: float) -> int:
    """Stored images are to be copied once more, from their links or fresh ones: nothing is paid. Returns how many."""
    sent_back = 0
    numbers = sorted(reasons)
    for start in range(0, len(numbers), PAGE):
        sent_back += _copy_again(tx, reasons, numbers[start : start + PAGE], now)
    return sent_back


def _copy_again(tx: Connection, reasons: Mapping[int, str], numbers: Sequence[int], now: float) -> int:
    joined = images.outerjoin(attempts, attempts.c.id == images.c.attempt_id)
    wanted = select(images.c.id.label("image_id"), images.c.job_id, images.c.slot, images.c.batch_id, attempts.c.id)
    has_a_source = images.c.attempt_id.is_not(None) | images.c.source_id.is_not(None)
    mine = (images.c.id.in_(numbers), images.c.state == ImageState.STORED.value, has_a_source)
    rows = tx.execute(wanted.select_from(joined).where(*mine)).all()
    anew = {"next_copy_at": now, "lease_until": None, "holder": None, "tries": 0, "stored_at": None}
    tx.execute(
        update(images)
        .where(images.c.id.in_([row.image_id for row in rows]))
        .values(state=ImageState.GENERATED.value, error_code=None, message=None, **anew)
    )
    for batch_id in sorted({row.batch_id for row in rows}):
        demand_whole(tx, batch_id)
    derive_jobs(tx, [row.job_id for row in rows])
    write_events(
        tx,
        [event_row("copied_again", now, row, {"slot": row.slot, "reason": reasons[row.image_id]}) for row in rows],
    )
    return len(rows)


def awaited(tx: Connection, name: str, keys: Sequence[str], now: float) -> list[AwaitedImage]:
    """The paid images of these rows that are not stored yet, whatever their revision."""
    joined = images.join(jobs, jobs.c.id == images.c.job_id).outerjoin(attempts, attempts.c.id == images.c.attempt_id)
    wanted = select(images, jobs.c.key, COST_OF_IMAGE.label("price")).select_from(joined)
    mine = (jobs.c.batch_id == batch_id_of(tx, name), jobs.c.key.in_(keys))
    wanted = wanted.where(*mine, images.c.state == ImageState.GENERATED.value)
    return [_as_awaited(row, now) for row in tx.execute(wanted.order_by(jobs.c.position, images.c.slot))]


def _as_awaited(row: Any, now: float) -> AwaitedImage:
    return AwaitedImage(
        image_id=row.id,
        key=row.key,
        slot=row.slot,
        price=row.price,
        tries=row.tries,
        error_code=row.error_code,
        message=row.message,
        link_dies_at=row.expires_at,
        is_being_copied=row.lease_until is not None and row.lease_until > now,
    )


def give_up(tx: Connection, image_ids: Sequence[int], now: float) -> set[int]:
    """Paid images are lost on a person's word, but for those that are being copied just now. Returns which."""
    free = images.c.lease_until.is_(None) | (images.c.lease_until <= now)
    wanted = select(images, attempts.c.id.label("of_attempt"))
    wanted = wanted.select_from(images.outerjoin(attempts, attempts.c.id == images.c.attempt_id))
    rows = tx.execute(
        wanted.where(images.c.id.in_(image_ids), images.c.state == ImageState.GENERATED.value, free)
    ).all()
    record(tx, [_lost(row, now) for row in rows])
    write_events(tx, [job_event(GIVEN_UP, row.batch_id, row.job_id, now, {"image": row.slot}) for row in rows])
    return {row.id for row in rows}


def _lost(row: Any, now: float) -> ImageLost | ReuseGone:
    last = ": ".join(part for part in (row.error_code, row.message) if part)
    message = f"given up on your word{f'; the last try: {last}' if last else ''}"
    if row.attempt_id is None and row.source_id is not None:
        return ReuseGone(image_id=row.id, at=now, code=REUSE_GONE, message=message)
    return ImageLost(image_id=row.id, at=now, code=GIVEN_UP, message=message)


def set_flags(tx: Connection, found: Sequence[ImageFlags], among: Collection[str]) -> None:
    """See `ImageVerbs.set_flags`. With one statement for all that differ."""
    of_id = {each.image_id: each for each in found}
    wanted = select(images.c.id, images.c.batch_id, images.c.sha256, images.c.flags)
    mine = (images.c.id.in_(of_id), images.c.state == ImageState.STORED.value)
    rows = tx.execute(wanted.where(*mine).order_by(images.c.id).with_for_update(key_share=True)).all()
    changes: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row.sha256 != of_id[row.id].sha256:
            continue
        before = json.loads(row.flags) if row.flags else []
        after = [*(flag for flag in before if flag not in among), *sorted(of_id[row.id].flags)]
        if after != before:
            changes[row.batch_id].append({"of_image": row.id, "new_flags": json.dumps(after) if after else None})
    for batch_id in sorted(changes):
        try:
            demand_whole(tx, batch_id)
        except NotWhole:
            del changes[batch_id]
    if values := [each for batch_id in sorted(changes) for each in changes[batch_id]]:
        tx.execute(_FLAGGED, values)


_FLAGGED = update(images).where(images.c.id == bindparam("of_image")).values(flags=bindparam("new_flags", type_=Text))


def states(tx: Connection, image_ids: Sequence[int]) -> Counter[ImageState]:
    """How many of these images are in which state."""
    counted: Counter[ImageState] = Counter()
    for start in range(0, len(image_ids), PAGE):
        mine = select(images.c.state).where(images.c.id.in_(image_ids[start : start + PAGE]))
        counted.update(ImageState(state) for state in tx.execute(mine).scalars())
    return counted
