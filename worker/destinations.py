"""The destinations of a process: opened once, and watched. One that refuses stops new submits until it takes again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from jobs.errors import StoreError
from worker.storage import Store, open_store
from worker.telemetry import emit


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketTrouble:
    """A destination that refuses writes."""

    dest: str
    since: float  # Unix seconds
    code: str
    message: str
    denied: bool  # a matter of rights: only a person can help
    times: int = 1


@dataclass(slots=True)
class Destinations:
    """Stores by destination. Safe to use from threads."""

    opener: Callable[[str], Store] = open_store
    _stores: dict[str, Store] = field(default_factory=dict)
    _troubles: dict[str, BucketTrouble] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def store(self, dest: str) -> Store:
        """The store at a destination. Blocks when it is opened for the first time."""
        with self._lock:
            if dest not in self._stores:
                self._stores[dest] = self.opener(dest)
            return self._stores[dest]

    @property
    def troubles(self) -> Mapping[str, BucketTrouble]:
        """Destinations that refuse writes now."""
        return self._troubles

    def refused(self, dest: str, error: StoreError, now: float) -> None:
        """A write failed; once more if it had before."""
        known = self._troubles.get(dest)
        fresh = BucketTrouble(dest=dest, since=now, code=error.code, message=error.message, denied=error.denied)
        told = replace(fresh, since=known.since, times=known.times + 1) if known else fresh
        self._troubles = {**self._troubles, dest: told}
        if known is None:
            emit("destination_refuses", level="warning", dest=dest, code=error.code, problem=error.message[:300])

    def worked(self, dest: str) -> bool:
        """A write succeeded; True when it ended a trouble."""
        if dest not in self._troubles:
            return False
        self._troubles = {name: trouble for name, trouble in self._troubles.items() if name != dest}
        emit("destination_takes_again", level="warning", dest=dest)
        return True

    def probe(self, dest: str, now: float) -> bool:
        """Writes, reads and deletes a probe; True when a destination that refused takes writes again. Blocks."""
        try:
            self.store(dest).probe()
        except StoreError as error:
            self.refused(dest, error, now)
            return False
        self.worked(dest)
        return True
