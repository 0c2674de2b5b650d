"""Which objects are looked at after they were put: a bucket may say yes, and keep nothing or half of it.

At each destination a process reads the first of its objects back, and asks for the size of every 50th: one request in
50 more. What was stored since the last good look is remembered, to be looked at when one turns out bad.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from dataclasses import dataclass, field

from jobs.errors import StoreError
from jobs.facts import ImageChecked
from worker.storage.base import PROBE, Store

#: Of so many objects one is looked at: a bucket that begins to lie is found out before so many are put.
LOOK_EVERY = 50
#: A destination said that it has an object, and has it not, or not whole.
UNFAITHFUL = "bucket_unfaithful"


class Look(enum.Enum):
    """How an object is looked at."""

    BYTES = "bytes"
    SIZE = "size"


@dataclass(slots=True)
class WriteVerification:
    """How far a process's destinations are believed. For one thread."""

    _puts: dict[str, int] = field(default_factory=dict)  # since the last look
    _unseen: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))  # images that were put since then
    _doubted: set[int] = field(default_factory=set)  # those of them that were on their way when it was found to lie
    _lied: set[str] = field(default_factory=set)
    _sizes: dict[str, int] = field(default_factory=dict)  # bytes of the object that was not taken, or not kept

    def next_put(self, dest: str) -> Look | None:
        """How the object that is put next is looked at; None: not at all."""
        if self.doubts(dest):
            return Look.BYTES
        count = self._puts.get(dest)
        if count is not None and count + 1 < LOOK_EVERY:
            self._puts[dest] = count + 1
            return None
        self._puts[dest] = 0
        return Look.BYTES if count is None else Look.SIZE

    def put(self, dest: str, image_id: int) -> None:
        """An image was put there and not looked at; the destination may have been found out meanwhile."""
        (self._doubted if self.doubts(dest) else self._unseen[dest]).add(image_id)

    def took(self, dest: str) -> None:
        """An image was put there, which says nothing yet of one that lied."""
        if not self.doubts(dest):
            self._sizes.pop(dest, None)

    def was_full(self, dest: str, size: int) -> None:
        """It had no room for so many bytes."""
        self._sizes[dest] = size

    def is_doubted(self, image_id: int) -> bool:
        """Whether it was put, and its destination found to lie before it was on record as stored. Told once."""
        doubted = image_id in self._doubted
        self._doubted.discard(image_id)
        return doubted

    def kept(self, dest: str) -> None:
        """A look, or a probe, found what was put."""
        self._unseen.pop(dest, None)
        self._lied.discard(dest)
        self._sizes.pop(dest, None)

    def lied(self, dest: str, size: int) -> set[int]:
        """A look did not: the images to be looked at, too. Each object is read back until one is kept."""
        self._puts.pop(dest, None)
        self._lied.add(dest)
        self._sizes[dest] = size
        doubtful = self._unseen.pop(dest, set())
        self._doubted |= doubtful
        return doubtful

    def doubts(self, dest: str) -> bool:
        """Whether it lied when it was last looked."""
        return dest in self._lied

    def probe_size(self, dest: str) -> int:
        """Bytes of a probe that tells: what is full takes a small one, and what cuts large ones keeps it."""
        return max(PROBE, self._sizes.get(dest, 0))


def demand_kept(store: Store, *, named: ImageChecked, look: Look) -> None:
    """Who may write and not read, as a worker's credentials may say, has to believe it."""
    try:
        kept = _is_kept(store, named, look)
    except StoreError as error:
        if not error.denied:
            raise
        return
    if not kept:
        message = f"{store.url_of(named.object_path)} was written, and is not there as it was written"
        raise StoreError(code=UNFAITHFUL, message=message, retryable=True)


def _is_kept(store: Store, named: ImageChecked, look: Look) -> bool:
    if look is Look.BYTES:
        return store.sha256_of(named.object_path) == named.sha256
    seen = store.look(named.object_path)
    return seen is not None and seen.size == named.bytes
