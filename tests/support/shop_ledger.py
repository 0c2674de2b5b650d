"""A ledger that has lived through a little of everything, and the commands that tell of it."""

from __future__ import annotations

import json
import time

import orjson
from PIL import Image
from typer.testing import CliRunner

from cli.main import app
from jobs.facts import (
    ImageChecked,
    ImageStored,
    MadeImage,
    SubmitAccepted,
    SubmitRefused,
    SubmitUnclear,
    TaskSucceeded,
)
from jobs.ledger import open_ledger
from jobs.ledger.accounts.values import AccountLimits
from jobs.ledger.batches.values import NewBatch, Row
from jobs.states import JobState
from providers.types import Kind, Link, Request
from tests.support.ledger_files import new_ledger

PIXELS = (64, 48)


def a_row(position, key, **changes):
    request = Request(prompt=f"A {key}", model="gpt-image-2", n=changes.pop("n", 1))
    made = {
        "request": request,
        "request_hash": request.hash(),
        "path": f"shop/{key}/{{index}}.{{ext}}",
        "provider": "maxapi.io",
        "provider_model": "gpt-image-2/text-to-image",
        "price": 20_000,
        "pixels": PIXELS,
    }
    left_out = {"state", "error_code", "message"} & changes.keys()
    own = orjson.dumps({"key": key, "Title": key.title()})
    return Row(position=position, line=position + 2, key=key, carried=own, **({} if left_out else made), **changes)


def open_shop(folder, dest):
    """A ledger: lamp has two images, vase was refused, sofa is unknown, rug was skipped, desk waits."""
    now = time.time()
    ledger = open_ledger(new_ledger(folder / "lightfast.db"))
    ledger.accounts.sync([AccountLimits(name="main", provider="maxapi.io", submits_per_second=50.0)])
    rows = [
        a_row(0, "lamp", n=2),
        a_row(1, "vase"),
        a_row(2, "sofa"),
        a_row(3, "rug", state=JobState.SKIPPED, error_code="empty_column", message="Title is empty"),
        a_row(4, "desk"),
    ]
    batch = NewBatch(
        name="shop",
        dest=str(dest),
        path="",
        columns=("key", "Title"),
        source="shop.csv",
        budget=1_000_000,
        delimiter=";",
    )
    ledger.batches.record_manifest(batch, rows, now=now)
    _live(ledger, dest, now)
    ledger.close()


def _live(ledger, dest, now):
    intents = {}
    while len(intents) < 4:  # one provider task makes one image here
        claim = ledger.claims.submits("main", now, lease=60.0, at_most=1, horizon=5.0)
        intents |= {(intent.key, intent.slots): intent for intent in claim.intents}
        now += 1.0
    for (key, slots), intent in sorted(intents.items()):
        if key == "lamp":
            _store(ledger, dest, intent, slots[0], now)
    refused = {"kind": Kind.MODERATION, "code": "moderation", "message": "rejected: public figure"}
    vase, sofa = intents["vase", (0,)].attempt_id, intents["sofa", (0,)].attempt_id
    ledger.facts.record([SubmitRefused(attempt_id=vase, at=now, **refused)])
    ledger.facts.record([SubmitUnclear(attempt_id=sofa, at=now, code="outcome_unknown", message="it broke [red]")])
    (desk,) = ledger.claims.submits("main", now, lease=60.0, at_most=1, horizon=5.0).intents
    empty = {"kind": Kind.ACCOUNT, "code": "no_balance", "message": "no balance (402)"}
    ledger.facts.record([SubmitRefused(attempt_id=desk.attempt_id, at=now, **empty)])


def _store(ledger, dest, intent, slot, now):
    task = f"task-{slot}"
    accepted = SubmitAccepted(attempt_id=intent.attempt_id, at=now, task_id=task, poll_path=None, next_poll_at=now + 5)
    made = MadeImage(link=Link(url="https://cdn.example/1.png"), spool=None, expires_at=now + 3600)
    ledger.facts.record([accepted, TaskSucceeded(attempt_id=intent.attempt_id, at=now + 9, images=(made,))])
    (copy,), _ = ledger.claims.copies(now + 10, holder="me", lease=60.0, at_most=1)
    path = f"shop/lamp/{slot}.png"
    facts = {"sha256": "cd" * 32, "bytes": 1234, "width": PIXELS[0], "height": PIXELS[1], "format": "png"}
    checked = ImageChecked(image_id=copy.image_id, object_path=path, **facts)
    ledger.facts.record([checked, ImageStored(image_id=copy.image_id, at=now + 11)])
    (dest / path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", PIXELS, "teal").save(dest / path)


def call(*words, code=0):
    outcome = CliRunner().invoke(app, list(words))
    if outcome.exception and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    assert outcome.exit_code == code, outcome.stderr
    return outcome


def document(*words, code=0):
    told = json.loads(call(*words, "--json", code=code).stdout)
    assert told["schema"] == 2
    return told
