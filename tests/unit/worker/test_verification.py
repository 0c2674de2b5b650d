"""`verify --repair` copies again what was asked for, here and now, and nothing else."""

from __future__ import annotations

import dataclasses

import pytest

from jobs.errors import StoreError
from jobs.facts import MadeImage, SubmitAccepted, TaskSucceeded
from jobs.states import ImageState
from providers.types import Link
from tests.support.worker_world import Provider, row, stock, world
from worker.recovery.verification import copy_now
from worker.storage.destinations import Destinations

pytestmark = pytest.mark.virtual_time


class Clock:
    """Time passes by sleeping alone."""

    offset, time = 0.0, 1_800_000_000.0

    def now(self):
        return self.time

    boot = now

    async def sleep(self, seconds):
        self.time += seconds


def generated(services, tmp_path, batch):
    """The id of an image that waits to be copied."""
    stock(services, tmp_path, [row(0, path=f"{batch}/k0/{{index}}.{{ext}}")], name=batch)
    now = services.clock.now()
    (intent,) = services.ledger.claims.submits("main", now, lease=900.0, only=batch).intents
    made = MadeImage(link=Link(url=f"https://cdn.test/{batch}/0.png"), spool=None, expires_at=now + 3600)
    taken = {"attempt_id": intent.attempt_id, "at": now, "task_id": batch}
    services.ledger.facts.record([SubmitAccepted(**taken, poll_path=None, next_poll_at=now + 60)])
    services.ledger.facts.record([TaskSucceeded(**taken, images=(made,))])
    ((due,), _) = services.ledger.claims.copies(now, holder="me", lease=0.0, at_most=1, only=batch)
    return due.image_id


async def test_a_repair_copies_nothing_of_other_batches(tmp_path):
    services = world(tmp_path, Provider())
    other = generated(services, tmp_path, "other")
    mine = generated(services, tmp_path, "mine")

    await copy_now(services, "mine", [mine])

    assert services.ledger.images.states([mine]) == {ImageState.STORED: 1}
    assert services.ledger.images.states([other]) == {ImageState.GENERATED: 1}
    assert not (tmp_path / "dest/other").exists()


async def test_a_repair_at_a_destination_that_takes_no_writes_ends(tmp_path):
    def refuse(_dest):
        raise StoreError(code="bucket_denied", message="read only", retryable=True, denied=True)

    clock = Clock()
    services = dataclasses.replace(world(tmp_path, Provider()), clock=clock, destinations=Destinations(opener=refuse))
    mine = generated(services, tmp_path, "mine")

    await copy_now(services, "mine", [mine])

    assert services.ledger.images.states([mine]) == {ImageState.GENERATED: 1}
    assert clock.time < 1_800_000_030.0
