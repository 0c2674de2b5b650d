"""An event loop whose time a test need not wait for: no test hopes that the machine is fast, and none sleeps.

A test marked `virtual_time` runs on a `VirtualLoop`. Its clock stands still while anything is being done, by the loop
or by a thread it has called, and jumps to the next timer when nothing is. So `max_stall=60.0` takes no time where
nothing moves, and is never over too early on a slow machine. `worker_world.world` gives the worker the same clock.

Only for what stays in this process: of a socket nobody can tell whether something is still on its way to it. All other
tests run on a `RealLoop`, and move its time themselves, with `skip`, once they have seen what they wait for.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

from tests.support.patience import AT_LAST

#: Unix seconds at which virtual time begins: 2027-01-15.
BEGINNING = 1_800_000_000.0


class RealLoop(asyncio.SelectorEventLoop):
    """The machine's time, and what a test adds to it."""

    _ahead = 0.0

    def time(self) -> float:
        """Seconds; begins anywhere."""
        return super().time() + self._ahead

    def skip(self, seconds: float) -> None:
        """Lets so much time pass at once, as if this process had been stopped meanwhile."""
        self._ahead += seconds


def skip(seconds: float) -> None:
    """Lets so much time pass at once on the loop that runs."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, RealLoop | VirtualLoop)
    loop.skip(seconds)


class _JumpingSelector(selectors.DefaultSelector):
    """Where the loop would wait for a timer, time goes on to it."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0 or self.loop.at_work:
            return super().select(timeout if timeout is not None and timeout <= 0 else None)
        if found := super().select(0):
            return found
        self.loop.skip(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time is what a test and its timers make it."""

    def __init__(self) -> None:
        self.at_work = 0  # calls in threads that have not come back, but for those that a gate holds
        self._now = 1_000.0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)
        # asyncio takes a timer for due that is this near. The usual nanosecond is nothing beside a year of seconds as a
        # float: a timer at exactly this moment would never be due.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Seconds; begins anywhere."""
        return self._now

    def skip(self, seconds: float) -> None:
        """Lets so much time pass at once."""
        self._now += seconds

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Time stands still until the call is over."""
        if executor is None:
            executor = self._default_executor = getattr(self, "_default_executor", None) or ThreadPoolExecutor()
        self.at_work += 1
        running = executor.submit(func, *args)
        found = asyncio.wrap_future(running, loop=self)
        running.add_done_callback(self._over)  # after wrap_future's own: the result is at hand before time goes on
        return found

    def _over(self, _: Future[Any]) -> None:
        self._threadsafe(-1)

    def _threadsafe(self, more: int) -> None:
        try:
            self.call_soon_threadsafe(self.note, more)
        except RuntimeError:  # the loop is closed, and its time over
            return

    def note(self, more: int) -> None:
        """So many more calls are at work."""
        self.at_work += more


class VirtualClock:
    """The clock of `worker.runtime.clock`, by a virtual loop's time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.offset = 0.0
        self._loop = loop

    def now(self) -> float:
        """Unix seconds by the ledger's clock."""
        return self.wall() + self.offset

    def wall(self) -> float:
        """Unix seconds by this machine's clock."""
        return BEGINNING + self._loop.time()

    def boot(self) -> float:
        """Seconds since the machine was started."""
        return self._loop.time()

    def cpu(self) -> float:
        """No work takes any of its time."""
        return 0.0

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        await asyncio.sleep(seconds)


class Gate:
    """Holds a thread that the loop has called until the test lets it go; virtual time passes meanwhile.

    Made on the loop. `reached` is set, on the loop, when the first thread has come to it.
    """

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._open, self._lock, self._held = threading.Event(), threading.Lock(), 0

    def pass_through(self) -> None:
        """In the thread: waits until the gate is open."""
        with self._lock:
            self._loop.call_soon_threadsafe(self.reached.set)
            if self._open.is_set():
                return
            self._held += 1
            self._note_threadsafe(-1)
        assert self._open.wait(AT_LAST), "nobody opened the gate"

    def open(self) -> None:
        """On the loop: all may pass from now on."""
        with self._lock:
            self._note(self._held)
            self._held = 0
            self._open.set()

    def _note(self, more: int) -> None:
        if isinstance(self._loop, VirtualLoop):
            self._loop.note(more)

    def _note_threadsafe(self, more: int) -> None:
        if isinstance(self._loop, VirtualLoop):
            self._loop.call_soon_threadsafe(self._loop.note, more)


def clock_here() -> VirtualClock | None:
    """The clock of the virtual loop that runs; None on any other."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return VirtualClock(loop) if isinstance(loop, VirtualLoop) else None
