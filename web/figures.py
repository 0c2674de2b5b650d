"""The figures of batches, counted once for all who ask: counting a batch of a million rows takes seconds.

Whoever asks is answered from the last count at once, and it is counted anew in the background, only while somebody
asks. What the batch's own row keeps (state, reason, budget, money) is always as it is now. `SharedAnswer` is for one
question on one event loop; these are many, asked by threads and loops alike, and an old answer is better than a wait.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from threading import Lock

from jobs.formatting import utc
from jobs.ledger import Ledger
from jobs.ledger.batches.values import Batch
from jobs.results.documents import BatchFigures, progress_document, read_figures
from worker.runtime.timings import Timings

#: Batches whose last count is kept; the one that was not asked for longest goes first.
MOST_KEPT = 200
#: Seconds that a caller waits for the first count of a batch.
PATIENCE = 5.0
#: Seconds between two counts of a batch at least, and the part of the time that all counts together may take: less than
#: in a run, which counts to know when it is over.
LEAST_INTERVAL, COUNTING_PART = Timings().count_every, 0.02
#: Seconds for which a batch that was asked for shares that part of the time.
WATCHED_FOR = 30.0
#: Seconds that the last count took at most where the next one is waited for, and for how long that is.
CHEAP, CHEAP_PATIENCE = 0.1, 0.2
#: Seconds, and intervals, after which a count is too old to answer with.
OLD, OLD_INTERVALS = 60.0, 2
#: Counts at once. Two, so that a small batch does not wait for a large one.
THREADS = 2


def counted_document(figures: BatchFigures) -> dict[str, object]:
    """A batch with its counts, and when it was counted."""
    return {**progress_document(figures), "counted_at": utc(figures.now)}


@dataclass(slots=True, eq=False)
class _LastCount:
    """The last count of a batch. Moments are of the process's own clock, in seconds."""

    name: str
    asked_at: float
    figures: BatchFigures | None = None
    began_at: float = 0.0
    cost: float = 0.0  # seconds that it took
    changes: int = 0  # that were told of
    counted_changes: int = 0  # as of when it began
    running: Future[None] | None = None

    def is_due(self, now: float, interval: float) -> bool:
        """Whether it is to be counted now."""
        return self.figures is None or self.is_outdated or now - self.began_at >= interval

    @property
    def is_outdated(self) -> bool:
        """Whether something was changed since it began."""
        return self.counted_changes < self.changes

    def patience(self, now: float, interval: float, first: float) -> float:
        """Seconds that a new count is waited for."""
        if self.figures is None or now - self.began_at >= max(OLD, OLD_INTERVALS * interval):
            return first
        return min(first, CHEAP_PATIENCE) if self.cost <= CHEAP and self.is_due(now, interval) else 0.0


class SharedFigures:
    """Safe to call from any thread."""

    def __init__(self, ledger: Callable[[], Ledger], clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger, self._clock = ledger, clock
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="figures")
        self._kept: OrderedDict[int, _LastCount] = OrderedDict()
        self._lock = Lock()

    def of(self, batch: Batch, patience: float = PATIENCE) -> BatchFigures | None:
        """The figures of a batch; `batch` is its row as it is now, and `now` of the figures when it was counted.

        Waits for its first count, at most `patience` seconds (0: not at all, but it is begun), and for later ones a
        fraction of a second where they are cheap. None: it is being counted still.

        Raises:
            Exception: The ledger did not answer, and there is no count from before.
        """
        with self._lock:
            count, now = self._count_of(batch), self._clock()
            if count.figures is not None and count.figures.progress.batch.state is not batch.state:
                count.changes += not count.is_outdated  # by somebody else
            interval = self._interval(count, now)
            until = now + count.patience(now, interval, patience)
            if count.is_due(now, interval):
                self._start(count)
        while (running := count.running) and not running.done() and (left := until - self._clock()) > 0:
            wait([running], timeout=left)
            with self._lock:
                if running.done() and not running.exception() and count.is_outdated:
                    self._start(count)  # it began before a change
        if count.figures is not None:
            return self._as_it_is_now(count.figures, batch)
        if running is not None and running.done() and (trouble := running.exception()):
            raise trouble
        return None

    def changed(self, batch: Batch) -> None:
        """What was counted until now is out of date, whatever its age."""
        with self._lock:
            self._count_of(batch).changes += 1

    def close(self) -> None:
        """Counts nothing any more; waits for what is being counted, since the ledger is closed next."""
        self._threads.shutdown(cancel_futures=True)

    # -- with the lock held --------------------------------------------------------------------------------------

    def _count_of(self, batch: Batch) -> _LastCount:
        now = self._clock()
        count = self._kept.setdefault(batch.id, _LastCount(batch.name, now))
        count.asked_at = now
        self._kept.move_to_end(batch.id)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return count

    def _interval(self, count: _LastCount, now: float) -> float:
        """Each of the batches that somebody watches has an equal share of the time."""
        watched = sum(each.asked_at >= now - WATCHED_FOR for each in self._kept.values())
        return max(LEAST_INTERVAL, count.cost * watched / COUNTING_PART)

    def _start(self, count: _LastCount) -> None:
        if count.running is None or count.running.done():
            count.running = self._threads.submit(self._count_now, count)

    # -- in a thread -----------------------------------------------------------------------------------------------

    def _count_now(self, count: _LastCount) -> None:
        with self._lock:
            changes, began = count.changes, self._clock()
        ledger = self._ledger()
        now = time.time() + ledger.clock_offset()
        figures = read_figures(ledger, ledger.reports.progress(count.name, now), now)
        with self._lock:
            count.figures, count.began_at, count.counted_changes = figures, began, changes
            count.cost = self._clock() - began

    def _as_it_is_now(self, figures: BatchFigures, batch: Batch) -> BatchFigures:
        stop = self._ledger().emergency_stop.current()
        return replace(figures, progress=replace(figures.progress, batch=batch, stop=stop))
