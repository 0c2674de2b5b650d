"""What the three APIs have in common: taking a submit, answering a poll, cancelling."""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from aiohttp import web

from sandbox.delivery.answers import give
from sandbox.delivery.cdn import Cdn
from sandbox.delivery.webhooks import Webhooks
from sandbox.images.pictures import CONTENT_TYPES
from sandbox.images.pixels import read_size
from sandbox.troubles.words import NONE, UNDELIVERED, Subject, Trouble
from sandbox.values import APIMASTER, MAXAPI_IO, TEXTS, Answer, Api, Links, Order, Refusal, Task, spoken
from sandbox.world import Submit, World, retry_after_of

#: Seconds a link lives where the scenario says nothing: 7 days are documented, but for APIMaster.
LINK_LIFE: Final = {APIMASTER: 86_400.0}
A_WEEK: Final = 604_800.0
OUTCOMES: Final = ("fail", "timeout", "cancelled")
#: How long a task takes where a word says so.
SPANS: Final[dict[str, Callable[[Trouble], float]]] = {
    "stuck": lambda _trouble: math.inf,
    "takes": lambda trouble: trouble.number(30),
}
GARBLED: Final = "no base64: {an error of ours}"
MOST_PIXELS: Final = 20_000_000
#: Troubles of a submit that come before it is accepted.
BEFORE: Final = frozenset({"reset", "refuse", "redirect"})
KINDS: Final = {
    400: "invalid",
    401: "key",
    402: "balance",
    403: "key",
    404: "model",
    408: "timeout",
    422: "invalid",
    429: "throttled",
}


class Service:
    """One provider's door."""

    def __init__(self, world: World, api: Api, cdn: Cdn, webhooks: Webhooks) -> None:
        self._world = world
        self._api = api
        self._cdn = cdn
        self._webhooks = webhooks
        self._provider = api.name

    # -- submit --------------------------------------------------------------------------------------------------

    async def submit(self, request: web.BaseRequest, place: str = "generations") -> web.StreamResponse:
        """Early trouble, key, checks, trouble, limits, balance; then it is accepted and answered."""
        counts = self._world.counts[self._provider]
        note = Submit(at=self._world.now(), provider=self._provider, key=key_of(request))
        counts.submits += 1
        self._world.submits.append(note)
        try:
            return await self._submit(request, place, note)
        except Refusal as refusal:
            counts.refused += 1
            counts.refused_429 += refusal.status == HTTPStatus.TOO_MANY_REQUESTS
            note.status = refusal.status
            return (await give(request, self._api.refused(refusal)))[0]

    async def _submit(self, request: web.BaseRequest, place: str, note: Submit) -> web.StreamResponse:
        world = self._world
        early = world.troubles.needs_no_body("submit", Subject(provider=note.provider, key=note.key), note.at)
        if early:
            return await self._turn_away(request, note, early)
        self.check_key(note.key)
        order = await self._api.read_order(request, place)
        note.model, note.prompt, note.n = order.model, order.prompt, order.n
        trouble = world.troubles.strike("submit", self._subject(note.key, order), world.now())
        note.trouble = trouble.kind if trouble and not trouble.status else str(trouble.status) if trouble else None
        if trouble and _is_before(trouble):
            return await self._turn_away(request, note, trouble)
        world.check_rate(self._provider, note.key, "submit")
        task = self._accept(note.key, order)
        note.task_id = task.id
        return await self._answer(request, task, note, trouble)

    async def _turn_away(self, request: web.BaseRequest, note: Submit, trouble: Trouble) -> web.StreamResponse:
        """Not accepted."""
        if trouble.status or trouble.kind == "refuse":
            raise self._refusal_of(trouble)
        self._world.counts[self._provider].refused += 1
        note.status = 302 if trouble.kind == "redirect" else 0
        return (await give(request, Answer(), trouble))[0]

    def _refusal_of(self, trouble: Trouble) -> Refusal:
        if trouble.status:
            kinds = {**KINDS, 404: "not_found"} if trouble.verb == "poll" else KINDS
            kind = kinds.get(
                trouble.status, "invalid" if trouble.status < HTTPStatus.INTERNAL_SERVER_ERROR else "server"
            )
            after = retry_after_of(trouble, self._world.now())
            return Refusal(kind, f"trouble on order: {trouble.status}", status=trouble.status, after=after)
        word = (trouble.arguments or ("invalid",))[0]
        text = spoken(word, TEXTS) or word
        return Refusal(word if word in ("moderation", "balance", "key", "model") else "invalid", f"refused: {text}")

    def check_key(self, key: str) -> None:
        """Raises the refusal of a key that is missing or revoked."""
        if not self._world.knows(key):
            raise Refusal("key", "invalid API key")

    def _accept(self, key: str, order: Order) -> Task:
        task = self._new_task(key, order)
        if not self._world.can_pay(self._provider, key, order):
            if self._provider != MAXAPI_IO or self._world.scenario.io_broke == "402":
                raise Refusal("balance", "insufficient balance")
            task.outcome, task.reason = "fail", "points"
        for trouble in self._world.troubles.all_that_strike("task", self._subject(key, order), task.created_at):
            _befall(task, trouble)
        self._world.accept(task)
        return task

    def _new_task(self, key: str, order: Order) -> Task:
        world, now = self._world, self._world.now()
        took = world.scenario.seconds_of_task(self._provider, order.model, world.chance)
        life = world.scenario.life_of_link(self._provider) or LINK_LIFE.get(self._provider, A_WEEK)
        return Task(
            id=self._api.new_id(order),
            provider=self._provider,
            key=key,
            order=order,
            created_at=now,
            ends_at=now + took,
            delivered=order.n,
            pixels=order.pixels,
            format=order.format,
            link_life=life,
            b64=order.b64,
        )

    async def _answer(
        self, request: web.BaseRequest, task: Task, note: Submit, trouble: Trouble | None
    ) -> web.StreamResponse:
        counts = self._world.counts[self._provider]
        try:
            await self._take_time(task)
            answer = await self._answer_of(request, task, trouble)
            note.status = answer.status
            response, task.answered = await give(request, answer, trouble)
        except ConnectionError:
            counts.unanswered += 1
            raise
        counts.unanswered += not task.answered
        return response

    async def _take_time(self, task: Task) -> None:
        world, limits = self._world, self._world.scenario.limits_of(self._provider, task.key)
        seconds = world.scenario.seconds_of_answer(self._provider, world.chance)
        seconds += limits.slower * world.purse(self._provider, task.key).in_flight
        await self._webhooks.send_early(task)
        if seconds:
            await asyncio.sleep(seconds)

    async def _answer_of(self, request: web.BaseRequest, task: Task, trouble: Trouble | None) -> Answer:
        if trouble and trouble.kind == "no-id":
            return Answer.of({"code": {MAXAPI_IO: 0}.get(self._provider, 200), "msg": "ok", "data": {}})
        if trouble and trouble.status:
            return self._api.refused(self._refusal_of(trouble))
        if task.order.waits or (trouble and trouble.kind == "sync"):
            task.b64 |= bool(trouble and trouble.has("b64"))
            return await self._wait_for(request, task)
        return Answer.of(self._api.accepted(task, base_of(request)))

    async def _wait_for(self, request: web.BaseRequest, task: Task) -> Answer:
        """The synchronous way: the answer has the images."""
        await asyncio.sleep(max(0.0, min(task.ends_at - self._world.now(), 3_600)))
        self._world.settle()
        links = await self.links_of(task, base_of(request))
        if links:
            return Answer.of(self._api.finished(task, links))
        kind = {"moderation": "moderation", "points": "balance", "invalid": "invalid"}.get(task.reason or "", "server")
        return self._api.refused(Refusal(kind, f"generation failed: {task.reason or task.outcome}"))

    # -- poll ----------------------------------------------------------------------------------------------------

    async def poll(self, request: web.BaseRequest, task_id: str, place: str | None = None) -> web.StreamResponse:
        """A task's state. `place`: an edit is asked about below edits."""
        world, counts, key = self._world, self._world.counts[self._provider], key_of(request)
        counts.polls += 1
        counts.tasks_polled += 1
        try:
            task = self._find(task_id, key, place)
            world.check_rate(self._provider, key, "poll")
            return await self._tell(request, task)
        except Refusal as refusal:
            counts.refused_429 += refusal.status == HTTPStatus.TOO_MANY_REQUESTS
            return (await give(request, self._api.refused(refusal)))[0]

    async def _tell(self, request: web.BaseRequest, task: Task) -> web.StreamResponse:
        subject = self._subject(task.key, task.order, task.id)
        links = await self.links_of(task, base_of(request))
        but = UNDELIVERED if links is None else NONE
        trouble = self._world.troubles.strike("poll", subject, self._world.now(), but=but)
        if trouble and trouble.status:
            raise self._refusal_of(trouble)
        answer = Answer.of(self._api.shown(task, self._world.now(), links))
        return (await give(request, answer, trouble))[0]

    def undelivered(self, task: Task, now: float) -> Trouble | None:
        """What a question about many tasks leaves out of a task that has ended well."""
        subject = self._subject(task.key, task.order, task.id)
        over = task.outcome == "success" and task.is_over(now)
        return self._world.troubles.strike("poll", subject, now, only=UNDELIVERED) if over else None

    async def links_of(self, task: Task, base: str) -> Links | None:
        """Where its images are; None unless it succeeded."""
        now = self._world.now()
        if task.outcome != "success" or not task.is_over(now):
            return None
        expires = task.ends_at + task.link_life
        if expires <= now and self._world.scenario.fresh_links:
            expires = now + task.link_life
        urls = tuple(self._cdn.link(task, index, base, expires) for index in range(task.delivered))
        if task.garbled:
            return Links(urls=urls, expires_at=expires, bytes_of=(GARBLED,) * task.delivered * task.b64)
        texts = [base64.b64encode(await self._cdn.image(task, index)) for index in range(task.delivered * task.b64)]
        return Links(urls=urls, expires_at=expires, bytes_of=tuple(text.decode() for text in texts))

    # -- cancel --------------------------------------------------------------------------------------------------

    async def cancel(self, request: web.BaseRequest, task_id: str) -> web.StreamResponse:
        """Ends a task that runs; pages contradict each other in which states, here in all."""
        world = self._world
        try:
            task = self._find_running(task_id, key_of(request))
        except Refusal as refusal:
            return (await give(request, self._api.refused(refusal)))[0]
        world.counts[self._provider].cancels += 1
        world.end_now(task, "cancelled")
        return (await give(request, Answer.of({"code": 0, "msg": "ok"})))[0]

    def _find(self, task_id: str, key: str, place: str | None = None) -> Task:
        self.check_key(key)
        task = self._world.task_of(task_id, self._provider, key)
        if place not in (None, task.order.place):
            raise Refusal("not_found", "task not found")
        return task

    def _find_running(self, task_id: str, key: str) -> Task:
        task = self._find(task_id, key)
        if task.is_over(self._world.now()):
            raise Refusal("invalid", "the task has ended and cannot be cancelled")
        return task

    def _subject(self, key: str, order: Order, about: str = "") -> Subject:
        return Subject(
            provider=self._provider, key=key, model=order.model, prompt=order.prompt, about=about or order.prompt
        )


def key_of(request: web.BaseRequest) -> str:
    """The bearer key; empty when there is none."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def base_of(request: web.BaseRequest) -> str:
    """The address the client knows us by."""
    return f"http://{request.host}"


def _is_before(trouble: Trouble) -> bool:
    return trouble.kind in BEFORE or (trouble.status > 0 and not trouble.has("accepted"))


def _befall(task: Task, trouble: Trouble) -> None:
    """What a word makes of a task."""
    word = (trouble.arguments or ("",))[0]
    if trouble.kind in OUTCOMES:
        task.outcome, task.reason = trouble.kind, word or None
    elif trouble.kind in SPANS:
        task.ends_at = task.created_at + SPANS[trouble.kind](trouble)
    elif trouble.kind in ("short", "none"):
        task.delivered = 0 if trouble.kind == "none" else max(0, task.order.n - round(trouble.number(1)))
    elif trouble.kind in ("wrong-pixels", "as"):
        _misshape(task, trouble.kind, word)
    elif trouble.kind == "usage":
        task.usage, task.times = ("", trouble.number(3)) if word == "over" else (word or "absent", 1.0)
    elif trouble.kind == "link":
        task.link_life = trouble.number(5)
    else:  # b64, lost
        task.garbled |= trouble.has("garbled")
        setattr(task, trouble.kind, True)


def _misshape(task: Task, kind: str, word: str) -> None:
    if kind == "as":
        task.format = word if word in CONTENT_TYPES else "jpeg"
        return
    size = read_size(word) or (640, 480)
    task.pixels = size if 0 < size[0] * size[1] <= MOST_PIXELS else (640, 480)
