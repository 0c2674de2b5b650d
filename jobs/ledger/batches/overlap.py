"""What was asked for before: rows of other batches by their request, and the rows of one batch. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Integer, Select, bindparam, case, exists, func, literal_column, or_, select

from jobs.ledger.batches.batches import first_number
from jobs.ledger.batches.values import ImageHolder, MadeBefore, RecordedRow
from jobs.ledger.claims.reuse import ANYBODY, USABLE, batches_of
from jobs.ledger.database.schema import IS_CURRENT, WILL_BE_BOUGHT, earlier_requests, images, jobs
from jobs.policy.reuse import is_as_hashed
from jobs.states import MADE_IMAGES, ImageState, JobState

#: Rows that were paid for, or are being made, or may have been.
MADE = (JobState.DONE, JobState.PARTIAL, JobState.WORKING, JobState.HELD)
#: Rows of a batch that are read at once.
PAGE = 5_000


def made_elsewhere(
    tx: Connection, hashes: Sequence[str], *, besides: int | None, sandbox: bool, of_token: int | None = None
) -> list[MadeBefore]:
    """How often other batches have made each of these requests. The stand-in's images and real ones are kept apart.

    `of_token`: in batches of that token alone; None: in all.
    """
    whose = {"sandbox": sandbox, "of_token": ANYBODY if of_token is None else of_token}
    wanted = {"hashes": hashes, "besides": -1 if besides is None else besides, **whose}
    found: dict[tuple[str, int], MadeBefore] = {}
    for made in (MadeBefore._make(row) for asked in (_MADE_NOW, _MADE_EARLIER) for row in tx.execute(asked, wanted)):
        known = found.get((made.request_hash, made.batch_id))
        both = known and known._replace(rows=known.rows + made.rows, apart=known.apart + made.apart)
        found[made.request_hash, made.batch_id] = both or made
    return list(found.values())


def _of_others() -> tuple[Any, ...]:
    # A sum, so that no index of batches is taken: it would be read from end to end for each thousand requests.
    batch_id = jobs.c.batch_id + literal_column("0")
    return batch_id != bindparam("besides"), batch_id.in_(batches_of())


def _made_now() -> Select[tuple[str, int, int, int, str]]:
    """Rows that ask for it, as the manifest has them."""
    partial = case((jobs.c.state == JobState.PARTIAL.value, 1), else_=0)
    return (
        select(jobs.c.request_hash, jobs.c.batch_id, func.count(), func.sum(partial), func.min(jobs.c.key))
        .where(
            jobs.c.request_hash.in_(bindparam("hashes", expanding=True)),
            jobs.c.state.in_([state.value for state in MADE]),
            *_of_others(),
        )
        .group_by(jobs.c.request_hash, jobs.c.batch_id)
    )


def _made_earlier() -> Select[tuple[str, int, int, int, str]]:
    """Rows that asked for it before they were made anew, where an image of then is there or is still to be copied."""
    asked = earlier_requests.c.request_hash
    rows = func.count(jobs.c.id.distinct())
    image = (images.c.job_id == jobs.c.id) & (images.c.revision == earlier_requests.c.revision)
    is_there = exists().where(image, images.c.surplus.is_(False), images.c.state.in_(MADE_IMAGES))
    return (
        select(asked, jobs.c.batch_id, rows, rows, func.min(jobs.c.key))
        .select_from(earlier_requests.join(jobs, jobs.c.id == earlier_requests.c.job_id))
        .where(
            asked.in_(bindparam("hashes", expanding=True)),
            jobs.c.request_hash != asked,  # else it is counted as it is now
            is_there,
            *_of_others(),
        )
        .group_by(asked, jobs.c.batch_id)
    )


_MADE_NOW, _MADE_EARLIER = _made_now(), _made_earlier()


def waiting_elsewhere(
    tx: Connection, hashes: Sequence[str], *, besides: int, sandbox: bool
) -> list[tuple[str, int, int]]:
    """Rows of other batches that wait, and will be bought as they are: request, batch, and how many."""
    wanted = {"hashes": hashes, "besides": besides, "sandbox": sandbox, "of_token": ANYBODY}
    return [(row.request_hash, row.batch_id, row.rows) for row in tx.execute(_WAITING, wanted)]


def waiting_twice(tx: Connection, batch_id: int, *, sandbox: bool) -> list[tuple[int, int]]:
    """Rows of the batch that wait, and whose request waits in another batch too: that batch, and how many."""
    wanted = {"besides": batch_id, "sandbox": sandbox, "of_token": ANYBODY}
    return [(row.batch_id, row.rows) for row in tx.execute(_WAITING_TWICE, wanted)]


def _waiting() -> Select[tuple[str, int, int]]:
    return (
        select(jobs.c.request_hash, jobs.c.batch_id, func.count().label("rows"))
        .where(jobs.c.request_hash.in_(bindparam("hashes", expanding=True)), WILL_BE_BOUGHT, *_of_others())
        .group_by(jobs.c.request_hash, jobs.c.batch_id)
    )


def _waiting_twice() -> Select[tuple[int, int]]:
    mine = jobs.alias()
    rows = func.count(mine.c.id.distinct())
    waits = (mine.c.state == JobState.READY.value, mine.c.position.is_not(None))
    return (
        select(jobs.c.batch_id, rows.label("rows"))
        .select_from(mine.join(jobs, jobs.c.request_hash == mine.c.request_hash))
        .where(mine.c.batch_id == bindparam("besides"), *waits, WILL_BE_BOUGHT, *_of_others())
        .group_by(jobs.c.batch_id)
        .order_by(rows.desc())
    )


_WAITING, _WAITING_TWICE = _waiting(), _waiting_twice()


def same_rows(tx: Connection, batch_id: int, keys: Sequence[str]) -> dict[str, str]:
    """The request's hash by key, of those of these rows that the batch has."""
    return {row.key: row.request_hash for row in tx.execute(_SAME_ROWS, {"of_batch": batch_id, "keys": keys})}


_SAME_ROWS = select(jobs.c.key, jobs.c.request_hash).where(
    jobs.c.batch_id == bindparam("of_batch"),
    jobs.c.key.in_(bindparam("keys", expanding=True)),
    jobs.c.request_hash.is_not(None),
)


def without_images(tx: Connection, batch_id: int, keys: Sequence[str]) -> dict[str, str]:
    """The request's hash by key, of those of these rows that have no image and none on its way, nor ever reused one.

    A row whose image could not be taken (`reuse_gone`) is left out: only a person has it bought, and does so knowingly.
    """
    return {row.key: row.request_hash for row in tx.execute(_WITHOUT, {"of_batch": batch_id, "keys": keys})}


def _without() -> Select[Any]:
    slot = images.alias()
    begun = exists().where(
        slot.c.job_id == jobs.c.id,
        slot.c.revision == jobs.c.revision,
        slot.c.surplus.is_(False),
        or_(
            slot.c.state.in_([state.value for state in MADE_IMAGES]),
            (slot.c.state == ImageState.MISSING.value) & slot.c.attempt_id.is_not(None),
            slot.c.source_id.is_not(None),
        ),
    )
    return _SAME_ROWS.where(jobs.c.position.is_not(None), ~begun)


_WITHOUT = _without()


def count_rows(tx: Connection, batch_id: int) -> int:
    """Rows on record that stand for a job, in the newest manifest or not."""
    no_job = jobs.c.state.in_([JobState.SKIPPED.value, JobState.INVALID.value])
    counted = select(func.count()).where(jobs.c.batch_id == batch_id)
    return tx.execute(counted).scalar_one() - tx.execute(counted.where(no_job)).scalar_one()


def on_record(tx: Connection, batch_id: int, after: int) -> list[RecordedRow]:
    """The next page of a batch's rows that stand for a job, by number. `after`: the last that was seen, or 0."""
    bounds = {"after": max(after, first_number(batch_id) - 1), "beyond": first_number(batch_id + 1)}
    rows = tx.execute(_ON_RECORD, {**bounds, "most": PAGE})
    return [
        RecordedRow(
            id=row.id,
            key=row.key,
            request_hash=row.request_hash,
            state=JobState(row.state),
            listed=row.position is not None,
            made=row.state in MADE,
            usable=bool(row.usable) and (row.remade is None or is_as_hashed(row.remade, row.request_hash)),
            numbered=row.position is not None and row.key == str(row.position + 1),
        )
        for row in rows
    ]


def first_rows(tx: Connection, batch_id: int, most: int) -> list[tuple[str, bytes]]:
    """Key and own columns of the first rows that stand for a job."""
    bounds = {"after": first_number(batch_id) - 1, "beyond": first_number(batch_id + 1), "most": most}
    return [(row.key, row.carried) for row in tx.execute(_FIRST_ROWS, bounds)]


def image_holders(tx: Connection, batch_id: int, job_ids: Sequence[int]) -> list[ImageHolder]:
    """Which rows of the batch have the images that these have, as `reuse.sources` sees it: these rows among them."""
    wanted = {"of_batch": batch_id, "these": list(job_ids)}
    return [ImageHolder._make(row) for asked in _HOLDERS for row in tx.execute(asked, wanted)]


def _holders() -> tuple[Select[Any], ...]:
    theirs, owner = images.alias(), jobs.alias()
    root = func.coalesce(images.c.origin_id, images.c.id)
    # A sum, as above.
    of_batch = owner.c.batch_id + literal_column("0") == bindparam("of_batch")
    rows = jobs.join(images, IS_CURRENT & (images.c.slot == 0))
    return tuple(
        select(jobs.c.id, root, owner.c.id, owner.c.key)
        .select_from(rows.join(theirs, same == root).join(owner, owner.c.id == theirs.c.job_id))
        .where(jobs.c.id.in_(bindparam("these", expanding=True)), of_batch)
        for same in (theirs.c.id, theirs.c.origin_id)
    )


_HOLDERS = _holders()


def _jobs_of(*columns: Any) -> Select[Any]:
    """A page of a batch's rows that stand for a job, by number."""
    return (
        select(*columns)
        .where(
            jobs.c.id > bindparam("after"),
            jobs.c.id < bindparam("beyond"),
            jobs.c.state.not_in([JobState.SKIPPED.value, JobState.INVALID.value]),
        )
        .order_by(jobs.c.id)
        .limit(bindparam("most", type_=Integer))
    )


_ON_RECORD = _jobs_of(
    jobs.c.id,
    jobs.c.key,
    jobs.c.request_hash,
    jobs.c.state,
    jobs.c.position,
    (jobs.c.request.is_not(None) & jobs.c.state.in_([state.value for state in USABLE])).label("usable"),
    case((jobs.c.revision > literal_column("1"), jobs.c.request)).label("remade"),
)
_FIRST_ROWS = _jobs_of(jobs.c.key, jobs.c.carried)
