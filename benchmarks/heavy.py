"""The small stand-in with images of many megabytes, and a bucket that keeps them until its window is asked for.

It notes when the first image was asked for and when the last was put: the time between the two is the copying.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import sys
import time

from aiohttp import web

from benchmarks.standin import Parts, Provider, _chunk, _json, _parts, serve

#: Objects up to so many bytes are marks and probes.
SMALL = 100_000


class Heavy(Provider):
    """Images of `size` bytes, no two alike."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._picture = _heavy(size)
        self._kept: dict[str, bytes] = {}
        self._images: dict[str, bytes] = {}
        self._first, self._last = 0.0, 0.0

    def routes(self) -> list[web.RouteDef]:
        """What it answers."""
        return [
            *super().routes(),
            web.get("/window", self.window),
            web.get("/made", self.made),
            web.head("/bucket", self.there),
            web.put("/bucket/{path:.+}", self.take),
            web.get("/bucket/{path:.+}", self.give),
            web.delete("/bucket/{path:.+}", self.forget),
        ]

    async def image(self, request: web.Request) -> web.Response:
        """Notes the first."""
        self._first = self._first or time.monotonic()
        return await super().image(request)

    async def window(self, _request: web.Request) -> web.Response:
        """Seconds from the first download to the last put, and how many there were since the last time it was asked."""
        told = {"seconds": self._last - self._first, "images": len(self._images)}
        self._first, self._last, self._images = 0.0, 0.0, {}
        return _json(told)

    async def made(self, _request: web.Request) -> web.Response:
        """Images since the last time the window was asked for; forgets nothing."""
        return _json({"images": len(self._images)})

    async def there(self, _request: web.Request) -> web.Response:
        """The bucket is there."""
        return web.Response()

    async def take(self, request: web.Request) -> web.Response:
        """An object. Large ones are counted."""
        path = request.match_info["path"]
        is_there = path in self._kept or path in self._images
        if is_there and request.headers.get("If-None-Match") == "*":
            return web.Response(status=412, text="<Error><Code>PreconditionFailed</Code></Error>")
        data = b"".join([part async for part in request.content.iter_any()])
        if len(data) > SMALL:
            self._images[path] = data
            self._last = time.monotonic()
        else:
            self._kept[path] = data
        return web.Response(headers={"ETag": '"x"'})

    async def give(self, request: web.Request) -> web.Response:
        """What was put."""
        path = request.match_info["path"]
        found = self._kept.get(path) or self._images.get(path)
        if found is None:
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        etag = hashlib.md5(found, usedforsecurity=False).hexdigest()
        date = "Thu, 01 Jan 2026 00:00:00 GMT"
        return web.Response(body=found, headers={"ETag": f'"{etag}"', "Last-Modified": date})

    async def forget(self, request: web.Request) -> web.Response:
        """Deletes."""
        self._kept.pop(request.match_info["path"], None)
        return web.Response(status=204)


def _heavy(size: int) -> Parts:
    head, tail = _parts()
    filling = random.Random(2).randbytes(max(0, size - len(head) - len(tail)))
    return head, _chunk(b"fiLl", filling) + tail


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(Heavy(int(sys.argv[1]))))
