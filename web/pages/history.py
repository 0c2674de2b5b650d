"""Images a minute and money over time, of the batches that somebody looks at: the ledger is asked for what is new.

A batch's time is cut into at most `MOST` stretches of one width. When it outgrows them, two become one.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

from jobs.ledger import Ledger
from jobs.results.charts import MOST, History

#: Batches that are kept.
KEPT = 100
#: Seconds between two looks at what is new at least, and the part of the time that they may take.
EVERY, LOOKING_PART = 3.0, 0.02
#: Seconds that a page waits for its chart the first time. A million images take longer: it then comes by itself.
PATIENCE = 0.2


@dataclass(slots=True, eq=False)
class _Kept:
    history: History | None = None
    next_look: float = float("-inf")
    looking: Future[None] | None = None


class Histories:
    """Safe to call from any thread."""

    def __init__(self, ledger: Callable[[], Ledger], clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger, self._clock = ledger, clock
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="histories")
        self._lock = Lock()

    def of(self, batch_id: int, patience: float = PATIENCE) -> History | None:
        """What is known by now; the rest is read in the background. None: nothing is stored, or not known yet."""
        with self._lock:
            kept = self._kept.setdefault(batch_id, _Kept())
            self._kept.move_to_end(batch_id)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            is_free = kept.looking is None or kept.looking.done()
            if is_free and self._clock() >= kept.next_look:
                kept.looking = self._threads.submit(self._look, batch_id, kept)
            looking = kept.looking
        if looking is not None and kept.history is None:
            try:
                looking.result(patience)
            except Exception:  # noqa: BLE001  a chart is not worth a page: it comes with the next look
                return None
        return kept.history

    def close(self) -> None:
        """Reads nothing any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _look(self, batch_id: int, kept: _Kept) -> None:
        began, is_first = self._clock(), kept.history is None
        try:
            self._read_on(batch_id, kept)
        finally:
            # The first look reads the whole batch: it does not tell what the next ones take.
            cost = 0.0 if is_first else self._clock() - began
            kept.next_look = self._clock() + max(EVERY, cost / LOOKING_PART)

    def _read_on(self, batch_id: int, kept: _Kept) -> None:
        reports = self._ledger().reports
        history, times = kept.history, reports.stored_span(batch_id)
        if times is None:
            kept.history = None
            return
        first, last = times
        if history is None or first < history.start:  # an earlier one: images that were adopted
            history = History.spanning(first, last)
        while last >= history.start + MOST * history.width:
            history = history.coarser()
        since = history.start + max(0, len(history.images) - 1) * history.width
        kept.history = history.with_newer(since, reports.stored_by_time(batch_id, since, history.width))
