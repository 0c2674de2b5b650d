"""Sends what stands in the outbox over the channels of this process, and records what became of it.

One message at a time for each channel, and all channels side by side: a receiver that hangs holds up its own messages
and nothing else. Of several processes one sends a message; one that dies over it leaves it to the others for the next
minute, and then it may come twice, with the same webhook-id.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from jobs.ledger import Ledger
from jobs.ledger.accounts.outbox_values import Delivery
from jobs.policy.deliveries import next_try
from jobs.results.messages import Hearer
from worker.http.client import Http
from worker.notifications.channels import Channel
from worker.notifications.sending import Outcome, People, send_to_program
from worker.runtime.clock import Clock
from worker.runtime.executors import Executors
from worker.runtime.telemetry import emit

#: Seconds between two looks into the outbox where nothing has woken this process, and two clearings of it.
LOOK_EVERY, CLEAR_EVERY = 5.0, 3_600.0
CUT_OFF = "the process ended before it was answered"


@dataclass(slots=True, eq=False, kw_only=True)
class Sender:
    """The channels of a process, and what is on its way to them. Belongs to one event loop."""

    channels: Sequence[Channel]
    ledger: Ledger
    executors: Executors
    http: Http
    clock: Clock
    rng: random.Random
    _people: People = field(default_factory=People)
    _on_its_way: dict[str, asyncio.Task[None]] = field(default_factory=dict)  # by channel
    _cut_off: list[Delivery] = field(default_factory=list)
    _wakeup: asyncio.Event = field(default_factory=asyncio.Event)
    _cleared_at: float = 0.0

    @property
    def hearers(self) -> list[Hearer]:
        """Whom messages are written for."""
        return [channel.hearer for channel in self.channels]

    def wake(self) -> None:
        """There may be something to send."""
        self._wakeup.set()

    async def send_for_ever(self) -> None:
        """Sends what is due, again and again, until it is cancelled. What is on its way then goes on."""
        if not self.channels:
            return
        while True:
            self._wakeup.clear()
            wait = LOOK_EVERY
            try:
                wait = await self._start_due()
                await self._clear()
            except Exception as trouble:  # noqa: BLE001  of a ledger that is away the lanes tell
                emit("messages_wait", level="debug", problem=repr(trouble)[:300])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wakeup.wait()

    async def finish(self, seconds: float) -> None:
        """Sends what is due now, for `seconds` at most. The rest is sent by the next process that works here."""
        if not self.channels:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._start_due()
                while self._on_its_way:
                    await asyncio.wait(self._on_its_way.values())
                    await self._start_due()

    async def close(self) -> None:
        """Ends what is on its way: it is due again at once, for whoever comes next."""
        tasks, now = list(self._on_its_way.values()), self.clock.now()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for delivery in self._cut_off:
            with contextlib.suppress(Exception):  # a ledger that is away: it is due in a minute
                await self.executors.write(self.ledger.outbox.failed, delivery, CUT_OFF, now, now)
        self._cut_off.clear()

    async def _start_due(self) -> float:
        """Starts what is due on each channel that has nothing on its way; seconds until there may be more."""
        idle = [one.name for one in self.channels if one.name not in self._on_its_way]
        idle = [name for name in idle if not self._people.is_busy(name)]
        due = await self.executors.read(self.ledger.outbox.next_due, idle) if idle else None
        now = self.clock.now()
        if due is None or due > now:
            return LOOK_EVERY if due is None else min(LOOK_EVERY, due - now)
        for delivery in await self.executors.write(self.ledger.outbox.take, idle, now):
            task = asyncio.get_running_loop().create_task(self._deliver(delivery))
            self._on_its_way[delivery.channel] = task
            task.add_done_callback(functools.partial(self._is_back, delivery.channel))
        return LOOK_EVERY

    def _is_back(self, channel: str, _task: asyncio.Task[None]) -> None:
        self._on_its_way.pop(channel, None)
        self._wakeup.set()

    async def _deliver(self, delivery: Delivery) -> None:
        (channel,) = (one for one in self.channels if one.name == delivery.channel)
        try:
            outcome = await self._send(channel, delivery)
        except asyncio.CancelledError:
            self._cut_off.append(delivery)
            raise
        try:
            await self._record(delivery, outcome)
        except Exception as trouble:  # noqa: BLE001  a ledger that is away: it is sent again, with the same id
            emit("messages_wait", level="debug", problem=repr(trouble)[:300])

    async def _send(self, channel: Channel, delivery: Delivery) -> Outcome:
        if channel.secret is None:
            return await self._people.send(channel, delivery.payload)
        return await send_to_program(self.http, channel, delivery.webhook_id, delivery.payload, self.clock.now())

    async def _record(self, delivery: Delivery, outcome: Outcome) -> None:
        now, told = self.clock.now(), {"channel": delivery.channel, "type": delivery.type, "tries": delivery.tries}
        if outcome.problem is None:
            await self.executors.write(self.ledger.outbox.sent, delivery, now)
            emit("message_sent", level="debug", **told)
            return
        again = None if outcome.final else next_try(delivery.tries, now, self.rng.random())
        await self.executors.write(self.ledger.outbox.failed, delivery, outcome.problem, again, now)
        if again is None:
            emit("message_given_up", level="error", **told, problem=outcome.problem)
        else:
            emit("message_not_sent", level="warning", **told, problem=outcome.problem)

    async def _clear(self) -> None:
        now = self.clock.now()
        if now - self._cleared_at >= CLEAR_EVERY:
            self._cleared_at = now
            await self.executors.write(self.ledger.outbox.clear, now)
