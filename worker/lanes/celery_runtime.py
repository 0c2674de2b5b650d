"""The worker of a Celery process: wakeups run its lanes, and where none are heard it runs them by itself."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from worker.lanes.liveness import beat
from worker.runtime.health import HealthSigns
from worker.runtime.telemetry import emit
from worker.runtime.timings import Timings

BEAT = 10.0  # seconds from one wakeup of a lane to the next
SILENCE = 2.5 * BEAT  # seconds without a wakeup after which Redis or beat is away


class LaneRunner(Protocol):
    """What this module needs of a worker. Every method may be called from any thread."""

    def run_lane(self, lane: str) -> bool:
        """Works in the lane for about 20 s, or wakes it where it runs; True when work is left."""

    def is_alive(self) -> bool:
        """Whether the worker's loop still turns."""

    def since_looks(self) -> Mapping[str, float]:
        """Seconds since a look for work last came back, in each lane that runs."""

    def since_run(self) -> float:
        """Seconds since any lane last ran; 0: one runs now."""

    def ledger_answers(self) -> bool:
        """Whether the ledger answers on a connection of its own. Blocks."""

    def drain(self, seconds: float) -> object:
        """Ends the lanes, waits for what is on its way, closes everything."""


class CeleryRuntime:
    """The worker of this process, the lanes it serves, and when it last heard a wakeup."""

    def __init__(self, timings: Timings | None = None) -> None:
        self._timings = timings or Timings()
        self._worker: LaneRunner | None = None
        self._lanes: frozenset[str] = frozenset()
        self._last_wakeup = -math.inf  # a process that has just started need not wait for the first
        self._draining = threading.Event()
        self._told_to_drain = False
        self._drained: threading.Thread | None = None
        self._drain_seconds = 0.0
        self._heartbeat_file = ""
        self._wakeups_wait: Callable[[], bool] = lambda: False
        self._wakeups_waited = 0
        self._started = time.monotonic()

    def start(
        self,
        worker: LaneRunner,
        lanes: Sequence[str],
        *,
        drain_seconds: float,
        heartbeat_file: str = "",
        wakeups_wait: Callable[[], bool] = lambda: False,
    ) -> None:
        """Takes the worker into service in these lanes. `wakeups_wait`: whether wakeups for them wait in Redis."""
        self._worker, self._lanes, self._wakeups_wait = worker, frozenset(lanes), wakeups_wait
        self._started = time.monotonic()
        self._drain_seconds, self._heartbeat_file = drain_seconds, heartbeat_file
        threading.Thread(target=self._watch, name="watch", daemon=True).start()
        emit("worker_started", pid=os.getpid(), lanes=sorted(self._lanes))

    def answer(self, lane: str) -> bool:
        """Answers a wakeup: runs the lane, or wakes it where it runs. True when work is left and nobody is at it."""
        self._last_wakeup = time.monotonic()
        return self._run_lane(lane)

    def begin_drain(self) -> None:
        """Takes no more work, and waits for what is on its way in a thread of its own. Safe in a signal handler."""
        if not self._told_to_drain:
            # Not read from the Event: a second signal in the middle of its set() would wait for itself.
            self._told_to_drain = True
            self._draining.set()
            self._drained = threading.Thread(target=self._drain, name="drain")
            self._drained.start()

    def finish_drain(self) -> None:
        """Returns when the worker has drained."""
        self.begin_drain()
        if self._drained is not None:
            self._drained.join()

    def _run_lane(self, lane: str) -> bool:
        if self._worker is None or lane not in self._lanes or self._draining.is_set():
            return False
        return self._worker.run_lane(lane)

    def _drain(self) -> None:
        if self._worker is not None:
            self._worker.drain(self._drain_seconds)

    def _watch(self) -> None:
        """Touches the heartbeat file, and runs the lanes where no wakeup is heard."""
        next_heartbeat = 0.0
        runs: dict[str, Future[bool]] = {}  # that were begun here
        with ThreadPoolExecutor(len(self._lanes), thread_name_prefix="no-wakeups") as threads:
            while not self._draining.wait(self._timings.watch_every):
                if time.monotonic() >= next_heartbeat:
                    self._touch()
                    next_heartbeat = time.monotonic() + self._timings.heartbeat_every
                if time.monotonic() - self._last_wakeup > SILENCE:
                    for lane in self._lanes:
                        if lane not in runs or runs[lane].done():
                            runs[lane] = threads.submit(self._run_lane, lane)

    def _touch(self) -> None:
        """Says to a probe that this process works: not that it exists, but that its lanes look for work."""
        worker = self._worker
        if worker is None:
            return
        since_wakeup = time.monotonic() - max(self._last_wakeup, self._started)
        self._wakeups_waited = self._wakeups_waited + 1 if since_wakeup > SILENCE and self._wakeups_wait() else 0
        signs = HealthSigns(
            turns=worker.is_alive(),
            since_looks=worker.since_looks(),
            since_run=worker.since_run(),
            since_wakeup=since_wakeup,
            wakeups_waited=self._wakeups_waited,
        )
        beat(self._heartbeat_file, signs, worker.ledger_answers)


PROCESS = CeleryRuntime()
