"""The worker that many would write first: Celery on Redis, a message a step, httpx and boto3, nothing on record.

It does the same work as `lightfast` at the same stand-in, and no more: no limits, no checks of images, no ledger. A
kill loses what was on its way, and a message that comes twice pays twice. What costs nothing to set well is set well:
clients are kept for the life of a process, results are ignored, and an image's bytes never pass through Redis.

`python -m benchmarks.naive_celery MANIFEST PREFIX` sends a message for each row.
"""

from __future__ import annotations

import csv
import functools
import os
import random
import sys
from pathlib import Path
from typing import Any

import boto3
import httpx
from botocore.config import Config
from celery import Celery

from benchmarks.cadence import FIRST_POLL_AFTER, POLL_EVERY

#: Where the stand-in is, and where messages wait.
URL, BROKER = "NAIVE_URL", "NAIVE_BROKER"
HEADERS = {"Authorization": "Bearer key"}

app = Celery("naive", broker=os.environ.get(BROKER))
app.conf.update(
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=16,  # steps are short
    worker_enable_remote_control=False,
)


@app.task(name="submit")
def submit(key: str, prompt: str) -> None:
    """The first step: pays."""
    body = {"model": "gpt-image-2/text-to-image", "input": {"prompt": prompt, "ratio": "1:1", "n": 1}}
    answer = _http().post("/api/v1/task/submit", json=body, headers=HEADERS).raise_for_status().json()
    poll.apply_async((key, answer["data"]["taskId"]), countdown=FIRST_POLL_AFTER * random.uniform(0.95, 1.2))


@app.task(name="poll")
def poll(key: str, task: str) -> None:
    """Asks; comes again while the provider is at work."""
    told = _http().get(f"/api/v1/task/{task}", headers=HEADERS).raise_for_status().json()["data"]
    if told["status"] == "SUCCESS":
        copy.delay(key, told["result"]["urls"][0])
    else:
        poll.apply_async((key, task), countdown=POLL_EVERY * random.uniform(0.85, 1.15))


@app.task(name="copy")
def copy(key: str, link: str) -> None:
    """The last step: downloads and uploads."""
    image = _http().get(link).raise_for_status().content
    _s3().put_object(Bucket="bucket", Key=f"{key}/0.png", Body=image, ContentType="image/png")


@functools.cache
def _http() -> httpx.Client:
    return httpx.Client(base_url=os.environ[URL], timeout=60.0)


@functools.cache
def _s3() -> Any:
    return boto3.client("s3", endpoint_url=os.environ[URL], config=Config(max_pool_connections=32))


def main(manifest: Path, prefix: str) -> None:
    """Sends the first step of every row."""
    with manifest.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            submit.delay(f"{prefix}/{row['key']}", row["prompt"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
