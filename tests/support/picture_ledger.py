"""A ledger of batches whose pictures lie in folders, to be exported."""

from __future__ import annotations

import hashlib
import io

import orjson
from PIL import Image

from jobs.facts import ImageChecked, ImageStored, MadeImage, SubmitAccepted, SubmitRefused, TaskSucceeded
from jobs.ledger import open_ledger
from jobs.ledger.accounts.values import AccountLimits
from jobs.ledger.batches.values import NewBatch, Row
from providers.types import Kind, Link, Request
from tests.support.ledger_files import new_ledger

NOW = 1_800_000_000.0


def picture(number, *, size=(40, 30)):
    """A PNG that no other number has."""
    file = io.BytesIO()
    Image.new("RGB", size, (number % 251, number // 251 % 251, 90)).save(file, "png")
    return file.getvalue()


def row(position, key, *, n=1, made_of=None, **own):
    """A row with one picture, or `n`. `made_of`: the key of the row that it is a variation of."""
    request = Request(prompt=f"A {key}", model="gpt-image-2", n=n, ratio="1:1")
    carried = {"key": key, **own, **({"lf_row": made_of} if made_of else {})}
    return Row(
        position=position, line=position + 2, key=key, carried=orjson.dumps(carried), request=request,
        request_hash=request.hash(), path=f"b/{position}/{{index}}.{{ext}}", provider="maxapi.io",
        provider_model="gpt-image-2/text-to-image", price=20_000, pixels=(40, 30), max_n=10,
    )  # fmt: skip


def open_pictures(folder):
    """An empty ledger in a folder, as `lightfast` finds it there."""
    ledger = open_ledger(new_ledger(folder / "lightfast.db"))
    limits = {"submits_per_second": 1e6, "max_in_flight": 100_000}
    ledger.accounts.sync([AccountLimits(name="main", provider="maxapi.io", **limits)])
    return ledger


def store(ledger, dest, rows, *, batch="b", refused=(), pictures=picture, sandbox=False):
    """Records a batch of these rows, and stores the pictures of all but those that are refused."""
    columns = tuple(dict.fromkeys(name for each in rows for name in orjson.loads(each.carried) if name != "lf_row"))
    new = NewBatch(name=batch, dest=str(dest), path="", columns=columns, source=f"{batch}.csv", sandbox=sandbox)
    ledger.batches.record_manifest(new, rows, now=NOW)
    at = NOW
    while intents := ledger.claims.submits("main", at, lease=60.0, at_most=64, horizon=60.0).intents:
        ledger.facts.record([fact for each in intents for fact in _end(each, at, refused)])
        at += 1.0
    number = 0
    while due := ledger.claims.copies(NOW + 3000, holder="me", lease=60.0, at_most=64)[0]:
        for copy in sorted(due, key=lambda each: each.image_id):
            data, path = pictures(number), f"b/{copy.image_id}.png"
            (dest / path).parent.mkdir(parents=True, exist_ok=True)
            (dest / path).write_bytes(data)
            told = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "width": 40, "height": 30}
            checked = ImageChecked(image_id=copy.image_id, object_path=path, format="png", **told)
            ledger.facts.record([checked, ImageStored(image_id=copy.image_id, at=NOW + 3001)])
            number += 1


def _end(intent, at, refused):
    if intent.key in refused:
        told = {"kind": Kind.MODERATION, "code": "moderation", "message": "rejected"}
        yield SubmitRefused(attempt_id=intent.attempt_id, at=at, **told)
        return
    accepted = {"task_id": f"t{intent.attempt_id}", "poll_path": None, "next_poll_at": at + 5}
    yield SubmitAccepted(attempt_id=intent.attempt_id, at=at, **accepted)
    made = tuple(
        MadeImage(link=Link(url=f"https://cdn.example/{slot}.png"), spool=None, expires_at=at + 36_000)
        for slot in intent.slots
    )
    yield TaskSucceeded(attempt_id=intent.attempt_id, at=at + 9, images=made)
