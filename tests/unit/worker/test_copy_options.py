"""What a batch asks of its copies: exact pixels, a full decode, a sidecar."""

from __future__ import annotations

import dataclasses
import json

import pytest

from jobs.states import JobState
from providers.types import Request
from tests.support.copies import Refusing, claimed, generated, result, stored
from tests.support.worker_world import PRICE, Provider, png, world
from worker.stages.copy import copy


async def test_under_strict_size_other_pixels_fail_the_row_and_what_was_paid_is_kept(tmp_path):
    services = world(tmp_path, Provider(on_download=lambda _: png(8, 2)))

    await copy(services, generated(services, tmp_path, batch={"strict_size": True}))

    row_ = result(services)
    progress = services.ledger.reports.progress("b")
    assert (row_.state, row_.error_code) == (JobState.FAILED, "wrong_pixels")
    assert (tmp_path / "dest/b/k0/0.png").read_bytes() == png(8, 2)
    assert (row_.cost, progress.batch.charged, progress.wrong_pixels) == (PRICE, PRICE, 1)
    assert (progress.images_stored, progress.errors) == (1, {"wrong_pixels": 1})
    assert services.ledger.batches.retry("b", services.clock.now()) == 0, (
        "its slot is full; a redo makes another beside it"
    )
    assert services.ledger.batches.redo("b", [("k0", None)], services.clock.now()) == 1
    assert result(services).state is JobState.READY


async def test_other_pixels_are_kept_flagged_and_counted_where_nobody_is_strict(tmp_path):
    services = world(tmp_path, Provider(on_download=lambda _: png(8, 2)))

    await copy(services, generated(services, tmp_path))

    assert result(services).state is JobState.DONE
    assert services.ledger.reports.progress("b").wrong_pixels == 1


@pytest.mark.parametrize(("decode", "state"), [(True, "generated"), (False, "stored")])
async def test_a_picture_that_cannot_be_decoded_is_stored_only_where_nobody_asked(tmp_path, decode, state):
    services = world(tmp_path, Provider(on_download=lambda _: png(4, 4, pixels=b"short")))

    await copy(services, generated(services, tmp_path, batch={"decode": decode}))

    assert result(services).images[0].state == state


async def test_a_sidecar_tells_where_an_image_comes_from_and_no_secret(tmp_path):
    services = world(tmp_path, Provider())
    references = ("https://shop.test/a.png?X-Amz-Signature=secret", "https://mia:secret@shop.test/b.png")
    due = generated(services, tmp_path, batch={"sidecar": True})
    request = dataclasses.replace(Request.from_json(due.request), references=references)

    await copy(services, dataclasses.replace(due, request=request.to_json()))

    image = stored(services, tmp_path)
    told = json.loads((tmp_path / "dest/b/k0/0.json").read_text())
    assert (told["prompt"], told["task_id"], told["price_usd"]) == ("lamp 0", "t", 0.02)
    assert (told["file"], told["sha256"], told["width"]) == (image.path, image.sha256, image.width)
    assert told["request"]["references"] == ["https://shop.test/a.png", "https://shop.test/b.png"]
    assert "secret" not in json.dumps(told)


async def test_a_sidecar_that_cannot_be_written_delays_the_copys_end_and_the_image_is_safe(tmp_path):
    provider = Provider()
    services = world(tmp_path, provider)
    refusing = Refusing(services.destinations, only=".json")
    services.destinations.opener = refusing.open
    await copy(services, generated(services, tmp_path, batch={"sidecar": True}))
    assert result(services).images[0].state == "generated"
    assert (tmp_path / "dest/b/k0/0.png").exists()

    refusing.now = False
    await copy(services, claimed(services, later=120.0))

    stored(services, tmp_path)
    assert json.loads((tmp_path / "dest/b/k0/0.json").read_text())["key"] == "k0"
    assert sum(provider.downloads.values()) == 1


async def test_a_sidecar_is_written_once_and_never_over_anything(tmp_path):
    services = world(tmp_path, Provider())
    theirs = tmp_path / "dest/b/k0/0.json"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")

    await copy(services, generated(services, tmp_path, batch={"sidecar": True}))

    stored(services, tmp_path)
    assert theirs.read_text() == "theirs"
