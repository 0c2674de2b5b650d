"""A small, fast stand-in for MaxAPI.io: its shapes only, 200 kB images unlike each other. Prints its URL, then serves.

A task is done when it is asked about for the second time, so both sides of a comparison make the same requests, however
busy the machine is.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import sys
import time
import zlib
from collections import Counter
from itertools import count

import orjson
from aiohttp import web

SIDE = 1024  # pixels, as asked for by default
NOISE = 199_000  # bytes that do not compress

Parts = tuple[bytes, bytes]


class Provider:
    """Accepts everything; nothing fails."""

    def __init__(self) -> None:
        self._ids = count(1)
        self._polled: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._picture = _parts()

    def routes(self) -> list[web.RouteDef]:
        """What it answers."""
        return [
            web.post("/api/v1/task/submit", self.submit),
            web.get("/api/v1/task/{task}", self.poll),
            web.get("/image/{task}.png", self.image),
            web.get("/counts", self.counts),
        ]

    async def submit(self, request: web.Request) -> web.Response:
        """Accepts a task."""
        orjson.loads(await request.read())
        self._counts["submits"] += 1
        return _json({"code": 0, "msg": "ok", "data": {"taskId": f"task-{next(self._ids)}"}})

    async def poll(self, request: web.Request) -> web.Response:
        """Says how a task is."""
        self._counts["polls"] += 1
        task = request.match_info["task"]
        if task not in self._polled:
            self._polled.add(task)
            return _json({"code": 0, "msg": "ok", "data": {"taskId": task, "status": "PROCESSING"}})
        result = {"urls": [f"http://{request.host}/image/{task}.png?signature=4f8a"]}
        told = {"taskId": task, "status": "SUCCESS", "result": result, "updated_at": int(time.time())}
        return _json({"code": 0, "msg": "ok", "data": told})

    async def image(self, request: web.Request) -> web.Response:
        """A task's picture; the task's name is in it."""
        self._counts["downloads"] += 1
        head, tail = self._picture
        body = head + _chunk(b"tEXt", b"task\0" + request.match_info["task"].encode()) + tail
        return web.Response(body=body, content_type="image/png")

    async def counts(self, _request: web.Request) -> web.Response:
        """Requests since the last time it was asked."""
        told, self._counts = dict(self._counts), Counter()
        return _json(told)


def _json(body: object) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")


def _parts() -> Parts:
    noise = bytearray(random.Random(1).randbytes(NOISE).ljust(SIDE * (SIDE + 1), b"\0"))
    noise[:: SIDE + 1] = bytes(SIDE)  # each line begins with its filter: none
    head = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0))
    return head, _chunk(b"IDAT", zlib.compress(bytes(noise))) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


async def serve(provider: Provider) -> None:
    """Prints its URL, and serves until standard input ends: with whoever started it."""
    app = web.Application()
    app.add_routes(provider.routes())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(Provider()))
