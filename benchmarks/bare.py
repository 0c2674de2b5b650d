"""The same requests with nothing remembered: aiohttp, obstore, a loop. What it loses when it dies, it pays again."""

from __future__ import annotations

import asyncio
import csv
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import obstore
import orjson
from obstore.store import LocalStore, S3Store

from benchmarks.cadence import FIRST_POLL_AFTER, IN_FLIGHT, POLL_EVERY, SUBMITS_PER_SECOND

#: What the stand-in's bucket is opened with: it takes any.
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
THREADS = 16  # as many puts at once as Lightfast does

Store = LocalStore | S3Store


async def main(manifest: Path, base_url: str, to: str) -> None:
    """Makes every row's image, into a folder or the stand-in's bucket (`s3://bucket/…`)."""
    with manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    store, room = _store(to, base_url), asyncio.Semaphore(IN_FLIGHT)
    with ThreadPoolExecutor(THREADS) as threads:
        asyncio.get_running_loop().set_default_executor(threads)
        async with aiohttp.ClientSession(base_url, connector=aiohttp.TCPConnector(limit=0)) as session:
            await _make_all(session, store, room, rows)


async def _make_all(
    session: aiohttp.ClientSession, store: Store, room: asyncio.Semaphore, rows: list[dict[str, str]]
) -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with asyncio.TaskGroup() as making:
        for number, row in enumerate(rows):
            await room.acquire()
            await asyncio.sleep(max(0.0, start + number / SUBMITS_PER_SECOND - loop.time()))
            making.create_task(_make(session, store, row)).add_done_callback(lambda _: room.release())


async def _make(session: aiohttp.ClientSession, store: Store, row: dict[str, str]) -> None:
    link = await _wait_for(session, await _submit(session, row))
    async with session.get(link) as answer:
        image = await answer.read()
    await asyncio.get_running_loop().run_in_executor(None, _put, store, f"{row['key']}/0.png", image)


def _store(to: str, base_url: str) -> Store:
    if not to.startswith("s3://"):
        return LocalStore(to, mkdir=True)
    bucket, _, prefix = to.removeprefix("s3://").partition("/")
    config = {name.removeprefix("AWS_").lower(): value for name, value in KEYS.items()} | {"endpoint": base_url}
    return S3Store(bucket, prefix=prefix, config=config, client_options={"allow_http": True})  # type: ignore[arg-type]


def _put(store: Store, path: str, image: bytes) -> None:
    obstore.put(store, path, image, use_multipart=False)


async def _submit(session: aiohttp.ClientSession, row: dict[str, str]) -> str:
    body = {"model": "gpt-image-2/text-to-image", "input": {"prompt": row["prompt"], "ratio": "1:1", "n": 1}}
    headers = {"Authorization": "Bearer key", "Content-Type": "application/json"}
    async with session.post("/api/v1/task/submit", data=orjson.dumps(body), headers=headers) as answer:
        return str(orjson.loads(await answer.read())["data"]["taskId"])


async def _wait_for(session: aiohttp.ClientSession, task: str) -> str:
    await asyncio.sleep(FIRST_POLL_AFTER * random.uniform(0.95, 1.2))
    while True:
        async with session.get(f"/api/v1/task/{task}", headers={"Authorization": "Bearer key"}) as answer:
            told = orjson.loads(await answer.read())["data"]
        if told["status"] == "SUCCESS":
            return str(told["result"]["urls"][0])
        await asyncio.sleep(POLL_EVERY * random.uniform(0.85, 1.15))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
