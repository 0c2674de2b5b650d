"""Virtual time and seeded chance.

Each simulated process has an event loop of its own, and one callback runs at a time: chance says whose. So a process
can be abandoned or stopped between any two of them, as by SIGKILL and SIGSTOP, and hours pass as fast as they are
computed. There are no threads, no sleeping and no sets of objects, so the same seed is the same history.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from asyncio import events
from collections import deque
from collections.abc import Callable
from typing import Any

#: Unix seconds at which every simulation begins.
EPOCH = 1_800_000_000.0


class DiesError(SystemExit):
    """Raised inside a process that is killed in the middle of a callback: no handler of ours catches it."""


class Loop(asyncio.AbstractEventLoop):
    """The event loop of one process, turned by the timeline one callback at a time."""

    def __init__(self, timeline: Timeline, told: Callable[[str], None]) -> None:
        self._timeline = timeline
        self._told = told
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = itertools.count()
        self.frozen_until = 0.0

    # -- what the timeline does ----------------------------------------------------------------------------------

    def next_at(self) -> float | None:
        """When it has something to do; None: never, unless somebody calls."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if self._ready:
            at = self._timeline.now
        elif self._timers:
            at = self._timers[0][0]
        else:
            return None
        return max(at, self.frozen_until)

    def step(self) -> None:
        """Runs one callback. Timers that are due join those that are ready all at once, as in asyncio's own loop."""
        if not self._ready:
            self._wake()
        handle = self._ready.popleft()
        if handle.cancelled():
            return
        events._set_running_loop(self)
        try:
            handle._run()
        finally:
            events._set_running_loop(None)

    def _wake(self) -> None:
        while self._timers and self._timers[0][0] <= self._timeline.now:
            self._ready.append(heapq.heappop(self._timers)[2])

    def catch_up(self) -> None:
        """After a freeze, what came from the network is ready first, then every timer that is due."""
        self._wake()

    # -- what asyncio asks for -----------------------------------------------------------------------------------

    def time(self) -> float:
        return self._timeline.now

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        return self.call_at(self._timeline.now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are skipped when their time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        # The tasks of a killed process are never finished; Python need not complain.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._told(f"{context.get('message')}: {context.get('exception')!r}")


class Timeline:
    """What happens when: the world's own events, and the callbacks of every process that lives."""

    def __init__(self, rng: random.Random) -> None:
        self.now = 0.0
        self.steps = 0
        self._chance = rng
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.loops: list[tuple[Loop, Callable[[], None]]] = []

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Something the world does, in so many seconds."""
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), act))

    def run(self, until: Callable[[], bool], limit: float) -> bool:
        """Goes on until `until` says so, asked at each of the world's events; False when `limit` came first."""
        while True:
            at, due = self._next_loops()
            event_at = self._events[0][0] if self._events else None
            if at is None and event_at is None:
                return until()
            if event_at is not None and (at is None or event_at <= at):
                if event_at > limit:
                    self.now = limit
                    return until()
                self.now = event_at
                heapq.heappop(self._events)[2]()
                if until():
                    return True
                continue
            if at is None or at > limit:
                self.now = limit
                return until()
            self.now = at
            _, step = due[0] if len(due) == 1 else self._chance.choice(due)
            self.steps += 1
            step()

    def _next_loops(self) -> tuple[float | None, list[tuple[Loop, Callable[[], None]]]]:
        earliest: float | None = None
        due: list[tuple[Loop, Callable[[], None]]] = []
        for pair in self.loops:
            at = pair[0].next_at()
            if at is None:
                continue
            at = max(at, self.now)
            if earliest is None or at < earliest:
                earliest, due = at, [pair]
            elif at == earliest:
                due.append(pair)
        return earliest, due
