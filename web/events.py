"""Batches as they go, for whoever listens (Server-Sent Events): many listeners cost hardly more than one.

Each batch that is listened to is looked at once a second, whoever listens; its counts are those that all share.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import orjson
from fastapi import HTTPException

from jobs.ledger import Ledger
from jobs.ledger.access.values import Token
from jobs.ledger.batches.values import Batch
from jobs.results.completion import is_over
from jobs.states import JobState
from web.figures import SharedFigures, counted_document

#: Listeners at once, of all tokens and of one.
MOST, MOST_OF_ONE = 200, 100
#: Seconds between two looks at a batch, between two signs of life where nothing changes (proxies end what is silent
#: for a minute), and between two looks whether the tokens of those who listen still hold.
EVERY, SIGN_EVERY, TOKENS_EVERY = 1.0, 15.0, 3.0
#: Threads that look.
THREADS = 2
BUSY = 503
SIGN = b": still here\n\n"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Seen:
    """A batch at one moment."""

    id: str  # of what is told: the same while nothing changes
    event: bytes
    is_over: bool  # nothing will change any more by itself


@dataclass(slots=True, eq=False)
class _Channel:
    """A batch that is listened to."""

    name: str
    listeners: int = 0
    seen: _Seen | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def tell(self) -> None:
        """Wakes all who listen."""
        self.changed.set()
        self.changed = asyncio.Event()


class BatchEvents:
    """Belongs to one event loop."""

    def __init__(self, ledger: Callable[[], Ledger], figures: SharedFigures) -> None:
        self._ledger, self._figures = ledger, figures
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="events")
        self._channels: dict[int, _Channel] = {}
        self._of_token: Counter[int] = Counter()
        self._revoked: frozenset[int] = frozenset()
        self._tokens: asyncio.Task[None] | None = None
        self._is_ended = False

    def listen(self, batch: Batch, token: Token, last_id: str) -> AsyncIterator[bytes]:
        """The batch's events from now on. `last_id`: of the last one that was heard: it is not told again.

        Raises:
            HTTPException: Too many listen already.
        """
        if self._of_token.total() >= MOST or self._of_token[token.id] >= MOST_OF_ONE:
            raise HTTPException(BUSY, "too many listen to events", headers={"Retry-After": "30"})
        return self._events(batch, token, last_id)

    async def has_ended(self, batch: Batch, last_id: str) -> bool:
        """Whether the batch is over, and this was its last event."""
        seen = await self._ask(self._look, batch.name)
        return seen is not None and seen.is_over and seen.id == last_id

    def end(self) -> None:
        """Ends what is listened to: the server is to stop."""
        self._is_ended = True
        for channel in self._channels.values():
            channel.tell()

    def close(self) -> None:
        """Looks at nothing any more; waits for the look that is under way, since the ledger is closed next."""
        self.end()
        self._threads.shutdown(cancel_futures=True)

    async def _events(self, batch: Batch, token: Token, last_id: str) -> AsyncIterator[bytes]:
        channel = self._channels.setdefault(batch.id, _Channel(batch.name))
        channel.listeners += 1
        self._of_token[token.id] += 1
        self._begin(channel)
        try:
            yield SIGN  # the headers go out with it
            while not (self._is_ended or token.id in self._revoked):
                changed = channel.changed
                seen = channel.seen
                if seen is not None and seen.id != last_id:
                    last_id = seen.id
                    yield seen.event
                    continue
                if seen is not None and seen.is_over:
                    return
                try:
                    await asyncio.wait_for(changed.wait(), SIGN_EVERY)
                except TimeoutError:
                    yield SIGN
        finally:
            channel.listeners -= 1
            self._of_token[token.id] -= 1
            if not channel.listeners:
                self._channels.pop(batch.id, None)

    def _begin(self, channel: _Channel) -> None:
        if channel.task is None or channel.task.done():
            channel.task = asyncio.create_task(self._watch(channel))
        if self._tokens is None or self._tokens.done():
            self._tokens = asyncio.create_task(self._watch_tokens())

    # -- looking -----------------------------------------------------------------------------------------------------

    async def _watch(self, channel: _Channel) -> None:
        while channel.listeners and not self._is_ended:
            seen = await self._ask(self._look, channel.name)
            if seen is not None and (channel.seen is None or channel.seen.id != seen.id):
                channel.seen = seen
                channel.tell()
            await asyncio.sleep(EVERY)

    async def _watch_tokens(self) -> None:
        while self._channels and not self._is_ended:
            await asyncio.sleep(TOKENS_EVERY)
            revoked = await self._ask(self._look_at_tokens)
            if revoked is not None and revoked != self._revoked:
                self._revoked = revoked
                for channel in self._channels.values():
                    channel.tell()

    async def _ask(self, look: Callable[..., _T | None], *about: object) -> _T | None:
        """What a thread sees; None while the ledger does not answer."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, look, *about)
        except Exception:  # noqa: BLE001  whatever the database does: probes tell of it, and the next look may see
            return None

    def _look(self, name: str) -> _Seen | None:
        batch = self._ledger().batches.find(name)
        figures = None if batch is None else self._figures.of(batch)
        if figures is None:
            return None
        document = counted_document(figures)
        told = orjson.dumps({key: value for key, value in document.items() if key != "counted_at"})
        digest = hashlib.sha256(told).hexdigest()[:16]
        event = b"event: progress\nid: %s\ndata: %s\n\n" % (digest.encode(), orjson.dumps(document))
        waiting = figures.progress.jobs.get(JobState.READY, 0)  # counted before it was cancelled, perhaps
        return _Seen(digest, event, is_over(figures.progress) and not waiting)

    def _look_at_tokens(self) -> frozenset[int]:
        return frozenset(token.id for token in self._ledger().access.all() if token.revoked_at is not None)
