"""Blocking calls off the event loop: the ledger's writes, its reads, and everything else that blocks."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")

#: SQLite has one writer at a time; more threads would only wait for each other with the lock's clumsier means.
SQLITE_WRITERS = 1
#: Claims of several lanes and one group commit at a time; each holds one connection.
POSTGRES_WRITERS = 4
READERS = 2
#: Puts and checks of images; as many as copies may run at once.
BLOCKING = 16


class Executors(Protocol):
    """How async code reaches what blocks."""

    async def write(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """A call that may change the ledger."""

    async def read(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """A call that only looks into the ledger."""

    async def blocking(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Any other call that blocks: storage, files, long checks."""

    def close(self) -> None:
        """Waits for the calls that run, and takes no more."""


class ThreadedExecutors:
    """Each kind of call has its own threads, so a slow bucket never holds up the ledger."""

    def __init__(self, *, writers: int) -> None:
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="ledger-write")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="ledger-read")
        self._blocking = ThreadPoolExecutor(BLOCKING, thread_name_prefix="blocking")

    async def write(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs on a writer thread."""
        work = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._writers, work)

    async def read(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs on a reader thread."""
        work = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    async def blocking(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs on one of the other threads."""
        work = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._blocking, work)

    def close(self) -> None:
        """Waits for the calls that run, and takes no more."""
        for pool in (self._writers, self._readers, self._blocking):
            pool.shutdown(wait=True, cancel_futures=True)


class InlineExecutors:
    """Every call at once, on the loop: a simulation decides by itself when anything happens."""

    async def write(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs here and now."""
        return function(*args, **kwargs)

    async def read(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs here and now."""
        return function(*args, **kwargs)

    async def blocking(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs here and now."""
        return function(*args, **kwargs)

    def close(self) -> None:
        """Nothing waits."""


def side_by_side(work: Callable[[Item], T], items: Iterator[Item], at_once: int) -> Iterator[T]:
    """The result of `work` for each item, as it is done; `at_once` run at a time, and items are taken no sooner."""
    with ThreadPoolExecutor(at_once) as threads:
        running: set[Future[T]] = {threads.submit(work, item) for item in islice(items, at_once)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                yield each.result()
            running |= {threads.submit(work, item) for item in islice(items, len(done))}


def in_order(
    work: Callable[[Item], T], items: Iterator[Item], at_once: int, *, weight: Callable[[Item], int], most: int
) -> Iterator[T]:
    """The result of `work` for each item, in the items' order; `at_once` run at a time.

    Results that wait and items that run weigh no more than `most` together, but for one item that is heavier alone.
    """
    waiting: deque[tuple[Future[T], int]] = deque()
    held = 0
    threads = ThreadPoolExecutor(at_once)
    try:
        for item in items:
            heavy = weight(item)
            while waiting and held + heavy > most:
                done, weighed = waiting.popleft()
                held -= weighed
                yield done.result()
            waiting.append((threads.submit(work, item), heavy))
            held += heavy
        while waiting:
            yield waiting.popleft()[0].result()
    finally:
        threads.shutdown(wait=True, cancel_futures=True)
