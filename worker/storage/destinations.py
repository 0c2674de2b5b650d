"""The destinations of a process: opened once, and watched. One that refuses stops new submits until it takes again."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from jobs.errors import StoreError
from worker.runtime.telemetry import emit
from worker.storage.base import Store
from worker.storage.opening import open_store
from worker.storage.write_verification import VERIFICATION_FAILED, WriteVerification

#: Seconds until a destination that refuses is tried with a probe: doubled from the first to the longest.
FIRST_PROBE = 1.0
LONGEST_PROBE = 10.0
#: Seconds for which the destination of a batch counts as known: `lightfast move-destination` may name another.
KNOWN_FOR = 5.0
#: Copies to one destination at once, where it does not ask for a slower pace. Each that works adds a little.
WIDEST = 16
#: Part of them that is left after the destination asked for a slower pace.
NARROWED = 0.75
#: Seconds between two such cuts: those on their way at the same time are all answered alike.
NARROW_EVERY = 1.0
#: The destination asks for a slower pace. That stops no submits; if copies fall behind, the copy headroom does.
SLOW_DOWN = "bucket_slow_down"


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketTrouble:
    """A destination that refuses writes."""

    dest: str
    since: float  # Unix seconds
    code: str
    message: str
    denied: bool  # a matter of rights: only a person can help
    times: int = 1
    next_probe_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Width:
    """How many copies a destination takes at once."""

    copies: float = WIDEST
    narrowed_at: float = 0.0


@dataclass(slots=True)
class Destinations:
    """Stores by destination. Safe to use from threads."""

    opener: Callable[[str], Store] = open_store
    verification: WriteVerification = field(default_factory=WriteVerification)
    of_batches: dict[int, tuple[str, float]] = field(default_factory=dict)  # by id, with the boot clock's time of it
    _stores: dict[str, Store] = field(default_factory=dict)
    _troubles: dict[str, BucketTrouble] = field(default_factory=dict)
    _widths: dict[str, Width] = field(default_factory=dict)
    _recovered: set[str] = field(default_factory=set)
    _opening: dict[str, threading.Lock] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def store(self, dest: str) -> Store:
        """The store at a destination. Blocks when it is opened for the first time: whoever wants the same one waits."""
        with self._lock:
            opening = self._opening.setdefault(dest, threading.Lock())
        with opening:
            if dest not in self._stores:
                self._stores[dest] = self.opener(dest)
            return self._stores[dest]

    @property
    def troubles(self) -> Mapping[str, BucketTrouble]:
        """Destinations that refuse writes now."""
        return self._troubles

    def width(self, dest: str) -> int:
        """Copies that may run to it at once."""
        return int(self._widths.get(dest, Width()).copies)

    def refused(self, dest: str, error: StoreError, now: float) -> None:
        """A write failed; once more if it had before."""
        if error.code == SLOW_DOWN:
            self._narrow(dest, now)
            return
        known = self._troubles.get(dest)
        fresh = BucketTrouble(dest=dest, since=now, code=error.code, message=error.message, denied=error.denied)
        told = _again(known, fresh) if known else replace(fresh, next_probe_at=now + FIRST_PROBE)
        self._troubles = {**self._troubles, dest: told}
        if known is None:
            emit("destination_refused_here", level="debug", dest=dest, code=error.code, problem=error.message[:300])

    def worked(self, dest: str, *, began: float = math.inf, seen: bool = False) -> bool:
        """A write succeeded; True when it ended a trouble. `seen`: what was written was found there.

        `began`: when it was asked for. One that was on its way before the trouble began says nothing of now.
        """
        width = self._widths.get(dest)
        if width is not None:
            self._widths[dest] = replace(width, copies=min(WIDEST, width.copies + 1 / width.copies))
        trouble = self._troubles.get(dest)
        if trouble is None or (trouble.code == VERIFICATION_FAILED and not seen):
            return False  # the word of a destination that failed verification proves nothing
        if began < trouble.since:
            return False
        self._troubles = {name: trouble for name, trouble in self._troubles.items() if name != dest}
        self._recovered.add(dest)
        emit("destination_took_here", level="debug", dest=dest)
        return True

    def recovered(self) -> list[str]:
        """Destinations that take writes again, each told once."""
        found = []
        while self._recovered:
            found.append(self._recovered.pop())
        return found

    def to_probe(self, now: float) -> list[str]:
        """Destinations whose probe is due; the next of each comes later, ever later up to the longest."""
        due = [trouble for trouble in self._troubles.values() if trouble.next_probe_at <= now]
        for trouble in due:
            wait = min(LONGEST_PROBE, max(FIRST_PROBE, (now - trouble.since)))
            self._troubles = {**self._troubles, trouble.dest: replace(trouble, next_probe_at=now + wait)}
        return [trouble.dest for trouble in due]

    def probe(self, dest: str, now: float) -> bool:
        """Writes, reads and deletes a probe; True when a destination that refused takes writes again. Blocks."""
        try:
            self.store(dest).probe(self.verification.probe_size(dest))
        except StoreError as error:
            self.refused(dest, error, now)
            return False
        self.worked(dest, seen=True)
        return True

    def _narrow(self, dest: str, now: float) -> None:
        width = self._widths.get(dest, Width())
        if now - width.narrowed_at < NARROW_EVERY:
            return
        self._widths[dest] = Width(copies=max(1.0, width.copies * NARROWED), narrowed_at=now)
        emit("destination_slows_down", level="info", dest=dest, copies=self.width(dest))


def _again(known: BucketTrouble, fresh: BucketTrouble) -> BucketTrouble:
    """Its first words stay while the code is the same: each change is told to everybody, and some name the object."""
    said = known if known.code == fresh.code else fresh
    return replace(said, since=known.since, times=known.times + 1, next_probe_at=known.next_probe_at)
