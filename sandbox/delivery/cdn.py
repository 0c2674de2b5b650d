"""The CDN of all providers: signed links that expire, images drawn when they are first asked for."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Collection
from dataclasses import replace
from typing import Final
from urllib.parse import quote

from aiohttp import web

from sandbox.delivery.answers import give
from sandbox.images.pictures import CONTENT_TYPES, Picture, Studio
from sandbox.images.references import PLACE, reference
from sandbox.troubles.words import Subject, Trouble
from sandbox.values import Answer, Task
from sandbox.world import World

EXTENSIONS: Final = {name: "jpg" if name == "jpeg" else name for name in CONTENT_TYPES}
#: What a CDN says to whom it takes for no browser, and to everybody while it checks.
NO_BROWSER: Final = "error code: 1010"
CHECK: Final = (
    "<!DOCTYPE html><html><head><title>Just a moment...</title></head>"
    "<body><h1>Checking your browser</h1></body></html>"
)
SECRET: Final = b"sandbox"  # links are signed so that a client that rewrites them is found out
XML: Final = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'


class Cdn:
    """Serves images and references."""

    def __init__(self, world: World, studio: Studio, key_headers: Collection[str]) -> None:
        self._key_headers = key_headers  # of all providers
        self._world = world
        self._studio = studio
        self.keys_seen = 0  # downloads that came with an API key; they are refused

    def link(self, task: Task, index: int, base: str, expires_at: float) -> str:
        """Where an image is. The signature has letters that must stay as they are."""
        path = f"/cdn/images/{task.id}/{round(expires_at * 1000)}/image-{index}.{EXTENSIONS[task.format]}"
        return f"{base}{path}?sig={_signature(path)}"

    async def image(self, task: Task, index: int, kind: str | None = None) -> bytes:
        """The bytes of an image, the same every time; `kind`: in another format than its own."""
        pictures = self._world.scenario.pictures
        plain = pictures.tiny or bool(pictures.image_bytes)
        picture, stamp = replace(_picture(task, index), format=kind or task.format), f"{task.id}/{index}"
        if plain:  # at hand; a thread would cost more
            body = self._studio.image(picture, stamp, plain=True, at_least=pictures.image_bytes)
        else:
            body = await asyncio.to_thread(self._studio.image, picture, stamp)
        if index not in task.hashes:
            task.hashes[index] = hashlib.sha256(body).hexdigest()
        return body

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """A download."""
        path, _, query = request.raw_path.partition("?")
        if path.startswith(PLACE):
            return await self._serve_reference(request, path)
        if any(name in request.headers for name in self._key_headers):
            self.keys_seen += 1
            return await _say(request, 400, "InvalidArgument", "Unsupported Authorization Type")
        task, index = self._find(path)
        if task is None or query != f"sig={_signature(path)}":
            known = task is not None
            return await _say(request, 403 if known else 404, *_REASONS[known])
        return await self._serve_image(request, task, index, float(path.split("/")[4]) / 1000)

    async def _serve_image(
        self, request: web.BaseRequest, task: Task, index: int, expires_at: float
    ) -> web.StreamResponse:
        now, counts = self._world.now(), self._world.counts[task.provider]
        counts.downloads += 1
        if now >= expires_at:
            return await _say(request, 403, "AccessDenied", "Request has expired")
        subject = Subject(
            provider=task.provider, key=task.key, model=task.order.model, prompt=task.order.prompt, about=task.id
        )
        trouble = self._world.troubles.strike("cdn", subject, now)
        if trouble and trouble.status:
            return await _say(request, trouble.status, "Trouble", f"trouble on order: {trouble.status}")
        if trouble and (refusal := _refusal(request, trouble.kind)):
            return (await give(request, refusal))[0]
        kind = _kind_for(request, task, trouble)
        body = await self.image(task, index, kind)
        answer = Answer(body=body, content_type=CONTENT_TYPES[kind], headers={"Cache-Control": "max-age=604800"})
        response, whole = await give(request, answer, trouble)
        counts.downloads_whole += whole
        counts.bytes_downloaded += len(body) * whole
        return response

    def _find(self, path: str) -> tuple[Task | None, int]:
        parts = path.split("/")
        task = self._world.tasks.get(parts[3]) if len(parts) == 6 else None  # noqa: PLR2004  as `link` makes it
        digits = parts[-1].removeprefix("image-").partition(".")[0]
        index = int(digits) if digits.isdigit() else -1
        return (task, index) if task and 0 <= index < task.delivered and parts[4].isdigit() else (None, 0)

    async def _serve_reference(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        picture = reference(path)
        if picture is None:
            return await _say(request, 404, *_REASONS[False])
        body = await asyncio.to_thread(self._studio.image, picture, "reference")
        return (await give(request, Answer(body=body, content_type=CONTENT_TYPES[picture.format])))[0]


_REASONS: Final = {
    True: ("SignatureDoesNotMatch", "The request signature does not match"),
    False: ("NoSuchKey", "The specified key does not exist"),
}


def _signature(path: str) -> str:
    """Base64, quoted: it has %2B, %2F and %3D, which some clients rewrite."""
    digest = hashlib.blake2b(path.encode(), key=SECRET, digest_size=16).digest()
    return quote(base64.b64encode(b"\xfb\xff" + digest), safe="")


def _picture(task: Task, index: int) -> Picture:
    width, height = task.pixels
    count = f"{index + 1} of {task.order.n}"
    facts = f"{task.order.model} · {width}x{height} · {count} · {task.provider} · sandbox"
    picture = Picture(prompt=task.order.prompt, facts=facts, pixels=task.pixels, index=index, format=task.format)
    if task.like:
        return replace(picture, prompt=task.like, index=0, variant=f"{task.order.prompt}/{index}")
    return replace(picture, blank=task.blank)


def _refusal(request: web.BaseRequest, kind: str) -> Answer | None:
    if kind == "check":
        return Answer(status=403, body=CHECK.encode(), content_type="text/html; charset=utf-8")
    if kind == "browsers" and not request.headers.get("User-Agent", "").startswith("Mozilla/"):
        return Answer(status=403, body=NO_BROWSER.encode(), content_type="text/plain")
    return None


def _kind_for(request: web.BaseRequest, task: Task, trouble: Trouble | None) -> str:
    """Its own format; with `accept`, another to whoever does not ask for a PNG by name."""
    if trouble is None or trouble.kind != "accept" or "image/png" in request.headers.get("Accept", ""):
        return task.format
    return next((word for word in trouble.arguments if word in CONTENT_TYPES), "avif")


async def _say(request: web.BaseRequest, status: int, code: str, message: str) -> web.StreamResponse:
    body = XML.format(code=code, message=message).encode()
    return (await give(request, Answer(status=status, body=body, content_type="application/xml")))[0]
