"""Parts of pages that are rendered once for all who look: of 200 open pages one pays for all."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock

#: Seconds for which a part is shown as it is.
FRESH = 1.5
#: Parts that are kept; the one that was not asked for longest goes first.
MOST_KEPT = 400
#: Looks a second of all open pages together, and the seconds between two looks of one page at least.
LOOKS_A_SECOND, LEAST_INTERVAL = 8.0, 2.0
#: Stands in a part where its version belongs, which is known only when all of it is rendered.
VERSION = "@version@"


@dataclass(slots=True, eq=False)
class SharedText:
    """A part, and what it is known by."""

    text: str = ""
    version: str = ""
    made_at: float = float("-inf")
    lock: Lock = field(default_factory=Lock)


class SharedTexts:
    """Safe to call from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[Hashable, SharedText] = OrderedDict()
        self._next_look = 0.0
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], str]) -> SharedText:
        """The part of that name, made anew if it is old. Whoever asks meanwhile waits for the same."""
        with self._lock:
            kept = self._kept.setdefault(key, SharedText())
            self._kept.move_to_end(key)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        with kept.lock:
            if self._clock() - kept.made_at >= FRESH:
                text = make()
                kept.version = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
                kept.text = text.replace(VERSION, kept.version)
                kept.made_at = self._clock()
        return kept

    def forget(self) -> None:
        """Everything is made anew: somebody has changed something, and wants to see it."""
        with self._lock:
            self._kept.clear()

    def interval(self) -> float:
        """Seconds until the page that asks looks again.

        Each look gets the next free moment of those that are left: the more pages are open, the longer each waits, and
        all together cost the same.
        """
        now = self._clock()
        with self._lock:
            self._next_look = max(now + LEAST_INTERVAL, self._next_look + 1 / LOOKS_A_SECOND)
            return self._next_look - now
