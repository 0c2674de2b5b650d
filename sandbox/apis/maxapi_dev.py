"""MaxAPI.dev: OpenAI's images API, with `async` (seed 002; OpenAI's contract where it says the same)."""

from __future__ import annotations

import math
import uuid
from collections.abc import Awaitable
from typing import Any, Final

from aiohttp import web

from sandbox.apis.api import Api, ProviderService
from sandbox.apis.fields import Fields, picture_size, read_body
from sandbox.images import pixels
from sandbox.values import Answer, Json, Links, Order, Refusal, Task, spoken

MODEL: Final = "openai/gpt-image-2-beta"
#: Micro-dollars an image. `mix` is documented, `official` is not; `official-cheap` is billed by tokens.
PRICES: Final = {"mix": 12_000, "official-cheap": 0, "official": 40_000}
#: Steps of the longer side by quality, and tokens of a reference, as OpenAI counts them.
STEPS: Final = {"low": 16, "medium": 48, "high": 96}
REFERENCE: Final = 1_024
FIELDS: Final = (
    "model", "prompt", "size", "quality", "n", "async", "route_mode", "asset_delivery", "background", "moderation",
    "output_format", "output_compression", "response_format", "user",
)  # fmt: skip
MAX_FILE: Final = 50_000_000  # bytes
MAX_FILES: Final = 16
CODES: Final = {
    "key": ("invalid_request_error", "invalid_api_key"),
    "balance": ("insufficient_quota", "insufficient_quota"),
    "moderation": ("image_generation_user_error", "moderation_blocked"),
    "model": ("invalid_request_error", "model_not_found"),
    "throttled": ("rate_limit_error", "rate_limit_exceeded"),
    "not_found": ("invalid_request_error", "task_not_found"),
    "server": ("server_error", "server_error"),
}
REASONS: Final = {"moderation": "moderation_blocked", "invalid": "invalid_parameters", "points": "insufficient_quota"}
MESSAGES: Final = {"moderation": "Your request was rejected by the safety system."}
OUTCOMES: Final = {"success": "succeeded", "fail": "failed", "timeout": "failed", "cancelled": "canceled"}


class DevApi(Api):
    """MaxAPI.dev's words."""

    name = "maxapi.dev"
    link_life = 604_800.0  # 7 days
    images_at = ("data",)
    plays = frozenset({"sync", "b64", "usage"})

    def find(
        self, service: ProviderService, request: web.BaseRequest, parts: tuple[str, ...]
    ) -> Awaitable[web.StreamResponse] | None:
        """Below /v1/images; an edit is asked about below edits."""
        match parts:
            case ("POST", "v1", "images", ("generations" | "edits") as place):
                return service.submit(request, place)
            case ("GET", "v1", "images", ("generations" | "edits") as place, task_id):
                return service.poll(request, task_id, place)
        return None

    def new_id(self, order: Order) -> str:
        """Its look is not documented."""
        return f"{'imgedit' if order.place == 'edits' else 'imggen'}_{uuid.uuid4().hex}"

    async def read_order(self, request: web.BaseRequest, place: str) -> Order:
        """JSON for generations, a multipart form for edits."""
        if place == "edits":
            return await _read_edit(request)
        body = await read_body(request)
        body.only(*FIELDS)
        return _order(body, place, "1024x1024", {})

    def refused(self, refusal: Refusal) -> Answer:
        """OpenAI's error object."""
        kind, code = CODES.get(refusal.kind, ("invalid_request_error", "invalid_value" if refusal.param else None))
        error = {"message": refusal.message, "type": kind, "param": refusal.param, "code": code}
        return Answer.of({"error": error}, refusal.status, {"Retry-After": refusal.after} if refusal.after else None)

    def accepted(self, task: Task, base: str) -> Json:
        """The task's id and where to ask; the exact shape is not documented."""
        url = f"{base}/{self.name}/v1/images/{task.order.place}/{task.id}"
        return {"id": task.id, "task_id": task.id, "status": "queued", "created": int(task.created_at), "poll_url": url}

    def finished(self, task: Task, links: Links) -> Json:
        """OpenAI's own answer."""
        return {"created": int(task.created_at), "data": _data(task, links), **_usage(task)}

    def shown(self, task: Task, now: float, links: Links | None) -> Json:
        """The state of a task."""
        body: dict[str, Any] = {
            "id": task.id,
            "task_id": task.id,
            "object": "image.generation",
            "model": task.order.model,
        }
        body |= {"status": _status(task, now), "created": int(task.created_at)}
        if links:
            return {**body, **self.finished(task, links)}
        if task.is_over(now) and task.outcome in ("fail", "timeout"):
            body["error"] = _error(task)
        return body


def _status(task: Task, now: float) -> str:
    if task.is_over(now):
        return OUTCOMES[task.outcome]
    return "queued" if task.progress(now) < 0.3 else "in_progress"  # noqa: PLR2004  part of its time


def _error(task: Task) -> dict[str, Any]:
    reason = task.reason or ("timeout" if task.outcome == "timeout" else "")
    code = spoken(reason, REASONS) or "generation_failed"
    return {"code": code, "message": MESSAGES.get(reason, f"generation failed: {code}")}


def _usage(task: Task) -> dict[str, Any]:
    """What it used, for all its images together; in `mix` nothing is billed by it."""
    if task.usage == "absent":
        return {}
    if task.usage == "garbage":
        return {"usage": {"input_tokens": "twelve", "output_tokens": None, "total_tokens": -1}}
    many = 0.0 if task.usage == "zero" else task.delivered * task.times
    text, image, output = (round(many * each) for each in task.order.tokens or (12, 0, 1_056))
    details = {"text_tokens": text, "image_tokens": image}
    used = {"input_tokens": text + image, "input_tokens_details": details, "output_tokens": output}
    return {"usage": {**used, "total_tokens": text + image + output}}


def _tokens(prompt: str, size: pixels.Pixels, quality: str | None, references: int) -> tuple[int, int, int]:
    """What one image uses: OpenAI's arithmetic for gpt-image-2. Where no quality is asked for it takes `medium`."""
    long, short = max(size), min(size)
    steps = STEPS.get(quality or "", STEPS["medium"])
    across = math.floor(steps * short / long + 0.5)
    output = math.ceil(steps * across * (2_000_000 + long * short) / 4_000_000)
    return max(1, len(prompt) // 4), references * REFERENCE, output


def _data(task: Task, links: Links) -> list[dict[str, str]]:
    if task.b64:
        return [{"b64_json": text} for text in links.bytes_of]
    return [{"url": url} for url in links.urls]


async def _read_edit(request: web.BaseRequest) -> Order:
    """The form: text fields, and one or more real images."""
    if request.content_type != "multipart/form-data":
        raise Refusal("invalid", "edits take multipart/form-data")
    try:
        form = await request.post()
    except (ValueError, AssertionError) as error:
        raise Refusal("invalid", f"the form is not readable: {error}") from None
    texts, sizes = {}, []
    for name, value in form.items():
        if isinstance(value, web.FileField):
            sizes += _image(name, value)
        else:
            texts[name] = value
    if not 1 <= len(sizes) <= MAX_FILES:
        raise Refusal("invalid", f"image is required: 1 to {MAX_FILES} files", param="image")
    body = Fields(_typed(texts))
    body.only(*FIELDS)
    width, height = sizes[0]
    shown = pixels.IO[pixels.nearest_ratio((width, height), pixels.IO)][0]
    return _order(body, "edits", f"{shown[0]}x{shown[1]}", {"images": len(sizes)})


def _image(name: str, file: web.FileField) -> list[tuple[int, int]]:
    content = file.file.read()
    size = picture_size(content)
    if name not in ("image", "image[]", "mask"):
        raise Refusal("invalid", f"unknown file: {name}", param=name)
    if size is None or len(content) > MAX_FILE:
        raise Refusal("invalid", f"{name}: not a supported image of under 50 MB", param=name)
    return [] if name == "mask" else [size]


def _typed(texts: dict[str, Any]) -> dict[str, Any]:
    """Form fields as the JSON they stand for."""
    typed: dict[str, Any] = dict(texts)
    for name in ("n", "output_compression"):
        if str(typed.get(name, "")).isdigit():
            typed[name] = int(typed[name])
    if typed.get("async") in ("true", "false"):
        typed["async"] = typed["async"] == "true"
    return typed


def _order(body: Fields, place: str, auto: str, more: dict[str, Any]) -> Order:
    model = body.text("model", required=True)
    if model != MODEL:
        raise Refusal("model", f"The model '{model}' does not exist", param="model")
    quality = body.one_of("quality", ("auto", "low", "medium", "high"))
    body.one_of("background", ("auto", "opaque"))
    body.one_of("moderation", ("auto", "low"))
    body.one_of("asset_delivery", ("default", "mirror"))
    body.text("user")
    mode = body.one_of("route_mode", PRICES, "mix") or "mix"
    size, prompt = _size(body, auto), body.prompt()
    return Order(
        model=MODEL,
        prompt=prompt,
        n=body.integer("n", 1, 10, 1),
        pixels=size,
        price=PRICES[mode],
        tokens=_tokens(prompt, size, quality, more.get("images", 0)) if mode == "official-cheap" else None,
        echo={**body.values, **more},
        format=_format(body),
        place=place,
        waits=not body.flag("async"),
        b64=body.one_of("response_format", ("url", "b64_json")) == "b64_json",
    )


def _size(body: Fields, auto: str) -> pixels.Pixels:
    text = body.text("size") or "auto"
    size = pixels.read_size(auto if text == "auto" else text)
    problem = "it must be auto or WIDTHxHEIGHT" if size is None else pixels.openai_problem(size)
    if size is None or problem:
        raise body.wrong("size", f"Invalid size '{text}': {problem}")
    return size


def _format(body: Fields) -> str:
    found = body.one_of("output_format", ("png", "jpeg", "webp"), "png") or "png"
    compression = body.integer("output_compression", 0, 100, 100)
    if found == "png" and compression != 100:  # noqa: PLR2004  the default
        raise body.wrong("output_compression", "output_compression needs output_format jpeg or webp")
    return found
