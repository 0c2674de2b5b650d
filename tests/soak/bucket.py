"""A bucket with faults: a small proxy before a real S3 server (moto). It counts which object was written how often."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import aiohttp
import boto3
from aiohttp import web

from sandbox import servers

ERROR = '<?xml version="1.0"?><Error><Code>{code}</Code><Message>on order</Message></Error>'
HOP_BY_HOP = {"transfer-encoding", "connection", "content-length", "content-encoding", "server", "date"}


#: The share of writes that are let go when the writer dies; the others are done, as a server does that has the bytes.
LET_GO = 0.5


@dataclass(slots=True, kw_only=True)
class Bucket:
    """What the proxy does, changed while it serves."""

    server: servers.S3
    name: str
    url: str = ""
    seed: int = 7
    failing: float = 0.0  # the share of requests for images that is answered with 500
    slowing: float = 0.0  # ... with 503 SlowDown
    away: bool = False  # connections are closed without an answer
    away_after: float = math.inf  # writes that began; then it is away by itself, until it is told to be back
    held: bool = False  # writes of images wait until the writer is gone or this is over
    free: int = 0  # writes that are not held all the same
    waiting: int = 0  # writes that are held now
    writes: Counter[str] = field(default_factory=Counter)  # that worked, by object
    beginnings: int = 0  # writes of images that began
    faults: Counter[str] = field(default_factory=Counter)
    _chance: random.Random = field(default_factory=lambda: random.Random(7))

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs to find it."""
        return {**self.server.environment, "AWS_ENDPOINT_URL": self.url}

    def objects(self, prefix: str) -> dict[str, bytes]:
        """What the server behind it holds."""
        where = self.server.environment
        client = boto3.client(
            "s3",
            endpoint_url=self.server.url,
            aws_access_key_id=where["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=where["AWS_SECRET_ACCESS_KEY"],
            region_name=where["AWS_REGION"],
        )
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return {key: client.get_object(Bucket=self.name, Key=key)["Body"].read() for key in keys}

    async def serve(self, request: web.BaseRequest, session: aiohttp.ClientSession) -> web.StreamResponse:
        """One request: a fault on order, or what the server says."""
        body = await request.read()
        image = request.path.endswith((".png", ".jpg", ".webp"))
        self.beginnings += image and request.method == "PUT"
        if self.beginnings > self.away_after:
            self.away, self.away_after = True, math.inf
        if self.away:
            self.faults["away"] += 1
            if request.transport is not None:
                request.transport.close()
            return web.Response()
        if image and (fault := self._fault()):
            return fault
        if image and request.method == "PUT":
            await self._hold(request)
            if _is_gone(request) and self._chance.random() < LET_GO:
                return web.Response()
        return await self._forward(request, session, body)

    async def _hold(self, request: web.BaseRequest) -> None:
        if self.free > 0:
            self.free -= 1
            return
        self.waiting += 1
        while self.held and not _is_gone(request):  # noqa: ASYNC110  nothing else tells of it
            await asyncio.sleep(0.02)
        self.waiting -= 1

    def _fault(self) -> web.Response | None:
        drawn = self._chance.random()
        if drawn < self.failing:
            self.faults["500"] += 1
            return web.Response(status=500, text=ERROR.format(code="InternalError"), content_type="application/xml")
        if drawn < self.failing + self.slowing:
            self.faults["SlowDown"] += 1
            return web.Response(status=503, text=ERROR.format(code="SlowDown"), content_type="application/xml")
        return None

    async def _forward(
        self, request: web.BaseRequest, session: aiohttp.ClientSession, body: bytes
    ) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        url = f"{self.server.url}{request.raw_path}"
        async with session.request(request.method, url, headers=headers, data=body, allow_redirects=False) as answer:
            content = await answer.read()
            if request.method == "PUT" and answer.status < 300:
                self.writes[request.path] += 1
            told = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            if request.method == "HEAD":
                told["Content-Length"] = answer.headers.get("Content-Length", "0")
            return web.Response(status=answer.status, body=content, headers=told)


def _is_gone(request: web.BaseRequest) -> bool:
    return request.transport is None or request.transport.is_closing()


@contextlib.contextmanager
def faulty_bucket(server: servers.S3, seed: int = 7) -> Iterator[Bucket]:
    """The proxy, in a thread of its own, and a bucket behind it."""
    bucket = Bucket(server=server, name=server.new_bucket(), seed=seed, _chance=random.Random(seed))
    loop = asyncio.new_event_loop()
    up, down = threading.Event(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(_live(bucket, up, down)), daemon=True)
    thread.start()
    up.wait(30)
    try:
        yield bucket
    finally:
        loop.call_soon_threadsafe(down.set)
        thread.join(30)
        loop.close()


async def _live(bucket: Bucket, up: threading.Event, down: asyncio.Event) -> None:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        runner = web.ServerRunner(web.Server(lambda request: bucket.serve(request, session)), shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        bucket.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        up.set()
        await down.wait()
        await runner.cleanup()
