"""Group commit: facts that arrive while one write runs go into the next, and a caller returns once its own are durable.

A group that fails is written again fact by fact, acceptances first, so one bad fact costs no other its record. While
writing fails, `healthy` is False (nothing new is submitted) and the facts lie in a rescue file as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.facts import (
    Fact,
    ImageChecked,
    ImageStored,
    PartDelivered,
    SubmitAccepted,
    SubmitRefused,
    SubmitUnclear,
    TaskStillRunning,
    TaskSucceeded,
)
from jobs.formatting import usd
from jobs.ledger import Ledger
from jobs.ledger.claims.values import Failing
from providers.types import MESSAGE_LIMIT, clean
from worker.recording.rescue_file import RescueFile
from worker.runtime.clock import Clock
from worker.runtime.executors import Executors
from worker.runtime.ledger_writes import LedgerWrites
from worker.runtime.telemetry import emit

#: Facts in one transaction: enough to share one fsync among many, few enough to let a claim in between.
MOST_IN_A_GROUP = 500
#: Seconds a write waits for company: sharing transactions is most of what facts cost. What a submit ended in waits
#: least, since a crash before it is durable makes it unknown; yet a submit itself, of half a second and more, is in
#: that danger for far longer. The others lose nothing by a crash but a poll or a copy.
SOON = 0.02
COMPANY = 0.04
#: Where `CROWD` calls wait even so, many come, and on PostgreSQL all wait `CROWDED` seconds more: a transaction has
#: twice as many facts then, which takes 13 % off the CPU of an image. Few come to an account that is bound by its
#: places; there a place is freed as soon as before. On SQLite it spares nothing: a process would only copy less.
CROWD, CROWDED = 8, 0.1
#: Seconds between tries while the ledger refuses; doubled each time.
FIRST_WAIT = 0.25
LONGEST_WAIT = 15.0
#: Tries after which a fact that fails while other writes succeed is left to the rescue file.
TRIES_OF_A_BAD_FACT = 3
#: Times that must be seen: where single commits fail by chance, a good fact looks bad once in a while.
CONVICTIONS = 3

_URGENT = (SubmitAccepted, SubmitRefused, SubmitUnclear, TaskSucceeded, PartDelivered)


@dataclass(slots=True, eq=False)
class _Entry:
    """Facts of one call, which become durable together."""

    facts: tuple[Fact, ...]
    durable: asyncio.Future[None]  # the caller's, who may cancel it
    settled: bool = False  # on record, or left to the rescue file
    tries: int = 0
    convicted: int = 0  # times it failed between two writes that worked
    rescued: bool = False


@dataclass(slots=True, eq=False)
class Recorder:
    """Writes facts for all stages of a process; belongs to one event loop."""

    ledger: Ledger
    executors: Executors
    clock: Clock
    rescue_file: RescueFile
    wake: Callable[[str], None]
    rng: random.Random
    writes: LedgerWrites
    crowded: float = 0.0  # seconds that a write waits longer where many come
    unsaved: int = 0  # facts that neither the ledger nor a rescue file took, when it was closed
    smooth: int = 0  # calls so far whose facts are what an image goes through when all goes well
    others: int = 0  # all other calls so far: they may change what is to be done about a batch
    _waiting: deque[_Entry] = field(default_factory=deque)
    _writer: asyncio.Task[None] | None = None
    _writing: list[_Entry] = field(default_factory=list)
    _urgent: asyncio.Event = field(default_factory=asyncio.Event)
    _set_aside: bool = False
    _has_trouble: bool = False

    @property
    def healthy(self) -> bool:
        """False while the ledger does not take what is recorded."""
        return not self._has_trouble

    async def record(self, *facts: Fact) -> None:
        """Returns once these facts are durable. Cancelling the caller does not take them back."""
        await self.put(*facts)

    def put(self, *facts: Fact) -> asyncio.Future[None]:
        """Hands facts over without waiting."""
        entry = _Entry(facts=facts, durable=asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        if all(map(_is_smooth, facts)):
            self.smooth += 1
        else:
            self.others += 1
        if any(isinstance(fact, _URGENT) for fact in facts) or len(self._waiting) >= MOST_IN_A_GROUP:
            self._urgent.set()
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_all())
        return entry.durable

    async def close(self, seconds: float) -> int:
        """Waits for what is still to be written; the rest goes to the rescue file. Returns how many facts that were.

        `unsaved` is how many of these no file has taken either.
        """
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=seconds)
        if self._writer is None or self._writer.done():
            return 0
        self._writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._writer
        left = [entry for entry in (*self._writing, *self._waiting) if not entry.settled]
        fresh = [fact for entry in left if not entry.rescued for fact in entry.facts]
        try:
            self.rescue_file.save(fresh)
        except OSError as full:
            self.unsaved = len(fresh)
            emit("rescue_failed", level="error", facts=len(fresh), problem=str(full))
        return sum(len(entry.facts) for entry in left)

    # -- writing ---------------------------------------------------------------------------------------------------

    async def _write_all(self) -> None:
        while self._waiting:
            await self._wait_for_company()
            group = self._writing = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_IN_A_GROUP))]
            try:
                await self._write(group)
            except Exception as bug:  # noqa: BLE001  a writer that dies would take every later fact with it
                emit("recorder_failed", level="error", problem=repr(bug))
                self._waiting.extendleft(reversed([entry for entry in group if not entry.settled]))
                await self.clock.sleep(FIRST_WAIT)
        self._writer = None

    async def _wait_for_company(self) -> None:
        if not self._urgent.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COMPANY):
                    await self._urgent.wait()
        await self.clock.sleep(SOON)
        if self.crowded and CROWD <= len(self._waiting) < MOST_IN_A_GROUP:
            await self.clock.sleep(self.crowded)
        self._urgent.clear()

    async def _write(self, group: list[_Entry]) -> None:
        try:
            await self._commit([fact for entry in group for fact in entry.facts])
        except Exception as trouble:  # noqa: BLE001  whatever the ledger raises, the facts must outlive it
            emit("group_not_recorded", level="warning", facts=len(group), problem=_short(trouble))
            await self._write_until_done(sorted(group, key=_acceptances_first))
        else:
            _settle(group)
            self._tidy()

    async def _commit(self, facts: Sequence[Fact]) -> None:
        recorded = await self.executors.write(self.ledger.facts.record, facts)
        for failing in recorded.stopped:
            emit("nothing_can_be_stored", level="warning", **_about(failing))
        for failing in recorded.mended:
            emit("images_are_stored_again", level="warning", **_about(failing))
        for lane in recorded.wakeups:
            self.wake(lane)

    async def _write_until_done(self, entries: list[_Entry]) -> None:
        wait = FIRST_WAIT
        while entries := [entry for entry in entries if not await self._written_alone(entry)]:
            await self._keep_safe(entries)
            # What is refused again and again while the ledger takes other writes is left to the rescue file.
            entries = [entry for entry in entries if not await self._is_bad(entry)]
            entries = [entry for entry in entries if not entry.settled]
            if not entries:
                break
            await self.clock.sleep(wait * self.rng.uniform(0.8, 1.2))
            wait = min(LONGEST_WAIT, wait * 2)
        self._has_trouble = self.writes.records_wait = False
        self.writes.worked()
        self._tidy()

    async def _written_alone(self, entry: _Entry) -> bool:
        """Writes one entry; its plain form, when it is refused as it is."""
        entry.tries += 1
        for facts in (entry.facts, tuple(_plain(fact) for fact in entry.facts)):
            try:
                await self._commit(facts)
            except Exception as trouble:  # noqa: BLE001  as in _write
                self._has_trouble = self.writes.records_wait = True
                self.writes.failed(trouble, self.clock.now())
            else:
                _settle([entry])
                return True
        return False

    async def _keep_safe(self, entries: list[_Entry]) -> None:
        fresh = [entry for entry in (*entries, *self._waiting) if not entry.rescued]
        try:
            await self.executors.blocking(self.rescue_file.save, [fact for entry in fresh for fact in entry.facts])
        except OSError as full:
            emit("rescue_failed", level="error", facts=sum(len(entry.facts) for entry in fresh), problem=str(full))
            return
        for entry in fresh:
            entry.rescued = True

    async def _is_bad(self, entry: _Entry) -> bool:
        if entry.tries < TRIES_OF_A_BAD_FACT or not entry.rescued:
            return False
        # Between two writes that work: a ledger that comes back just now must not make a good fact look bad.
        works = await self._ledger_takes_writes()
        if not works or await self._written_alone(entry) or not await self._ledger_takes_writes():
            return False
        entry.convicted += 1
        if entry.convicted < CONVICTIONS:
            return False
        self._set_aside = True
        _settle([entry])
        emit("fact_set_aside", level="error", facts=[type(f).__name__ for f in entry.facts], file=self.rescue_file.name)
        return True

    async def _ledger_takes_writes(self) -> bool:
        try:
            await self.executors.write(self.ledger.workers.touch, "recorder", self.clock.now())
        except Exception:  # noqa: BLE001  any failure is a no
            return False
        return True

    def _tidy(self) -> None:
        """Removes the rescue file once all it holds is durable in the ledger."""
        if self.rescue_file.name and not self._set_aside and not any(entry.rescued for entry in self._waiting):
            self.rescue_file.clear()


def _is_smooth(fact: Fact) -> bool:
    if isinstance(fact, TaskStillRunning):
        return fact.code is None
    return isinstance(fact, SubmitAccepted | TaskSucceeded | ImageChecked | ImageStored)


def _settle(entries: Sequence[_Entry]) -> None:
    for entry in entries:
        entry.settled = True
        if not entry.durable.done():  # its caller may have been cancelled
            entry.durable.set_result(None)


def _acceptances_first(entry: _Entry) -> bool:
    return not any(isinstance(fact, SubmitAccepted | TaskSucceeded | PartDelivered) for fact in entry.facts)


def _plain(fact: Fact) -> Fact:
    """The fact with its texts cleaned and the provider's raw words left out."""
    texts: dict[str, Any] = {
        f.name: "" if f.name == "raw" else clean(value, MESSAGE_LIMIT)
        for f in dataclasses.fields(fact)
        if isinstance(value := getattr(fact, f.name), str) and f.name != "kind"
    }
    return dataclasses.replace(fact, **texts)


def _about(failing: Failing) -> dict[str, object]:
    whose = {"account": failing.account, "provider_model": failing.provider_model, "dest": failing.dest}
    what = {"images": failing.images, "usd": usd(failing.money), "code": failing.code, "problem": failing.message}
    return {**{name: value for name, value in whose.items() if value}, **what}


def _short(trouble: Exception) -> str:
    return clean(f"{type(trouble).__name__}: {trouble}", 300)
