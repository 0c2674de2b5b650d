"""Carries what callbacks said to the ledger: many in one transaction, from a thread of its own.

A caller never waits for the ledger. What is lost with the process costs only time: polls find everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future

from jobs.ledger import Ledger, is_away
from worker.runtime.telemetry import emit

Wake = Callable[[str], object]
Hint = tuple[str, str]  # token, task id

#: Hints that wait while the ledger is busy or away.
MOST_WAITING = 4_096
#: Hints written in one transaction: a ledger that others write to as well is held for some milliseconds.
AT_ONCE = 256
#: Seconds between two writes: what comes in the meantime shares one.
BREATH = 0.02
#: Seconds for which the first callers wait for the ledger to be opened.
OPENING = 5.0
#: Seconds after a write that failed, and at the end for the last one.
REST = 1.0
#: Times that one address may be called within `WITHIN` seconds. A task ends once; a leaked address is called for ever.
CALLS = 6
WITHIN = 10.0


class CallbackBuffer:
    """Takes hints at once, and tells the ledger soon. `wake`: wakes the lanes that have something to do."""

    def __init__(self, opened: Callable[[], Ledger], clock: Callable[[], float], wake: Wake) -> None:
        self._opened, self._clock, self._wake = opened, clock, wake
        self._waiting: dict[Hint, None] = {}
        self._calls: Counter[str] = Counter()
        self._calls_since = 0.0
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._started_at = 0.0
        self._found: Future[Ledger] = Future()
        self._offset = 0.0  # the ledger's clock minus this one, in seconds

    async def ledger(self) -> Ledger | None:
        """The ledger, which knows the addresses it gave out; None while it cannot be opened."""
        self._start()
        left = self._started_at + OPENING - self._clock()
        if not self._found.done() and left > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._found)), left)
        return self._found.result() if self._found.done() else None

    def take(self, token: str, task_id: str) -> bool:
        """Keeps a hint until it is written; False when there is no room for it, or its address is called too often."""
        with self._changed:
            if len(self._waiting) >= MOST_WAITING or self._calls_too_often(token):
                return False
            self._waiting[token, task_id] = None
            self._changed.notify()
        self._start()
        return True

    def close(self) -> None:
        """Writes what waits, if that can be done soon."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(REST)

    def _calls_too_often(self, token: str) -> bool:
        now = self._clock()
        if not self._calls_since <= now < self._calls_since + WITHIN:
            self._calls, self._calls_since = Counter(), now
        self._calls[token] += 1
        return self._calls[token] > CALLS

    # -- the thread ------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        with self._changed:
            if self._thread is None:
                self._started_at = self._clock()
                self._thread = threading.Thread(target=self._listen, name="callbacks", daemon=True)
                self._thread.start()

    def _listen(self) -> None:
        while not self._found.done() and not self._closing:
            self._open()
        while self._found.done() and self._await_hints():
            self._write(self._found.result())
            threading.Event().wait(BREATH)

    def _open(self) -> None:
        try:
            ledger = self._opened()
            self._offset = ledger.clock_offset()
            self._found.set_result(ledger)
        except Exception as trouble:  # noqa: BLE001  whatever keeps it closed: it is tried again
            emit("hints_wait", level="warning", problem=type(trouble).__name__)
            threading.Event().wait(REST)

    def _await_hints(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            return bool(self._waiting)

    def _write(self, ledger: Ledger) -> None:
        with self._changed:
            hints = list(self._waiting)[:AT_ONCE]
        if not self._tell(ledger, hints):
            return
        with self._changed:
            for hint in hints:
                self._waiting.pop(hint, None)

    def _tell(self, ledger: Ledger, hints: list[Hint]) -> bool:
        """Whether these hints are done with: written, or not to be written by anybody."""
        try:
            for lane in ledger.hints.hear_all(hints, self._clock() + self._offset):
                self._wake(lane)
        except Exception as trouble:  # noqa: BLE001  hints that cannot be written are worth nothing
            emit("hints_not_written", level="warning", hints=len(hints), problem=repr(trouble)[:300])
            threading.Event().wait(REST)
            return self._closing or not is_away(trouble)
        return True
