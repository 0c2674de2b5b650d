"""One answer for all who ask at the same time: one thread works for all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")

#: Part of one core that finding answers may take: one that took a second is given for ten.
CPU_PART = 0.1


class SharedAnswer(Generic[T]):
    """An answer that a thread finds. While it is fresh, or being found, nobody has it found again."""

    def __init__(self, find: Callable[[], T], *, least: float = 0.0) -> None:
        """`least`: seconds for which an answer is fresh at least."""
        self._find, self._least = find, least
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shared")
        self._finding: asyncio.Future[T] | None = None
        self._fresh_until = 0.0
        self._last: tuple[float, T] | None = None  # when it was found, and what

    async def answer(self, patience: float, *, old: float = 0.0) -> T:
        """The answer. `old`: seconds for which the last one is given, too, while a new one is being found.

        Raises:
            TimeoutError: It was not found within `patience` seconds. The thread goes on looking for it.
        """
        if self._finding is None or (self._finding.done() and time.monotonic() >= self._fresh_until):
            self._finding = asyncio.get_running_loop().run_in_executor(self._thread, self._find_and_time)
        last = self._last
        if last is not None and not self._finding.done() and time.monotonic() - last[0] < old:
            return last[1]
        return await asyncio.wait_for(asyncio.shield(self._finding), patience)

    def close(self) -> None:
        """Finds nothing any more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _find_and_time(self) -> T:
        began = time.monotonic()
        try:
            found = self._find()
            self._last = (time.monotonic(), found)
            return found
        finally:
            ended = time.monotonic()
            self._fresh_until = ended + max(self._least, (ended - began) / CPU_PART)
