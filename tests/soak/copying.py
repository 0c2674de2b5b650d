"""Paid images on their way: a CDN and a bucket full of faults, a bucket that is away, a process killed as it copies."""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from jobs.ledger import open_ledger
from sandbox import launch, servers
from sandbox.launch import Box
from tests.soak.bucket import Bucket, faulty_bucket
from tests.soak.judge import Findings
from tests.soak.local import settle
from tests.soak.work import NAME, PROVIDERS, ROOT, Batch, make_batch, write_settings
from tests.support.command import Started
from tests.support.patience import AT_LAST, until

#: Shares of what goes wrong at the CDN and at the bucket.
SHARE = 0.1
#: Images that are written, at the most, before a kill strikes while others are being written.
AT_A_TIME = 12
#: Requests that a bucket which is away does not answer, at the least, while places for submits are free.
IN_VAIN = 6
#: Submits a second of each account.
QUICK = 60.0


def plan(seed: int, **more: object) -> dict[str, object]:
    """Quick tasks, plain pictures of the right pixels."""
    return {"seed": seed, "takes": {"default": [0.2, 0.6]}, "pictures": {"tiny": True}, **more}


def soak_faults(folder: Path, *, rows: int, seed: int) -> Findings:
    """A tenth each of 5xx, cut-off images and HTML at the CDN, of 500 and SlowDown at the bucket."""
    found = Findings(title=f"faults: {rows} images through a CDN and a bucket that fail in a tenth of each way")
    words = ("cdn 503", "cdn truncated", "cdn html")
    rules = [{"trouble": word, "chance": SHARE} for word in words]
    began = time.monotonic()
    with launch.running(plan(seed, rules=rules)) as box, servers.s3() as server, faulty_bucket(server, seed) as bucket:
        bucket.failing = bucket.slowing = SHARE
        batch = _batch(folder, rows, box, bucket)
        found.show("exit code", code := _run(batch), must=code == 0)
        settle(box)
        downloads = box.stats()["total"]
        wrong = downloads["downloads"] - downloads["downloads_whole"]
        found.show("downloads, of which were broken on order", f"{downloads['downloads']}, {wrong}")
        found.show("requests the bucket refused on order", dict(bucket.faults))
        _judge(found, batch, box, bucket)
    found.show("seconds", f"{time.monotonic() - began:.0f}")
    return found


def soak_away(folder: Path, *, rows: int, seed: int, away: float = 30.0, lives: float = 60.0) -> Findings:
    """The bucket answers nothing after a fifth of the images, for a while and until it was asked in vain again.

    Not many more than a third of the rows can have been sent by then: the other tasks do not end before it is away.
    """
    found = Findings(title=f"away: the bucket gone for {away:g} s while links live {lives:g} s, {rows} images")
    stuck = [{"trouble": "stuck", "prompt": f"picture {number}"} for number in range(rows // 3, rows)]
    scenario = plan(seed, link_seconds={"default": lives})
    with (
        launch.running({**scenario, "rules": stuck}) as box,
        servers.s3() as server,
        faulty_bucket(server, seed) as bucket,
    ):
        bucket.away_after = rows // 5
        batch = _batch(folder, rows, box, bucket, in_flight=2)
        process = batch.start_run()
        _wait(lambda: bucket.away, process)
        told = _until_told(batch, process)
        box.arrange(scenario)
        box.finish()  # so the places at the providers are free again
        _wait(lambda: not box.stats()["total"]["in_flight"], process)
        before = box.stats()["total"]["submits"]
        asked, end = bucket.faults["away"] + IN_VAIN, time.monotonic() + away
        _wait(lambda: bucket.faults["away"] >= asked and time.monotonic() >= end, process)
        more = box.stats()["total"]["submits"] - before
        bucket.away = False
        found.show("what `status` gave as the reason", told, must=told == ["bucket_unreachable"])
        found.show("rows that were left to send", rows - before, must=rows > before, why="it proves nothing so")
        found.show("submits while places were free and it was away", more, must=more == 0)
        said = process.communicate(timeout=AT_LAST)[1]
        found.show(
            "the run went on by itself and ended with", process.returncode, must=not process.returncode, why=said
        )
        settle(box)
        found.show("requests the bucket did not answer", bucket.faults["away"])
        _judge(found, batch, box, bucket)
    return found


def _until_told(batch: Batch, process: Started) -> list[str]:
    """Why submits wait, as `status` says as soon as they do."""
    told: list[str] = []

    def ask() -> bool:
        told[:] = [each["code"] for each in json.loads(batch.ask("status", NAME, "--json"))["submits_wait"]]
        return bool(told)

    _wait(ask, process)
    return told


def soak_killed(folder: Path, *, rows: int, kills: int, seed: int) -> Findings:
    """All images wait when the first kill comes; each strikes while some are being written."""
    found = Findings(title=f"killed: `lightfast run` killed -9 {kills} times while it copies, {rows} images")
    chance = random.Random(seed)
    with launch.running(plan(seed)) as box, servers.s3() as server, faulty_bucket(server, seed) as bucket:
        bucket.held = True  # none is written before all are made
        batch = _batch(folder, rows, box, bucket)
        _kill_when(batch.start_run(), lambda: _made(folder, rows))
        settle(box)
        struck = sum(_killed_while_it_copies(batch, bucket, chance) for _ in range(kills))
        found.show("kills -9 with writes on their way", struck, must=struck == kills)
        waiting = rows - len(bucket.writes)
        found.show("images that were left after the last", waiting, must=waiting > 0, why="it proves nothing so")
        bucket.held = False
        found.show("exit code of the run after that", code := _run(batch), must=code == 0)
        _judge(found, batch, box, bucket)
    return found


# -- a run ---------------------------------------------------------------------------------------------------------


def _batch(folder: Path, rows: int, box: Box, bucket: Bucket, in_flight: int = 40) -> Batch:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **bucket.environment}
    batch = make_batch(folder, rows, PROVIDERS, to=f"s3://{bucket.name}", environment=environment)
    write_settings(folder, box.url, QUICK / len(PROVIDERS) * 2, in_flight=in_flight)
    return batch


def _run(batch: Batch) -> int:
    process = batch.start_run()
    process.communicate(timeout=3 * AT_LAST)
    return process.returncode


def _made(folder: Path, rows: int) -> bool:
    """Every image is on record as generated."""
    address = folder / "lightfast.db"
    if not address.exists():
        return False
    ledger = open_ledger(f"sqlite:///{address}")
    try:
        return ledger.batches.find(NAME) is not None and ledger.reports.progress(NAME).images_generated == rows
    finally:
        ledger.close()


def _kill_when(process: Started, is_so: Callable[[], bool]) -> None:
    _wait(is_so, process)
    process.kill()
    process.communicate()


def _killed_while_it_copies(batch: Batch, bucket: Bucket, chance: random.Random) -> bool:
    """Starts the command and kills it when it has written a few, with others on their way; whether it was alive."""
    _wait(lambda: not bucket.waiting)  # those of the last kill
    bucket.free = chance.randint(1, AT_A_TIME)
    process = batch.start_run()
    _wait(lambda: not bucket.free and bucket.waiting > 0, process)
    alive = process.poll() is None
    process.kill()
    process.communicate()
    return alive


def _wait(is_so: Callable[[], bool], process: Started | None = None) -> None:
    def lives() -> None:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"the run has ended: {process.communicate()[1]}")

    until(is_so, meanwhile=lives)


# -- the judgement -------------------------------------------------------------------------------------------------


def _judge(found: Findings, batch: Batch, box: Box, bucket: Bucket) -> None:
    """By the sandbox's hashes, its charges, and what the server behind the proxy holds."""
    tasks, objects = box.tasks(), bucket.objects(f"{NAME}/")
    charged = Counter({task["prompt"]: 0 for task in tasks})
    for task in tasks:
        charged[task["prompt"]] += task["charged_images"]
    twice = {prompt for prompt, images in charged.items() if images > 1}
    by_key = Counter(path.split("/")[1] for path in objects)
    drawn = {task["prompt"]: set(filter(None, task["sha256"])) for task in tasks}
    strange = [
        path
        for path, data in objects.items()
        if hashlib.sha256(data).hexdigest() not in drawn.get(batch.prompts[path.split("/")[1]], set())
    ]
    again = [path for path, times in bucket.writes.items() if times > 1 and not path.startswith("/.")]
    missing = sorted(set(batch.prompts) - set(by_key))
    found.show("stored", f"{len(by_key)} of {len(batch.prompts)}", must=not missing, why=missing[:9])
    found.show("with other bytes than the sandbox drew", len(strange), must=not strange, why=strange[:9])
    found.show("rows with more than one object", extra := sum(n > 1 for n in by_key.values()), must=not extra)
    found.show("objects written more than once", len(again), must=not again, why=again[:9])
    found.show("paid twice", len(twice), must=not twice, why=sorted(twice)[:9])
    lost = json.loads(batch.ask("status", NAME, "--json"))["images"]["lost"]
    found.show("lost", lost, must=not lost)
