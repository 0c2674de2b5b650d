"""A worker on an event loop in a thread of its own, for callers that have no loop: Celery's threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from jobs.formatting import usd
from worker.lanes.liveness import show_end, show_life
from worker.lanes.news import News
from worker.lanes.worker import Drained, Worker
from worker.runtime.telemetry import emit
from worker.services import Services

T = TypeVar("T")

#: Seconds beyond its drain that a worker may take to end.
GRACE = 15.0


class WorkerThread:
    """Starts at once; every method may be called from any thread. `build` runs on the loop's thread."""

    def __init__(self, build: Callable[[], Services]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._turn, name="worker", daemon=True)
        self._thread.start()
        try:
            self._worker = self._ask(self._start(build)).result()
        except BaseException:
            self._end_loop()
            raise

    def run_lane(self, lane: str, seconds: float | None = None) -> bool:
        """Works in the lane for `seconds`, or wakes it where it runs; True when work is left. Blocks.

        `seconds`: None: as the timings say.
        """
        limit = self._worker.services.timings.lane_run if seconds is None else seconds
        return self._ask(self._worker.run_lane(lane, limit)).result()

    def is_alive(self) -> bool:
        """Whether the loop still turns: it answers within a few seconds."""
        turned = threading.Event()
        if not self._thread.is_alive():
            return False
        self._loop.call_soon_threadsafe(turned.set)
        return turned.wait(5.0)

    def since_looks(self) -> dict[str, float]:
        """Seconds since the last look for work came back, in each lane that runs."""
        return self._worker.since_looks()

    def since_run(self) -> float:
        """Seconds since any lane last ran; 0: one runs now."""
        return self._worker.since_run()

    def ledger_answers(self) -> bool:
        """Whether the ledger answers on a connection of its own. Blocks."""
        return self._worker.services.ledger.answers()

    def drain(self, seconds: float) -> Drained:
        """Ends the lanes, waits for what is on its way, closes everything. Blocks; to be called once."""
        try:
            return self._ask(self._end(seconds)).result(seconds + GRACE)
        finally:
            self._end_loop()

    # -- on the loop -----------------------------------------------------------------------------------------------

    async def _start(self, build: Callable[[], Services]) -> Worker:
        worker = Worker(build())
        await worker.start()
        loop = asyncio.get_running_loop()
        services = worker.services
        beside = (show_life(worker), News(services).tell_for_ever(), services.sender.send_for_ever())
        self._beside = [loop.create_task(each) for each in beside]
        return worker

    async def _end(self, seconds: float) -> Drained:
        for task in self._beside:
            task.cancel()
        drained = await self._worker.drain(seconds)
        await show_end(self._worker)
        await self._worker.services.close()
        emit("worker_drained", unknown=drained.unknown, unknown_usd=usd(drained.money), rescued=drained.rescued)
        return drained

    # -- the thread ------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _ask(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(GRACE)
        if not self._thread.is_alive():
            self._loop.close()
