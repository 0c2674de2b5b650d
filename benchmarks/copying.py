"""64 images of 25 MB that are due at once: peak memory and bytes a second, beside a bare download-and-put of the same.

Both are processes of their own, fetch from one server and put into one bucket (`benchmarks/heavy.py`), 16 at once. The
bare one holds each image in memory, checks nothing and remembers nothing; the other is a `lightfast run`. Times are the
server's: from the first download to the last put.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import obstore
from obstore.store import S3Store

from benchmarks.bare import KEYS
from benchmarks.cpu import manifest, server, settings
from benchmarks.measure import LIGHTFAST, Took, python, run, show

IMAGES, SIZE = 64, 25_000_000
AT_ONCE = 16  # as many copies as Lightfast makes at once
MB = 1e6


def measure(images: int, size: int) -> list[tuple[str, str]]:
    """Both sides, one after the other, and a run of a single image for what a run takes anyway."""
    with server(size) as url:
        _, one = _ours(1, url)
        bare_seconds, bare = _bare(images, url)
        seconds, ours = _ours(images, url)
    total = images * size / MB
    return [
        ("images due at once", f"{images} of {size / MB:.0f} MB"),
        ("lightfast run: peak memory", f"{ours.peak / MB:.0f} MB; of a single image {one.peak / MB:.0f} MB"),
        ("bare: peak memory", f"{bare.peak / MB:.0f} MB"),
        ("lightfast run: bytes a second", f"{total / seconds:.0f} MB/s"),
        ("bare: bytes a second", f"{total / bare_seconds:.0f} MB/s"),
        ("ratio of their times", f"{seconds / bare_seconds:.2f}"),
        ("CPU: lightfast run less one of a single image, bare", f"{ours.cpu - one.cpu:.1f} s, {bare.cpu:.1f} s"),
    ]


def _bare(images: int, url: str) -> tuple[float, Took]:
    with tempfile.TemporaryDirectory() as folder:
        took = run(python("benchmarks.copying", "--bare", url, "--images", str(images)), folder=Path(folder))
    return _seconds(url, images), took


def _ours(images: int, url: str) -> tuple[float, Took]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "lightfast.toml").write_text(settings(url), encoding="utf-8")
        rows, batch = manifest(folder, images), f"lamps-{images}"
        command = [LIGHTFAST, "run", str(rows), "--to", "s3://bucket", "--batch", batch, "--yes", "--quiet"]
        took = run(command, folder=folder, env={**KEYS, "AWS_ENDPOINT_URL": url, "TMPDIR": place})
    return _seconds(url, images), took


def _seconds(url: str, images: int) -> float:
    with urllib.request.urlopen(f"{url}/window") as answer:
        window = json.load(answer)
    if window["images"] != images:
        sys.exit(f"{window['images']} images of {images} were put")
    return float(window["seconds"])


# -- the bare one --------------------------------------------------------------------------------------------------


async def _fetch_and_put(url: str, images: int) -> None:
    keys = {"access_key_id": "key", "secret_access_key": "secret", "region": "us-east-1"}
    store = S3Store("bucket", config={**keys, "endpoint": url}, client_options={"allow_http": True})  # type: ignore[arg-type]
    room = asyncio.Semaphore(AT_ONCE)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        asyncio.get_running_loop().set_default_executor(threads)
        async with aiohttp.ClientSession(url) as session, asyncio.TaskGroup() as copying:
            for number in range(images):
                copying.create_task(_copy(session, store, room, number))


async def _copy(session: aiohttp.ClientSession, store: S3Store, room: asyncio.Semaphore, number: int) -> None:
    async with room:
        async with session.get(f"/image/bare-{number}.png") as answer:
            image = await answer.read()
        await asyncio.get_running_loop().run_in_executor(None, _put, store, f"bare/{number}.png", image)


def _put(store: S3Store, path: str, image: bytes) -> None:
    obstore.put(store, path, image, use_multipart=False)


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=IMAGES)
    options.add_argument("--size", type=int, default=SIZE)
    options.add_argument("--bare", metavar="URL", help="be the bare one")
    chosen = options.parse_args()
    if chosen.bare:
        asyncio.run(_fetch_and_put(chosen.bare, chosen.images))
    else:
        show("Copying (S3)", measure(chosen.images, chosen.size))


if __name__ == "__main__":
    main()
