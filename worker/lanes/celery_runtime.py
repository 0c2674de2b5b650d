"""The one crew of a Celery worker process: bells start its shifts, and where none are heard it starts them itself."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from worker.lanes.liveness import HEARTBEAT_EVERY, beat
from worker.runtime.health import HealthSigns
from worker.runtime.telemetry import emit

BEAT = 10.0  # seconds from one bell of a lane to the next
SILENCE = 2.5 * BEAT  # no bell for so long: Redis or beat is away
WATCH = 1.0  # seconds between two looks at all this


class LaneRunner(Protocol):
    """What this module needs of a crew."""

    def run_lane(self, lane: str) -> bool:
        """Works in the lane for about 20 s; True when work is left."""

    def wake(self, lane: str) -> bool:
        """Wakes the lane's shift."""

    def is_alive(self) -> bool:
        """Whether the crew's loop still turns."""

    def since_looks(self) -> Mapping[str, float]:
        """Seconds since a look for work last came back, in each lane at work."""

    def ledger_answers(self) -> bool:
        """Whether the ledger answers somebody who asks anew."""

    def drain(self, seconds: float) -> object:
        """Ends the shifts, lets what is in the air come down, closes everything."""


class CeleryRuntime:
    """The crew of this process, the lanes it serves, and when it last heard a bell."""

    def __init__(self) -> None:
        self._worker: LaneRunner | None = None
        self._lanes: frozenset[str] = frozenset()
        self._working: set[str] = set()
        self._lock = threading.Lock()
        self._last_wakeup = -math.inf  # a process that has just started need not wait for the first
        self._draining = threading.Event()
        self._told_to_drain = False
        self._drained: threading.Thread | None = None
        self._watch: threading.Thread | None = None
        self._drain_seconds = 0.0
        self._heartbeat_file = ""
        self._wakeups_wait: Callable[[], bool] = lambda: False
        self._wakeups_waited = 0
        self._started = self._last_run = time.monotonic()

    def start(
        self,
        worker: LaneRunner,
        lanes: Sequence[str],
        *,
        drain_seconds: float,
        heartbeat_file: str = "",
        wakeups_wait: Callable[[], bool] = lambda: False,
    ) -> None:
        """Takes the crew into service in these lanes. `bells_wait`: whether bells for them lie in Redis."""
        self._worker, self._lanes, self._wakeups_wait = worker, frozenset(lanes), wakeups_wait
        self._started = self._last_run = time.monotonic()
        self._drain_seconds, self._heartbeat_file = drain_seconds, heartbeat_file
        self._watch = threading.Thread(target=self._watch_over, name="watch", daemon=True)
        self._watch.start()
        emit("worker_started", pid=os.getpid(), lanes=sorted(self._lanes))

    def answer(self, lane: str) -> bool:
        """Answers a bell: works a shift, or wakes the one at work. True when work is left and none is at work."""
        self._last_wakeup = time.monotonic()
        return self._run_lane(lane)

    def begin_drain(self) -> None:
        """Takes no more work, and lets what is in the air come down meanwhile. Safe in a signal handler."""
        if not self._told_to_drain:
            # Not read from the Event: a second signal in the middle of its set() would wait for itself.
            self._told_to_drain = True
            self._draining.set()
            self._drained = threading.Thread(target=self._drain, name="drain")
            self._drained.start()

    def finish_drain(self) -> None:
        """Returns when the crew has drained."""
        self.begin_drain()
        if self._drained is not None:
            self._drained.join()

    def _run_lane(self, lane: str) -> bool:
        if self._worker is None or lane not in self._lanes or self._draining.is_set():
            return False
        with self._lock:
            at_work = lane in self._working
            self._working.add(lane)
        if at_work:
            self._worker.wake(lane)
            return False
        try:
            return self._worker.run_lane(lane)
        finally:
            with self._lock:
                self._working.discard(lane)
                self._last_run = time.monotonic()

    def _drain(self) -> None:
        if self._worker is not None:
            self._worker.drain(self._drain_seconds)

    def _watch_over(self) -> None:
        """Touches the heartbeat file, and starts the lanes when no bell is heard."""
        next_heartbeat = 0.0
        with ThreadPoolExecutor(len(self._lanes), thread_name_prefix="alone") as alone:
            while not self._draining.wait(WATCH):
                if time.monotonic() >= next_heartbeat:
                    self._touch()
                    next_heartbeat = time.monotonic() + HEARTBEAT_EVERY
                if time.monotonic() - self._last_wakeup > SILENCE:
                    self._work_alone(alone.submit)

    def _work_alone(self, start: Callable[[Callable[[str], bool], str], object]) -> None:
        for lane in self._lanes - self._working:
            start(self._run_lane, lane)

    def _touch(self) -> None:
        """Says to a probe that this process works: not that it exists, but that its lanes look for work."""
        if self._worker is not None:
            beat(self._heartbeat_file, self._signs(self._worker), self._worker.ledger_answers)

    def _signs(self, worker: LaneRunner) -> HealthSigns:
        now = time.monotonic()
        since_wakeup = now - max(self._last_wakeup, self._started)
        self._wakeups_waited = self._wakeups_waited + 1 if since_wakeup > SILENCE and self._wakeups_wait() else 0
        return HealthSigns(
            turns=worker.is_alive(),
            since_looks=worker.since_looks(),
            since_run=0.0 if self._working else now - self._last_run,
            since_wakeup=since_wakeup,
            wakeups_waited=self._wakeups_waited,
        )


PROCESS = CeleryRuntime()
