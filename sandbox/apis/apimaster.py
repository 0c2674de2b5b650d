"""APIMaster: OpenAI's path, a task's envelope of its own, `code` 200 is success (seed 003, vendor's docs)."""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Awaitable
from typing import Any, Final

import orjson
from aiohttp import web

from sandbox.apis.api import Api, ProviderService
from sandbox.apis.fields import Fields, read_body, shortened
from sandbox.delivery.answers import give
from sandbox.images import pixels
from sandbox.images.references import size_of_reference
from sandbox.values import Answer, Json, Links, Order, Refusal, Task, spoken

STANDARD: Final = "gpt-image-2"
OFFICIAL: Final = "gpt-image-2-official"
MODELS: Final = (STANDARD, OFFICIAL)
#: Micro-dollars an image: assumed, the real ones stand in an account's console only.
PRICES: Final = {"1k": 30_000, "2k": 50_000, "4k": 80_000}
OFFICIAL_FIELDS: Final = ("quality", "background", "moderation", "output_format", "output_compression", "mask_url")
MAX_REFERENCES: Final = 16
LETTERS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CODES: Final = {
    "invalid": "invalid_request",
    "key": "invalid_api_key",
    "balance": "insufficient_balance",
    "moderation": "content_policy_violation",
    "model": "model_not_found",
    "throttled": "rate_limit_exceeded",
    "not_found": "task_not_found",
    "server": "upstream_error",
    "timeout": "image_generation_timeout",
}
REASONS: Final = {
    "moderation": "content_policy_violation",
    "invalid": "invalid_request",
    "points": "insufficient_balance",
}
MESSAGES: Final = {"moderation": "the prompt was rejected by our content policy"}
OUTCOMES: Final = {"success": "completed", "fail": "failed", "timeout": "failed", "cancelled": "cancelled"}
#: Answers to a batch query that tell of no task.
BATCHES: Final = {
    "404": Answer.of({"error": {"message": "no such path", "code": "not_found"}}, 404),
    "garbage": Answer.of({"object": "list", "url": "/v1/tasks/batch"}),
}
BATCH_LIMIT: Final = 100  # tasks in one batch query; the real limit is not documented


class ApimasterApi(Api):
    """APIMaster's words."""

    name = "apimaster"
    link_life = 86_400.0  # 24 hours, as a lookalike's
    task_at = ("data",)
    images_at = ("result", "images")
    plays = frozenset({"sync", "b64"})

    def find(
        self, service: ProviderService, request: web.BaseRequest, parts: tuple[str, ...]
    ) -> Awaitable[web.StreamResponse] | None:
        """Below /v1: images, tasks, models."""
        match parts:
            case ("POST", "v1", "images", "generations"):
                return service.submit(request)
            case ("POST", "v1", "images", "generations", "async"):
                return service.submit(request, "async")
            case ("GET", "v1", "tasks", task_id):
                return service.poll(request, task_id)
            case ("POST", "v1", "tasks", "batch"):
                return self._poll_many(service, request)
            case ("GET", "v1", "models"):
                return self._models(service, request)
        return None

    def new_id(self, order: Order) -> str:  # noqa: ARG002  the same for all
        """`task_` and 26 letters."""
        return "task_01" + "".join(random.SystemRandom().choices(LETTERS, k=24))

    async def read_order(self, request: web.BaseRequest, place: str) -> Order:
        """`async` is the place vendors' clients speak of."""
        body = await read_body(request)
        model = body.text("model", required=True)
        if model not in MODELS:
            raise Refusal("model", f"model {model} not found or not enabled")
        official = model == OFFICIAL
        extras = OFFICIAL_FIELDS if official else ("official_fallback",)
        body.only("model", "prompt", "n", "size", "resolution", "image_urls", *extras)
        body.flag("official_fallback")
        _check_official(body)
        links = body.images("image_urls", least=0, most=MAX_REFERENCES, data=not official)
        resolution = body.one_of("resolution", pixels.RESOLUTIONS, "1k") or "1k"
        return Order(
            model=model,
            prompt=body.prompt(),
            n=body.integer("n", 1, 4 if official else 1, 1),
            pixels=_pixels(body, links, resolution),
            price=PRICES[resolution],
            echo={**body.values, **({"image_urls": shortened(links)} if links else {})},
            format=(body.text("output_format") if official else None) or "png",
            waits=self._world.scenario.apimaster_sync and place != "async",
        )

    def refused(self, refusal: Refusal) -> Answer:
        """`error` with `message` and `code`."""
        error = {"message": refusal.message, "code": CODES.get(refusal.kind, refusal.kind), "type": "apimaster_error"}
        return Answer.of({"error": error}, refusal.status, {"Retry-After": refusal.after} if refusal.after else None)

    def accepted(self, task: Task, base: str) -> Json:  # noqa: ARG002  no links in it
        """`data` is an array."""
        return {"code": 200, "data": [{"status": "submitted", "task_id": task.id}]}

    def finished(self, task: Task, links: Links) -> Json:
        """As vendors' notes say of the same path."""
        data = [{"b64_json": text} for text in links.bytes_of] if task.b64 else [{"url": url} for url in links.urls]
        return {"created": int(task.created_at), "data": data}

    def shown(self, task: Task, now: float, links: Links | None) -> Json:
        """The state of a task."""
        return {"code": 200, "data": self._data(task, now, links)}

    def _data(self, task: Task, now: float, links: Links | None) -> dict[str, Any]:
        """One task; a batch query answers with several."""
        data: dict[str, Any] = {
            "task_id": task.id,
            "status": _status(task, now),
            "progress": int(task.progress(now) * 100),
        }
        data["created"] = int(task.created_at)
        if links:
            data |= {"completed": int(task.ends_at), "result": {"images": self._images(task, links)}}
        if task.is_over(now) and task.outcome != "success":
            data["error"] = _error(task)
        return data

    def _images(self, task: Task, links: Links) -> list[dict[str, Any]]:
        if task.b64:
            return [{"b64_json": text} for text in links.bytes_of]
        told = self._world.scenario.life_of_link(self.name) is not None
        expiry = {"expires_at": math.floor(links.expires_at)} if told else {}
        return [{"url": [url], **expiry} for url in links.urls]

    # -- what only it has ----------------------------------------------------------------------------------------

    async def _poll_many(self, service: ProviderService, request: web.BaseRequest) -> web.StreamResponse:
        """The batch query. Its answer is not documented: here newest first, without those not known."""
        world, how, counts = self._world, self._world.scenario.apimaster_batch, self._world.counts[self.name]
        counts.polls += 1
        try:
            key = service.check_key(request)
            ids = _task_ids(await request.read())
            world.check_rate(self.name, key, "poll")
        except Refusal as refusal:
            return (await give(request, self.answer_to(refusal)))[0]
        if how in BATCHES:
            return (await give(request, BATCHES[how]))[0]
        tasks = [world.tasks[name] for name in self._in_order(ids) if name in world.tasks]
        counts.tasks_polled += len(ids)
        told = [
            await self._told(service, task, request) for task in tasks if (task.key, task.provider) == (key, self.name)
        ]
        return (await give(request, Answer.of({"code": 200, "data": told})))[0]

    def _in_order(self, ids: list[str]) -> list[str]:
        """Newest first, or as the scenario has it: in any order, or without a third of them."""
        how = self._world.scenario.apimaster_batch
        some = [name for name in reversed(ids) if how != "some" or zlib.crc32(name.encode()) % 3]
        return self._world.chance.sample(some, len(some)) if how == "shuffled" else some

    async def _told(self, service: ProviderService, task: Task, request: web.BaseRequest) -> dict[str, Any]:
        now = self._world.now()
        told = self._data(task, now, await service.links_of(task, f"http://{request.host}"))
        if trouble := service.undelivered(task, now):
            self.leave_out(told, trouble)
        return told

    async def _models(self, service: ProviderService, request: web.BaseRequest) -> web.StreamResponse:
        try:
            service.check_key(request)
        except Refusal as refusal:
            return (await give(request, self.answer_to(refusal)))[0]
        data = [{"id": name, "object": "model", "created": 1_776_000_000, "owned_by": "openai"} for name in MODELS]
        return (await give(request, Answer.of({"object": "list", "data": data})))[0]


def _task_ids(text: bytes) -> list[str]:
    try:
        ids = orjson.loads(text)["task_ids"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Refusal("invalid", "task_ids is required") from None
    if not isinstance(ids, list) or not 1 <= len(ids) <= BATCH_LIMIT or not all(isinstance(name, str) for name in ids):
        raise Refusal("invalid", f"task_ids must be an array of 1 to {BATCH_LIMIT} ids")
    return ids


def _status(task: Task, now: float) -> str:
    if task.is_over(now):
        return OUTCOMES[task.outcome]
    return "submitted" if task.progress(now) < 0.2 else "processing"  # noqa: PLR2004  part of its time


def _error(task: Task) -> dict[str, str]:
    reason = task.reason or ("timeout" if task.outcome == "timeout" else "")
    code = spoken(reason, REASONS) or "upstream_error"
    return {"code": code, "message": MESSAGES.get(reason, f"generation failed: {code}"), "type": "apimaster_error"}


def _check_official(body: Fields) -> None:
    body.one_of("quality", ("auto", "low", "medium", "high"))
    body.one_of("background", ("auto", "opaque", "transparent"))
    body.one_of("moderation", ("auto", "low"))
    body.one_of("output_format", ("png", "jpeg", "webp"))
    body.integer("output_compression", 0, 100, 100)
    if body.text("mask_url") and not body.has("image_urls"):
        raise body.wrong("mask_url", "mask_url needs image_urls")


def _pixels(body: Fields, links: list[str], resolution: str) -> pixels.Pixels:
    size = body.text("size")
    given = pixels.read_size(size or "")
    if given:
        problem = pixels.openai_problem(given)
        if problem:
            raise body.wrong("size", f"invalid size {size}: {problem}")
        return given
    if size not in (None, "auto", *pixels.APIMASTER):
        raise body.wrong("size", f"invalid size {size}: auto, a ratio or pixels")
    follows = size in (None, "auto") and bool(links)
    nearest = pixels.nearest_ratio(size_of_reference(links[0]), pixels.APIMASTER) if follows else "1:1"
    ratio = size if size in pixels.APIMASTER else nearest
    return pixels.APIMASTER[ratio or "1:1"][pixels.RESOLUTIONS.index(resolution)]
