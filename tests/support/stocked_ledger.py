"""A stocked ledger, and one claimer as a process: `python stock.py URL HOW_OFTEN NOW HORIZON`."""

from __future__ import annotations

import dataclasses
import sys

from jobs.facts import ImageChecked, ImageStored, MadeImage, SubmitAccepted, TaskStillRunning, TaskSucceeded
from jobs.ledger import Ledger, open_ledger
from jobs.ledger.accounts.values import AccountLimits
from jobs.ledger.batches.values import Batch, NewBatch, Row
from providers.types import Link, Request

PRICE = 20_000
NOW = 1_800_000_000.0


def rows(count: int, *, n: int = 1, max_n: int = 10, prompt: str = "a lamp", first: int = 0) -> list[Row]:
    return [row(position, n=n, max_n=max_n, prompt=f"{prompt} {position}") for position in range(first, first + count)]


def row(position: int, *, n: int = 1, max_n: int = 10, prompt: str = "a lamp") -> Row:
    request = Request(prompt=prompt, model="gpt-image-2", ratio="1:1", resolution="1k", n=n)
    return Row(
        position=position,
        line=position + 2,
        key=f"k{position}",
        carried=b'{"Title":"Lamp"}',
        request=request,
        request_hash=request.hash(),
        path=f"spring/k{position}/{{index}}.{{ext}}",
        provider="maxapi.io",
        provider_model="gpt-image-2/text-to-image",
        price=PRICE,
        pixels=(1024, 1024),
        max_n=max_n,
    )


def priced(row: Row, price: int | None) -> Row:
    return dataclasses.replace(row, price=price)


def new_batch(name: str = "spring", **changes: object) -> NewBatch:
    values = {"name": name, "dest": "/tmp/dest", "path": "{batch}/{key}/{index}.{ext}", "columns": ("Title",)}
    return NewBatch(**{**values, "source": "spring.csv", **changes})


def account(**changes: object) -> AccountLimits:
    values = {"name": "main", "provider": "maxapi.io", "submits_per_second": 1e6, "polls_per_second": 1e6}
    return AccountLimits(**{**values, "max_in_flight": 1000, **changes})


def stock(ledger: Ledger, manifest: list[Row], *, limits: AccountLimits | None = None, **batch: object) -> Batch:
    ledger.accounts.sync([limits or account()])
    return ledger.batches.record_manifest(new_batch(**batch), manifest, now=NOW)


def claim(ledger: Ledger, now: float, *, times: int = 1, horizon: float = 0.25, at_most: int = 64) -> int:
    claimed = 0
    for _ in range(times):
        claimed += len(ledger.claims.submits("main", now, lease=90, at_most=at_most, horizon=horizon).intents)
    return claimed


def made(url: str = "https://cdn.example/0.png", *, expires_at: float = NOW + 3600) -> MadeImage:
    return MadeImage(link=Link(url=url), spool=None, expires_at=expires_at)


def make(ledger: Ledger, at: float = NOW, number: int = 1) -> None:
    """The facts of some images, as a worker records them: those of one kind together."""
    claimed = ledger.claims.submits("main", at, lease=90, at_most=number).intents
    attempts = [intent.attempt_id for intent in claimed]
    record = ledger.facts.record
    record(
        [
            SubmitAccepted(attempt_id=each, at=at, task_id=f"t{each}", poll_path=None, next_poll_at=at)
            for each in attempts
        ]
    )
    assert [due.attempt_id for due in ledger.claims.polls("main", at, lease=60)[0]] == attempts
    record([TaskStillRunning(attempt_id=each, at=at, next_poll_at=at) for each in attempts])
    record([TaskSucceeded(attempt_id=each, at=at, images=(made(),)) for each in attempts])
    copied = [due.image_id for due in ledger.claims.copies(at, holder="me", lease=60, at_most=number)[0]]
    size = {"bytes": 9, "width": 1, "height": 1, "format": "png"}
    record([ImageChecked(image_id=each, object_path=f"{each}.png", sha256="0" * 64, **size) for each in copied])
    record([ImageStored(image_id=each, at=at) for each in copied])


if __name__ == "__main__":
    opened = open_ledger(sys.argv[1])
    sys.stdin.readline()  # all start together
    sys.stdout.write(
        str(claim(opened, float(sys.argv[3]), times=int(sys.argv[2]), horizon=float(sys.argv[4]), at_most=3))
    )
