"""MaxAPI.io's webhooks: one POST when a task ends; unsigned, not repeated. Only to this machine."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from sandbox.troubles.words import Subject, Trouble
from sandbox.values import Task
from sandbox.world import World

HERE: Final = frozenset({"127.0.0.1", "localhost", "::1"})
TIMEOUT: Final = aiohttp.ClientTimeout(total=10)  # seconds
AT_ONCE: Final = 32  # webhooks on their way


class Webhooks:
    """Sends them; `tell` gives the body's `data`, which needs links."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._running: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        self._early: set[str] = set()
        self._gate = asyncio.Semaphore(AT_ONCE)
        self.body_of: Any = None  # async (task) -> JSON; set by the server, which knows its address

    def ended(self, task: Task) -> None:
        """A task ended: its webhook goes out, if it has one."""
        if self._is_wanted(task) and task.id not in self._early:
            self._start(self._send_all(task))

    async def send_early(self, task: Task) -> None:
        """Before the submit is answered, where that is the trouble on order: the task is finished at once."""
        if not self._is_wanted(task) or "early" not in task.order.prompt:
            return
        if any(trouble.kind == "early" for trouble in self._troubles(task)):
            self._early.add(task.id)
            self._world.end_now(task)
            await self._post(task, {})

    async def close(self) -> None:
        """Ends what is on its way."""
        for running in self._running:
            running.cancel()
        if self._session is not None:
            await self._session.close()

    def _is_wanted(self, task: Task) -> bool:
        host = urlsplit(task.order.callback or "").hostname
        return self._world.scenario.webhooks and (host in HERE or host in self._world.scenario.webhook_hosts)

    def _troubles(self, task: Task) -> list[Trouble]:
        order = task.order
        subject = Subject(provider=task.provider, key=task.key, model=order.model, prompt=order.prompt, about=task.id)
        return list(self._world.troubles.all_that_strike("webhook", subject, self._world.now()))

    def _start(self, work: Any) -> None:
        running = asyncio.get_running_loop().create_task(work)
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def _send_all(self, task: Task) -> None:
        troubles = {trouble.kind: trouble for trouble in self._troubles(task)}
        if "never" in troubles:
            return
        if "late" in troubles:
            await asyncio.sleep(troubles["late"].number(5))
        if "forged" in troubles:
            await self._post(task, {"status": "FAILURE", "result": None, "failure_reason": "INVALID_PARAMETERS"})
        for _ in range(1 + ("twice" in troubles)):
            await self._post(task, {})

    async def _post(self, task: Task, changes: dict[str, Any]) -> None:
        body = await self.body_of(task)
        body["data"].update(changes)
        self._world.counts[task.provider].webhooks += 1
        self._session = self._session or aiohttp.ClientSession(timeout=TIMEOUT)
        try:
            async with (
                self._gate,
                self._session.post(task.order.callback or "", json=body, allow_redirects=False) as said,
            ):
                await said.read()
        except (aiohttp.ClientError, TimeoutError, UnicodeError):
            return  # a webhook is sent once, whatever becomes of it
