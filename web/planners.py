"""Manifests that are read and recorded for who sends them: few at once, each token in its turn, and none for ever."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar
from weakref import WeakValueDictionary

from fastapi import HTTPException

from jobs.errors import BadInput, LightfastError

#: Manifests that are read at once, one of a token; and those of a token that may wait for their turn.
AT_ONCE, OF_ONE = 2, 100
#: Seconds for which one is read at most: ten million rows take less.
LONGEST = 1_800.0
#: Seconds between two looks whether somebody still waits for the answer.
LOOK_EVERY = 1.0
BUSY = 503

T = TypeVar("T")


class ManifestReading:
    """One manifest at work: what its thread calls meanwhile, and which raises where it is to end."""

    def __init__(self) -> None:
        self._ends_at = time.monotonic() + LONGEST
        self._is_given_up = Event()

    def give_up(self) -> None:
        """It ends soon, and records nothing. From any thread."""
        self._is_given_up.set()

    def rows_read(self, _rows: int) -> None:
        """More rows were read.

        Raises:
            BadInput: It takes too long.
            LightfastError: It was given up.
        """
        self.rows_recorded(0)
        if time.monotonic() >= self._ends_at:
            raise BadInput(f"it takes longer than {LONGEST / 60:.0f} minutes to read: give it to `lightfast submit`")

    def rows_recorded(self, _rows: int) -> None:
        """More rows were recorded, in a transaction that is still open.

        Raises:
            LightfastError: It was given up.
        """
        if self._is_given_up.is_set():
            raise LightfastError("The server ends, or nobody waits any more. Nothing was recorded.")


class Planners:
    """The threads that read and record manifests; belongs to one event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="planner")
        self._free = asyncio.Semaphore(AT_ONCE)
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()  # a token's own
        self._asked: Counter[int] = Counter()  # by token
        self._at_work: set[ManifestReading] = set()

    async def run(
        self, token_id: int, work: Callable[[ManifestReading], T], is_left: Callable[[], Awaitable[bool]] | None = None
    ) -> T:
        """What `work` finds in a thread, when it is this token's turn.

        `is_left`: whether nobody waits for it any more; then it is given up.

        Raises:
            HTTPException: Too many of this token wait (503).
        """
        if self._asked[token_id] > OF_ONE:
            raise HTTPException(BUSY, "too many manifests of this token wait", headers={"Retry-After": "10"})
        turn = self._turns.setdefault(token_id, asyncio.Lock())
        self._asked[token_id] += 1
        try:
            async with turn, self._free:  # its own turn first: a token that waits takes no place from others
                return await self._in_thread(work, is_left)
        finally:
            self._asked[token_id] -= 1
            self._asked += Counter()  # without those that ask for nothing

    async def _in_thread(
        self, work: Callable[[ManifestReading], T], is_left: Callable[[], Awaitable[bool]] | None
    ) -> T:
        reading = ManifestReading()
        self._at_work.add(reading)
        working = asyncio.get_running_loop().run_in_executor(self._threads, work, reading)
        try:
            while not (await asyncio.wait([working], timeout=LOOK_EVERY))[0]:
                if is_left is not None and await is_left():
                    reading.give_up()
            return working.result()
        except asyncio.CancelledError:
            reading.give_up()
            raise
        finally:
            self._at_work.discard(reading)

    def end(self) -> None:
        """Gives up what is at work. Whoever waits for it is answered."""
        for reading in list(self._at_work):
            reading.give_up()

    def close(self) -> None:
        """Reads nothing any more; waits for the threads to notice, since the ledger is closed next."""
        self.end()
        self._threads.shutdown(cancel_futures=True)
