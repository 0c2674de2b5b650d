"""A batch that ended long ago and has met much of what a batch can meet, with its images in a folder."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections import defaultdict

from PIL import Image

from jobs.facts import (
    ImageChecked,
    ImageLost,
    ImageStored,
    MadeImage,
    SubmitAccepted,
    SubmitRefused,
    TaskFailed,
    TaskSucceeded,
)
from jobs.ledger import open_ledger
from jobs.ledger.accounts.values import AccountLimits
from jobs.ledger.batches.values import NewBatch
from jobs.states import JobState
from providers.types import Kind, Link
from tests.support.ledger_files import new_ledger
from tests.support.shop_ledger import PIXELS, a_row

DAY = 86_400.0


def old_rows(batch="shop"):
    """lamp: two images. vase: refused. bowl: failed, and charged. rug: skipped. desk: made anew with another prompt."""
    rows = [
        a_row(0, "lamp", n=2),
        a_row(1, "vase"),
        a_row(2, "bowl"),
        a_row(3, "rug", state=JobState.SKIPPED, error_code="empty_column", message="Title is empty"),
        a_row(4, "desk"),
        a_row(5, "chair"),
    ]
    return [dataclasses.replace(row, path=row.path and row.path.replace("shop/", f"{batch}/")) for row in rows]


def old_shop(folder, dest, *, days=200.0, batch="shop"):
    """An open ledger in `folder` with the batch in it, which ended `days` ago."""
    ledger = open_ledger(new_ledger(folder / "lightfast.db"))
    live(ledger, dest, time.time() - days * DAY, batch=batch)
    return ledger


def live(ledger, dest, now, *, batch="shop", rows=None, lost=(), made=True, **more):
    ledger.accounts.sync([AccountLimits(name="main", provider="maxapi.io", submits_per_second=1e6, max_in_flight=1000)])
    new = NewBatch(
        name=batch, dest=str(dest), path="", columns=("key", "Title"), source=f"{batch}.csv", delimiter=";", **more
    )
    ledger.batches.record_manifest(new, rows if rows is not None else old_rows(batch), now=now)
    if made:
        make(ledger, dest, now, lost=lost)
    if rows is None:
        desk = next(row.request for row in old_rows(batch) if row.key == "desk")
        ledger.batches.redo(batch, [("desk", dataclasses.replace(desk, prompt="A desk by night"))], now + 60)
        make(ledger, dest, now + 61)


def make(ledger, dest, now, *, lost=()):
    """Everything that waits is sent, and ends: vase is refused, bowl fails and is charged, the rest is stored."""
    while intents := ledger.claims.submits("main", now, lease=60.0, at_most=64, horizon=60.0).intents:
        ledger.facts.record([fact for intent in intents for fact in _end(intent, now)])
        now += 1.0
    names = defaultdict(int)
    while due := ledger.claims.copies(now + 10, holder="me", lease=60.0, at_most=64)[0]:
        for copy in due:
            ledger.facts.record(list(_copied(copy, dest, now, names, lost)))
            now += 0.25


def _end(intent, now):
    if intent.key == "vase":
        yield SubmitRefused(
            attempt_id=intent.attempt_id, at=now, kind=Kind.MODERATION, code="moderation", message="rejected: figure"
        )
        return
    task = f"task-{intent.attempt_id}"
    yield SubmitAccepted(attempt_id=intent.attempt_id, at=now, task_id=task, poll_path=None, next_poll_at=now + 5)
    if intent.key == "bowl":
        told = {"kind": Kind.PERMANENT, "code": "no_images", "message": "it said no", "charged": True}
        yield TaskFailed(attempt_id=intent.attempt_id, at=now + 3, **told)
        return
    # The chair's provider gives one more than was asked.
    links = [f"https://cdn.example/{intent.attempt_id}-{number}.png" for number in range(1 + (intent.key == "chair"))]
    images = tuple(MadeImage(link=Link(url=url), spool=None, expires_at=now + 3600) for url in links)
    yield TaskSucceeded(attempt_id=intent.attempt_id, at=now + 9, images=images)


def _copied(copy, dest, now, names, lost):
    if copy.key in lost:
        yield ImageLost(image_id=copy.image_id, at=now, code="link_dead", message="404")
        return
    path = f"{copy.batch}/{copy.key}/{copy.image_id}.png"
    names[path] += 1
    file = dest / path
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", PIXELS, (copy.image_id % 250, 90, 140)).save(file)
    data = file.read_bytes()
    told = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "width": PIXELS[0], "height": PIXELS[1]}
    yield ImageChecked(image_id=copy.image_id, object_path=path, format="png", **told)
    yield ImageStored(image_id=copy.image_id, at=now + 11)
