"""Looks at stored images again, and copies anew those that are gone: both without paying anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator

from jobs.errors import StoreError
from jobs.policy.verification import Finding, ObjectCondition, StoredCopy, judge_entry, judge_hash
from jobs.states import ImageState
from worker.images.check import BadImage, decode_fully
from worker.runtime.executors import side_by_side
from worker.services import Services
from worker.stages.copy import LEASE, copy
from worker.storage.base import Store, as_metadata

#: Images read at once: they stream through a hash, or are in memory whole for a full decode.
READS, DECODES = 16, 4
#: Images asked about at once.
LOOKS = 32
#: Copies at once, and seconds after the last one that worked for which others are tried again here.
COPIES, PATIENCE = 8, 20.0

Look = Callable[[Store, str, StoredCopy], Finding | None]


def inspect(store: Store, batch: str, images: Iterable[StoredCopy], *, how: str) -> Iterator[Finding | None]:
    """What is wrong with each image; None: nothing. `how`: "quick", "hash" or "deep"."""
    look, at_once = {"quick": (_look_quickly, LOOKS), "hash": (_hash, READS), "deep": (_decode, DECODES)}[how]
    return side_by_side(lambda kept: _told(kept, lambda: look(store, batch, kept)), iter(images), at_once)


def _told(kept: StoredCopy, look: Callable[[], Finding | None]) -> Finding | None:
    try:
        return look()
    except StoreError as error:
        return Finding(kept=kept, condition=ObjectCondition.UNREADABLE, reason=f"{error.message} ({error.code})")


def _look_quickly(store: Store, batch: str, kept: StoredCopy) -> Finding | None:
    found = store.look(kept.path)
    if found is None:
        return _hash(store, batch, kept)  # a HEAD cannot tell a missing object from a missing bucket
    expected = as_metadata(batch=batch, key=kept.key, index=kept.slot)
    return _changed(kept, judge_entry(kept, found.size, found.metadata, expected))


def _hash(store: Store, batch: str, kept: StoredCopy) -> Finding | None:  # noqa: ARG001  as the others
    found = store.sha256_of(kept.path)
    if found is None:
        return Finding(kept=kept, condition=ObjectCondition.MISSING, reason="nothing is there")
    return _changed(kept, judge_hash(kept, found))


def _decode(store: Store, batch: str, kept: StoredCopy) -> Finding | None:
    wrong = _hash(store, batch, kept)
    content = None if wrong else store.read(kept.path)
    if wrong or content is None:
        return wrong
    try:
        decode_fully(content)
    except BadImage as bad:
        return _changed(kept, f"as it was left, and cannot be decoded: {bad.message}")
    return None


def _changed(kept: StoredCopy, reason: str | None) -> Finding | None:
    return Finding(kept=kept, condition=ObjectCondition.CHANGED, reason=reason) if reason else None


# -- copying again -------------------------------------------------------------------------------------------------


async def copy_now(services: Services, batch: str, image_ids: Collection[int]) -> None:
    """Copies what is due of a batch, until these are stored or lost, or nothing works; the next run goes on then."""
    ids, end = list(image_ids), services.clock.now() + PATIENCE
    waiting = await _waiting(services, ids)
    while waiting and services.clock.now() < end:
        now = services.clock.now()
        due, _ = await services.executors.write(
            services.ledger.claims.copies, now, holder=services.holder, lease=LEASE, at_most=COPIES, only=batch
        )
        await asyncio.gather(*(copy(services, each) for each in due))
        if not due:
            await services.clock.sleep(0.5)
        before, waiting = waiting, await _waiting(services, ids)
        if waiting < before:
            end = services.clock.now() + PATIENCE


async def _waiting(services: Services, ids: list[int]) -> int:
    found = await services.executors.read(services.ledger.images.states, ids)
    return found[ImageState.GENERATED]
