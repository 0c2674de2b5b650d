"""What all APIs have in common: taking a submit, answering a poll, cancelling."""

from __future__ import annotations

import asyncio
import base64
import math
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from sandbox.apis.api import SPECIAL, Api
from sandbox.delivery.answers import give
from sandbox.delivery.cdn import Cdn
from sandbox.delivery.webhooks import Webhooks
from sandbox.images.pictures import CONTENT_TYPES
from sandbox.images.pixels import read_size
from sandbox.troubles.words import NONE, UNDELIVERED, Subject, Trouble, in_prompt
from sandbox.values import TEXTS, Answer, Json, Links, Order, Refusal, Task, spoken
from sandbox.world import Submit, World, retry_after_of

OUTCOMES: Final = ("fail", "timeout", "cancelled")
#: How long a task takes where a word says so.
SPANS: Final[dict[str, Callable[[Trouble], float]]] = {
    "stuck": lambda _trouble: math.inf,
    "takes": lambda trouble: trouble.number(30),
}
GARBLED: Final = "no base64: {an error of ours}"
MOST_PIXELS: Final = 20_000_000
#: Troubles of a poll that change what its answer says.
ALTERED: Final = frozenset({"status", *UNDELIVERED})
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
        self._beyond = SPECIAL - api.plays  # words that it cannot play: a rule for all providers leaves it out

    def find(self, request: web.BaseRequest, parts: tuple[str, ...]) -> Awaitable[web.StreamResponse] | None:
        """Answers a request; None: this provider has no such path."""
        return self._api.find(self, request, parts)

    async def webhook(self, task: Task, base: str) -> Json:
        """The body of a task's webhook."""
        return self._api.webhook(task, self._world.now(), await self.links_of(task, base))

    # -- submit --------------------------------------------------------------------------------------------------

    async def submit(self, request: web.BaseRequest, place: str = "generations") -> web.StreamResponse:
        """Early trouble, key, checks, trouble, limits, balance; then it is accepted and answered."""
        counts = self._world.counts[self._provider]
        note = Submit(at=self._world.now(), provider=self._provider, key=key_of(request, self._api.key_header))
        counts.submits += 1
        self._world.submits.append(note)
        try:
            return await self._submit(request, place, note)
        except Refusal as refusal:
            said = self._api.answer_to(refusal)
            counts.refused += 1
            counts.refused_429 += refusal.status == HTTPStatus.TOO_MANY_REQUESTS
            note.status = refusal.status
            return (await give(request, said))[0]

    async def _submit(self, request: web.BaseRequest, place: str, note: Submit) -> web.StreamResponse:
        world = self._world
        early = world.troubles.needs_no_body("submit", Subject(provider=note.provider, key=note.key), note.at)
        if early:
            return await self._turn_away(request, note, early)
        self.check_key(request)
        order = await self._api.read_order(request, place)
        note.model, note.prompt, note.n = order.model, order.prompt, order.n
        for word in in_prompt(order.prompt):
            if problem := self._api.cannot_play(word):
                raise Refusal("invalid", problem)
        subject = self._subject(note.key, order)
        trouble = world.troubles.strike("submit", subject, world.now(), but=self._beyond)
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

    def check_key(self, request: web.BaseRequest) -> str:
        """The request's key. Raises the refusal of a key that is missing or revoked."""
        key = key_of(request, self._api.key_header)
        if not self._world.knows(key):
            raise Refusal("key", "invalid API key")
        return key

    def _accept(self, key: str, order: Order) -> Task:
        task = self._new_task(key, order)
        if not self._world.can_pay(self._provider, key, order):
            if not self._api.fails_without_balance():
                raise Refusal("balance", "insufficient balance")
            task.outcome, task.reason = "fail", "points"
        subject = self._subject(key, order)
        for trouble in self._world.troubles.all_that_strike("task", subject, task.created_at, but=self._beyond):
            _befall(task, trouble)
        self._world.accept(task)
        return task

    def _new_task(self, key: str, order: Order) -> Task:
        world, now = self._world, self._world.now()
        took = world.scenario.seconds_of_task(self._provider, order.model, world.chance)
        life = world.scenario.life_of_link(self._provider) or self._api.link_life
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
            return Answer.of(_without(self._api.accepted(task, base_of(request)), task.id), self._api.accepted_status)
        if trouble and trouble.status:
            return self._api.answer_to(self._refusal_of(trouble))
        if task.order.waits or (trouble and trouble.kind == "sync"):
            task.b64 |= bool(trouble and trouble.has("b64"))
            return await self._wait_for(request, task)
        return Answer.of(self._api.accepted(task, base_of(request)), self._api.accepted_status)

    async def _wait_for(self, request: web.BaseRequest, task: Task) -> Answer:
        """The synchronous way: the answer has the images."""
        await asyncio.sleep(max(0.0, min(task.ends_at - self._world.now(), 3_600)))
        self._world.settle()
        links = await self.links_of(task, base_of(request))
        if links:
            return Answer.of(self._api.finished(task, links))
        kind = {"moderation": "moderation", "points": "balance", "invalid": "invalid"}.get(task.reason or "", "server")
        return self._api.answer_to(Refusal(kind, f"generation failed: {task.reason or task.outcome}"))

    # -- poll ----------------------------------------------------------------------------------------------------

    async def poll(self, request: web.BaseRequest, task_id: str, place: str | None = None) -> web.StreamResponse:
        """A task's state. `place`: an edit is asked about below edits."""
        counts = self._world.counts[self._provider]
        counts.polls += 1
        counts.tasks_polled += 1
        try:
            task = self._find(request, task_id, place)
            self._world.check_rate(self._provider, task.key, "poll")
            return await self._tell(request, task)
        except Refusal as refusal:
            counts.refused_429 += refusal.status == HTTPStatus.TOO_MANY_REQUESTS
            return (await give(request, self._api.answer_to(refusal)))[0]

    async def _tell(self, request: web.BaseRequest, task: Task) -> web.StreamResponse:
        subject = self._subject(task.key, task.order, task.id)
        links = await self.links_of(task, base_of(request))
        but = UNDELIVERED if links is None else NONE
        trouble = self._world.troubles.strike("poll", subject, self._world.now(), but=but)
        if trouble and trouble.status:
            raise self._refusal_of(trouble)
        shown = self._api.shown(task, self._world.now(), links)
        if trouble and trouble.kind in ALTERED:
            shown = self._api.altered(shown, trouble)
        return (await give(request, Answer.of(shown), trouble))[0]

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
            task = self._find_running(request, task_id)
        except Refusal as refusal:
            return (await give(request, self._api.answer_to(refusal)))[0]
        world.counts[self._provider].cancels += 1
        world.end_now(task, "cancelled")
        return (await give(request, Answer.of({"code": 0, "msg": "ok"})))[0]

    def _find(self, request: web.BaseRequest, task_id: str, place: str | None = None) -> Task:
        task = self._world.task_of(task_id, self._provider, self.check_key(request))
        if place not in (None, task.order.place):
            raise Refusal("not_found", "task not found")
        return task

    def _find_running(self, request: web.BaseRequest, task_id: str) -> Task:
        task = self._find(request, task_id)
        if task.is_over(self._world.now()):
            raise Refusal("invalid", "the task has ended and cannot be cancelled")
        return task

    def _subject(self, key: str, order: Order, about: str = "") -> Subject:
        return Subject(
            provider=self._provider, key=key, model=order.model, prompt=order.prompt, about=about or order.prompt
        )


def key_of(request: web.BaseRequest, header: str) -> str:
    """The key in this header, in `Authorization` after "Bearer"; empty when there is none."""
    if header != "Authorization":
        return request.headers.get(header, "").strip()
    scheme, _, key = request.headers.get(header, "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def base_of(request: web.BaseRequest) -> str:
    """The address the client knows us by."""
    return f"http://{request.host}"


def _without(answer: Any, task_id: str) -> Any:
    """The same answer, without each field that names the task."""
    if isinstance(answer, dict):
        kept = {name: value for name, value in answer.items() if not (isinstance(value, str) and task_id in value)}
        return {name: _without(value, task_id) for name, value in kept.items()}
    return [_without(item, task_id) for item in answer] if isinstance(answer, list) else answer


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
    elif trouble.kind == "blank":
        task.blank = word if re.fullmatch("#[0-9a-fA-F]{6}", word) else "#000000"
    elif trouble.kind == "like":
        task.like = " ".join(trouble.arguments) or "A picture"
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
