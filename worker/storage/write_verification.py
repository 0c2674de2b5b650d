"""Which objects are looked at after they were put: a bucket may say yes, and keep nothing or half of it.

At each destination a process reads the first of its objects back, and asks for the size of every 50th: one request in
50 more. What was put since the last look that found its object is remembered. Where a look finds that an object is
missing or cut short, the destination has failed verification, and all of that is copied again.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from jobs.errors import StoreError
from jobs.facts import ImageChecked
from worker.storage.base import PROBE, Store

#: One object in this many is looked at, so no more than these are put before a bucket that fails is found out.
LOOK_EVERY = 50
#: A destination said that it has an object, and has it not, or not whole.
VERIFICATION_FAILED = "bucket_unfaithful"


class Look(enum.Enum):
    """How an object is looked at."""

    BYTES = "bytes"
    SIZE = "size"


@dataclass(slots=True)
class WriteVerification:
    """Which of a process's destinations have failed, and which images that leaves in doubt. For one thread."""

    look_every: int = LOOK_EVERY
    _puts: dict[str, int] = field(default_factory=dict)  # since the last look
    _unverified: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))  # images put since then
    _in_doubt: set[int] = field(default_factory=set)  # put to a destination that failed, perhaps not yet on record
    _to_copy_again: set[int] = field(default_factory=set)  # until the ledger has taken it
    _failed: set[str] = field(default_factory=set)
    _sizes: dict[str, int] = field(default_factory=dict)  # bytes of the object that was refused, or not kept

    def next_look(self, dest: str) -> Look | None:
        """How the object that is put next is looked at; None: not at all."""
        if dest in self._failed:
            return Look.BYTES
        count = self._puts.get(dest)
        if count is not None and count + 1 < self.look_every:
            self._puts[dest] = count + 1
            return None
        self._puts[dest] = 0
        return Look.BYTES if count is None else Look.SIZE

    def accepted(self, dest: str) -> None:
        """A destination took an object. Of one that has failed that says nothing."""
        if dest not in self._failed:
            self._sizes.pop(dest, None)

    def was_full(self, dest: str, size: int) -> None:
        """It had no room for an object of `size` bytes."""
        self._sizes[dest] = size

    def unverified(self, dest: str, image_id: int) -> None:
        """An image was put there and not looked at; the destination may have failed meanwhile."""
        (self._in_doubt if dest in self._failed else self._unverified[dest]).add(image_id)

    def verified(self, dest: str) -> None:
        """A look found what was put."""
        self._unverified.pop(dest, None)
        self._failed.discard(dest)
        self._sizes.pop(dest, None)

    def failed(self, dest: str, size: int) -> int:
        """A look did not find an object of `size` bytes; the number of images that this leaves in doubt.

        From now on each object that is put there is read back, until one is found.
        """
        self._puts.pop(dest, None)
        self._failed.add(dest)
        self._sizes[dest] = size
        images = self._unverified.pop(dest, set())
        self._in_doubt |= images
        self._to_copy_again |= images
        return len(images)

    # -- images in doubt

    def begins(self, image_id: int) -> None:
        """An image is copied now: what comes of it is no longer in doubt."""
        self._in_doubt.discard(image_id)
        self._to_copy_again.discard(image_id)

    def stored(self, image_id: int) -> None:
        """An image is on record as stored. Where its destination failed before that, it is copied again."""
        if image_id in self._in_doubt:
            self._in_doubt.discard(image_id)
            self._to_copy_again.add(image_id)

    @property
    def to_copy_again(self) -> frozenset[int]:
        """Images whose new copy is not on record yet."""
        return frozenset(self._to_copy_again)

    def recorded(self, image_ids: Iterable[int]) -> None:
        """The ledger knows that these are to be copied again."""
        self._to_copy_again.difference_update(image_ids)

    def probe_size(self, dest: str) -> int:
        """Bytes of a probe that tells: what is full takes a small one, and what cuts large ones keeps it."""
        return max(PROBE, self._sizes.get(dest, 0))


def verify(store: Store, *, named: ImageChecked, look: Look) -> None:
    """Looks at an object that was put.

    Who may write and not read, as a worker's credentials may say, has to believe the store.

    Raises:
        StoreError: It is not there, or not whole (`VERIFICATION_FAILED`), or the store did not answer.
    """
    try:
        kept = _is_kept(store, named, look)
    except StoreError as error:
        if not error.denied:
            raise
        return
    if not kept:
        message = f"{store.url_of(named.object_path)} was written, and is not there as it was written"
        raise StoreError(code=VERIFICATION_FAILED, message=message, retryable=True)


def _is_kept(store: Store, named: ImageChecked, look: Look) -> bool:
    if look is Look.BYTES:
        return store.sha256_of(named.object_path) == named.sha256
    seen = store.look(named.object_path)
    return seen is not None and seen.size == named.bytes
