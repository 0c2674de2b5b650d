"""Long answers, made by a thread as fast as they are read: a million lines take no more memory than a thousand."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Condition
from typing import IO, cast

from fastapi import HTTPException

#: Answers that are made at once, and of them those of one token; one more is asked to come later.
MOST, OF_ONE = 8, 4
#: Bytes of a part, and parts that wait to be read.
PART, WAITING = 64 * 1024, 8
BUSY = 503
RETRY_AFTER = {"Retry-After": "5"}

Write = Callable[[IO[bytes]], object]


class ReaderGoneError(Exception):
    """Nobody reads the answer any more."""


class LongAnswers:
    """The threads that make long answers; belongs to one event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MOST, thread_name_prefix="answers")
        self._made: Counter[int] = Counter()  # at this moment, by token
        self._pipes: set[_Pipe] = set()

    async def stream(self, token_id: int, write: Write) -> AsyncIterator[bytes]:
        """The parts of what `write` writes, the first of them at hand: what goes wrong before it is raised here.

        `token_id`: who reads it.

        Raises:
            HTTPException: As many answers are being made as may be.
        """
        if self._made.total() >= MOST or self._made[token_id] >= OF_ONE:
            raise HTTPException(BUSY, "other long answers are being made", headers=RETRY_AFTER)
        self._made[token_id] += 1
        parts = self._parts(token_id, write)
        try:
            first = await anext(parts, b"")
        except BaseException:
            await parts.aclose()
            raise

        async def all_parts() -> AsyncIterator[bytes]:
            async with contextlib.aclosing(parts):
                yield first
                async for part in parts:
                    yield part

        return all_parts()

    async def _parts(self, token_id: int, write: Write) -> AsyncGenerator[bytes]:
        pipe = _Pipe(asyncio.get_running_loop())
        self._pipes.add(pipe)
        made = self._threads.submit(pipe.fill, write)
        try:
            while (part := await pipe.next_part()) is not None:
                yield part
            made.result()  # raises what `write` has raised
        finally:
            pipe.leave()
            self._pipes.discard(pipe)
            self._made -= Counter({token_id: 1})

    def close(self) -> None:
        """Makes nothing any more; waits for the threads to notice, since the ledger is closed next."""
        for pipe in list(self._pipes):
            pipe.leave()
        self._threads.shutdown(cancel_futures=True)


class _Pipe:
    """A file that a thread writes to, and a loop reads from. Who writes waits for who reads."""

    closed = False  # as libraries ask a file

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._came = loop, asyncio.Event()
        self._parts: deque[bytes] = deque()
        self._changed = Condition()
        self._part = bytearray()
        self._written = 0
        self._is_whole = self._is_left = False

    # -- in the thread

    def fill(self, write: Write) -> None:
        try:
            write(cast("IO[bytes]", self))
            self._push()
        except ReaderGoneError:
            pass
        finally:
            self._is_whole = True
            self._tell()

    def write(self, data: bytes) -> int:
        self._part += data
        self._written += len(data)
        if len(self._part) >= PART:
            self._push()
        return len(data)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        """Parts go when they are large enough."""

    def _push(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._parts) < WAITING or self._is_left)
            if self._is_left:
                raise ReaderGoneError
            self._parts.append(bytes(self._part))
        self._part.clear()
        self._tell()

    def _tell(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._came.set)

    # -- on the loop

    async def next_part(self) -> bytes | None:
        """None: there is no more."""
        while True:
            self._came.clear()
            is_whole = self._is_whole
            with self._changed:
                if self._parts:
                    self._changed.notify()
                    return self._parts.popleft()
            if is_whole:
                return None
            await self._came.wait()

    def leave(self) -> None:
        """Reads no more."""
        with self._changed:
            self._is_left = True
            self._changed.notify()
