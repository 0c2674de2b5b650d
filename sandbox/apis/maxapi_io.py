"""MaxAPI.io: one submit for all models, `code` 0 is success (seeds 000, 001, 004, docs.maxapi.io)."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web

from sandbox.apis.api import Api, ProviderService
from sandbox.apis.fields import Fields, read_body, shortened
from sandbox.images import pixels
from sandbox.images.references import size_of_reference
from sandbox.values import Answer, Json, Links, Order, Refusal, Task, spoken

TEXT_TO_IMAGE: Final = "gpt-image-2/text-to-image"
IMAGE_TO_IMAGE: Final = "gpt-image-2/image-to-image"
LITE: Final = "grok-imagine/text-to-image-lite"
PRICES: Final = {"1k": 20_000, "2k": 40_000, "4k": 60_000}  # micro-dollars an image
GROK_PRICES: Final = {
    LITE: 1_000,
    "grok-imagine/text-to-image-standard": 1_200,
    "grok-imagine/text-to-image-pro": 1_500,
}
MODELS: Final = (TEXT_TO_IMAGE, IMAGE_TO_IMAGE, *GROK_PRICES)
REASONS: Final = {"moderation": "CONTENT_MODERATION", "invalid": "INVALID_PARAMETERS", "points": "INSUFFICIENT_POINTS"}
OUTCOMES: Final = {"success": "SUCCESS", "fail": "FAILURE", "timeout": "TIMEOUT", "cancelled": "CANCELLED"}
WORDS_OF_PROGRESS: Final = ((0.2, "PENDING"), (0.5, "PROCESSING"))


class IoApi(Api):
    """MaxAPI.io's words."""

    name = "maxapi.io"
    link_life = 604_800.0  # 7 days
    task_at = ("data",)
    images_at = ("result", "urls")
    plays = frozenset({"webhook"})

    def find(
        self, service: ProviderService, request: web.BaseRequest, parts: tuple[str, ...]
    ) -> Awaitable[web.StreamResponse] | None:
        """Below /api/v1/task."""
        match parts:
            case ("POST", "api", "v1", "task", "submit"):
                return service.submit(request)
            case ("GET", "api", "v1", "task", task_id):
                return service.poll(request, task_id)
            case ("POST", "api", "v1", "task", task_id, "cancel"):
                return service.cancel(request, task_id)
        return None

    def new_id(self, order: Order) -> str:  # noqa: ARG002  the same for all
        """A UUID."""
        return str(uuid.uuid4())

    async def read_order(self, request: web.BaseRequest, place: str) -> Order:  # noqa: ARG002  there is one
        """Checks the outer object, then `input` by the model."""
        body = await read_body(request)
        body.only("model", "callBackUrl", "user_id", "input")
        model = body.text("model", required=True)
        if model not in MODELS:
            raise body.wrong("model", f"unsupported model: {model}")
        body.text("user_id")
        fields = body.inner("input")
        order = _gpt if model in (TEXT_TO_IMAGE, IMAGE_TO_IMAGE) else _lite if model == LITE else _grok
        return order(model, fields, _callback(body))

    def refused(self, refusal: Refusal) -> Answer:
        """`code` and `msg`; moderation carries `data` too."""
        status = refusal.status
        words = "unauthorized" if refusal.kind == "key" else refusal.message
        body: dict[str, Any] = {"code": status, "msg": words}
        if refusal.kind == "moderation":
            categories = {"sexual": False, "violence": True, "harassment": False, "self-harm": False}
            body |= {"msg": "content rejected by moderation", "data": {"flagged": True, "categories": categories}}
        http = 200 if self._world.scenario.io_errors == "200" else status
        return Answer.of(body, http, {"Retry-After": refusal.after} if refusal.after else None)

    def accepted(self, task: Task, base: str) -> Json:  # noqa: ARG002  no links in it
        """The task's id, and nothing else."""
        return {"code": 0, "msg": "ok", "data": {"taskId": task.id}}

    def shown(self, task: Task, now: float, links: Links | None) -> Json:
        """The state of a task."""
        return {"code": 0, "msg": "ok", "data": self._data(task, now, links)}

    def webhook(self, task: Task, now: float, links: Links | None) -> Json:
        """As a poll, without `msg`."""
        return {"code": 0, "data": self._data(task, now, links)}

    def fails_without_balance(self) -> bool:
        """The page has INSUFFICIENT_POINTS among the reasons of a failed task, and 402 among the errors of a submit."""
        return self._world.scenario.io_broke == "points"

    def _data(self, task: Task, now: float, links: Links | None) -> dict[str, Any]:
        """What a poll and a webhook tell of a task."""
        failed = task.is_over(now) and task.outcome == "fail"
        result = {"type": "image", "urls": list(links.urls)} if links else None
        return {
            "taskId": task.id,
            "status": _status(task, now),
            "input": {"model": task.order.model, **task.order.echo},
            "result": result,
            "failure_reason": spoken(task.reason, REASONS) if failed else None,
            "created_at": _iso(task.created_at),
            "updated_at": _iso(min(now, task.ends_at)),
        }


def _status(task: Task, now: float) -> str:
    if task.is_over(now):
        return OUTCOMES[task.outcome]
    return next((word for until, word in WORDS_OF_PROGRESS if task.progress(now) < until), "SUBMITTED")


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _callback(body: Fields) -> str | None:
    """The real one refuses localhost; here nothing else may be called, so that no test ever calls a stranger."""
    url = body.text("callBackUrl")
    if url is not None and urlsplit(url).scheme not in ("http", "https"):
        raise body.wrong("callBackUrl", "callBackUrl must be an http(s) URL")
    return url


def _gpt(model: str, fields: Fields, callback: str | None) -> Order:
    edits = model == IMAGE_TO_IMAGE
    fields.only("prompt", "ratio", "resolution", "n", *(("imageUrls",) if edits else ()))
    links = fields.images("imageUrls", least=1, most=16, data=False) if edits else []
    ratio = fields.one_of("ratio", pixels.IO)
    resolution = fields.one_of("resolution", pixels.RESOLUTIONS, "1k") or "1k"
    shown = ratio or (pixels.nearest_ratio(size_of_reference(links[0]), pixels.IO) if links else "1:1")
    sizes = pixels.IO[shown]
    place = pixels.RESOLUTIONS.index(resolution)
    if place >= len(sizes) or (place == 2 and not ratio):  # noqa: PLR2004  4k
        wide = [name for name, found in pixels.IO.items() if len(found) > 2]  # noqa: PLR2004  has 4k
        raise fields.wrong("ratio", f"with resolution 4k, ratio must be one of {' / '.join(wide)}")
    return Order(
        model=model,
        prompt=fields.prompt(),
        n=fields.integer("n", 1, 10, 1),
        pixels=sizes[place],
        price=PRICES[resolution],
        echo=_echo(fields, links),
        callback=callback,
    )


def _lite(model: str, fields: Fields, callback: str | None) -> Order:
    for name in ("ratio", "resolution"):
        if fields.has(name):
            raise fields.wrong(name, f"{model} does not accept {name}; describe the orientation in the prompt")
    fields.only("prompt", "n", "ratio", "resolution")
    prompt = fields.prompt()
    return _grok_order(model, fields, callback, n=fields.integer("n", 1, 4, 1), size=pixels.of_words(prompt))


def _grok(model: str, fields: Fields, callback: str | None) -> Order:
    fields.only("prompt", "n", "ratio", "resolution")
    ratio = fields.one_of("ratio", pixels.GROK, "1:1") or "1:1"
    resolution = fields.one_of("resolution", ("720p", "1080p"), "720p") or "720p"
    size = pixels.GROK[ratio][resolution]
    return _grok_order(model, fields, callback, n=fields.integer("n", 1, 10, 1), size=size)


def _grok_order(model: str, fields: Fields, callback: str | None, *, n: int, size: pixels.Pixels) -> Order:
    return Order(
        model=model,
        prompt=fields.prompt(),
        n=n,
        pixels=size,
        price=GROK_PRICES[model],
        echo=_echo(fields, []),
        format="jpeg",
        callback=callback,
    )


def _echo(fields: Fields, links: list[str]) -> dict[str, Any]:
    return {**fields.values, **({"imageUrls": shortened(links)} if links else {})}
