"""A paid image reaches its place whole, under its own key, or waits until its link is dead for good."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import errno
import hashlib
import json
import os

import pytest

from jobs.errors import StoreError
from jobs.facts import ImageStored, MadeImage, SubmitAccepted, TaskSucceeded
from jobs.states import JobState
from providers.types import Link, Request
from tests.support.worker_world import PRICE, Provider, answer, png, row, stock, world
from worker.http.client import FetchError
from worker.images.staging import MEMORY, Body, remove_stale_bodies
from worker.recording.recorder import Recorder
from worker.stages.copy import copy
from worker.storage.destinations import Destinations

DEAD = FetchError("link_dead", "cdn answered 403", dead_link=True)


def generated(services, tmp_path, *, url="https://cdn.test/t/0.png?sig=1", b64=None, lives=3600.0, batch=None, **rows):
    """An image whose copy is claimed."""
    stock(services, tmp_path, [row(0, **rows)], **(batch or {}))
    now = services.clock.now()
    (intent,) = services.ledger.claims.submits("main", now, lease=900.0).intents
    spool = services.staging.keep(intent.attempt_id, 0, b64) if b64 else None
    made = MadeImage(link=Link(url=None if b64 else url), spool=spool, expires_at=now + lives)
    services.ledger.facts.record(
        [
            SubmitAccepted(attempt_id=intent.attempt_id, at=now, task_id="t", poll_path=None, next_poll_at=now + 60),
            TaskSucceeded(attempt_id=intent.attempt_id, at=now, images=(made,)),
        ],
    )
    return claimed(services)


def claimed(services, *, later: float = 0.0):
    now = services.clock.now() + later
    ((due,), _) = services.ledger.claims.copies(now, holder="me", lease=60.0, at_most=5)
    return due


def result(services):
    (only,) = services.ledger.reports.results("b")
    return only


def stored(services, tmp_path):
    (image,) = result(services).images
    assert result(services).state is JobState.DONE
    content = (tmp_path / "dest" / image.path).read_bytes()
    assert hashlib.sha256(content).hexdigest() == image.sha256
    return image


async def test_an_image_is_stored_under_its_key_with_what_was_found_in_its_bytes(tmp_path):
    services = world(tmp_path, Provider(on_download=lambda _: png(8, 2)))

    await copy(services, generated(services, tmp_path))

    image = stored(services, tmp_path)
    assert (image.path, image.width, image.height, image.format) == ("b/k0/0.png", 8, 2, "png")
    assert image.flags == ("wrong-pixels",)


async def test_bytes_without_a_link_are_stored_from_their_file_which_is_then_gone(tmp_path):
    services = world(tmp_path, Provider())
    due = generated(services, tmp_path, b64=base64.b64encode(png()).decode())

    await copy(services, due)

    assert stored(services, tmp_path).path == "b/k0/0.png"
    assert not list(services.staging.folder.iterdir())


async def test_a_dead_link_is_asked_for_anew_and_the_fresh_one_of_the_same_image_is_used(tmp_path):
    provider = Provider(on_download=lambda url: DEAD if url.endswith("sig=1") else None)
    urls = ["https://cdn.test/t/other.png?sig=2", "https://cdn.test/t/0.png?sig=2"]
    provider.on_poll = lambda _: answer({"code": 0, "data": {"status": "SUCCESS", "result": {"urls": urls}}})
    services = world(tmp_path, provider)

    await copy(services, generated(services, tmp_path))

    stored(services, tmp_path)
    assert (tmp_path / "dest/b/k0/0.png").read_bytes() == provider.picture("https://cdn.test/t/0.png")


async def test_the_provider_an_accounts_name_has_gone_to_is_not_asked_for_anothers_link(tmp_path):
    services = world(tmp_path, provider := Provider(on_download=lambda _: DEAD))
    due = generated(services, tmp_path, lives=-1.0)

    await copy(services, dataclasses.replace(due, provider="apimaster"))

    assert (result(services).state, provider.polls.total()) == (JobState.WORKING, 0)


@pytest.mark.parametrize(
    ("lives", "expected"), [(3600.0, JobState.WORKING), (-1.0, JobState.WORKING), (-7200.0, JobState.LOST)]
)
async def test_a_dead_link_is_lost_only_when_its_time_is_well_over(tmp_path, lives, expected):
    gone = {"code": 0, "data": {"status": "FAILURE", "error": "gone"}}
    services = world(tmp_path, Provider(on_download=lambda _: DEAD, on_poll=lambda _: answer(gone)))

    await copy(services, generated(services, tmp_path, lives=lives))

    assert result(services).state is expected
    assert sum(services.http.polls.values()) == 1
    assert services.ledger.reports.progress("b").lost_money == (PRICE if expected is JobState.LOST else 0)


@pytest.mark.parametrize(("lives", "expected"), [(-60.0, "generated"), (-7_200.0, "lost")])
async def test_a_provider_that_does_not_find_the_task_is_believed_after_a_while_only(tmp_path, lives, expected):
    unknown = answer({"code": 404, "msg": "task not found"}, 404)
    services = world(tmp_path, Provider(on_download=lambda _: DEAD, on_poll=lambda _: unknown))

    await copy(services, generated(services, tmp_path, lives=lives))

    assert result(services).images[0].state == expected


@pytest.mark.parametrize(("lives", "expected"), [(-3_600.0, "generated"), (-90_000.0, "lost")])
async def test_a_provider_that_says_nothing_has_not_said_that_the_image_is_lost(tmp_path, lives, expected):
    services = world(tmp_path, Provider(on_download=lambda _: DEAD, on_poll=lambda _: answer(b"", 500)))

    await copy(services, generated(services, tmp_path, lives=lives))

    assert result(services).images[0].state == expected


async def test_of_an_account_that_is_gone_nobody_has_said_that_its_image_is_lost(tmp_path):
    services = world(tmp_path, Provider(on_download=lambda _: DEAD))
    due = generated(services, tmp_path, lives=-1.0)

    gone = services.settings.model_copy(update={"accounts": {}})
    await copy(dataclasses.replace(services, settings=gone), due)

    assert result(services).images[0].state == "generated"


@pytest.mark.parametrize(
    "broken", [b"<html>", png()[:-9], FetchError("download_failed", "cdn answered 503", retryable=True)]
)
async def test_what_goes_wrong_by_chance_after_the_links_time_loses_nothing(tmp_path, broken):
    services = world(tmp_path, Provider(on_download=lambda _: broken))

    await copy(services, generated(services, tmp_path, lives=-5.0))

    assert result(services).images[0].state == "generated"


@pytest.mark.virtual_time  # else a slow machine looks at the shortest when it is dead
@pytest.mark.parametrize("lives", [0.5, 4.0, 20.0, 100.0, 10_000.0])
async def test_a_retry_does_not_wait_until_the_link_is_dead(tmp_path, lives):
    services = world(tmp_path, Provider(on_download=lambda _: FetchError("download_failed", "503", retryable=True)))
    due = dataclasses.replace(generated(services, tmp_path, lives=lives), tries=9)

    await copy(services, due)

    wait = result(services).images[0].next_copy_at - services.clock.now()
    assert wait <= max(0.6, 0.3 * lives)


async def test_a_disk_without_room_for_a_download_is_told_and_loses_nothing(tmp_path):
    async def full(_url):
        raise OSError(errno.ENOSPC, "No space left on device")

    services = world(tmp_path, Provider(on_download=full))

    await copy(services, generated(services, tmp_path))

    assert services.ledger.reports.progress("b").copy_errors == {"disk_full": 1}


# -- what a batch asks of its copies -------------------------------------------------------------------------------


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


# -- memory --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1_000, MEMORY * 2])
async def test_what_copies_hold_in_memory_is_bounded_and_given_back(tmp_path, size):
    services = world(tmp_path, Provider(on_download=lambda _: png(padding=size)))
    due = generated(services, tmp_path)

    await copy(services, due)

    stored(services, tmp_path)
    assert services.memory.used == 0
    assert services.memory.peak <= max(MEMORY, size + 1_000)


def test_bodies_that_dead_processes_left_are_removed_and_those_in_use_are_not(tmp_path):
    body, left = Body(tmp_path), tmp_path / "lightfast-body-left"
    body.write(bytes(MEMORY + 1))
    left.write_bytes(b"left")
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))

    assert remove_stale_bodies(tmp_path) == 1
    assert body.content().exists()
    assert not left.exists()
    body.close()


@pytest.mark.parametrize(("lives", "expected"), [(-60.0, "generated"), (-7_200.0, "lost")])
async def test_a_file_that_is_gone_is_lost_although_its_links_are_signed_anew(tmp_path, lives, expected):
    fresh = iter(range(9))

    def signed_anew(_task_id):
        link = f"https://cdn.test/t/0.png?sig={next(fresh)}"
        return answer({"code": 0, "data": {"status": "SUCCESS", "result": {"urls": [link]}}})

    services = world(tmp_path, Provider(on_download=lambda _: DEAD, on_poll=signed_anew))
    await copy(services, generated(services, tmp_path, lives=lives))

    (image,) = result(services).images
    assert image.state == expected
    assert image.link_expires_at < services.clock.now()


@pytest.mark.parametrize("body", [png()[:-6], b"<html>login</html>", b""], ids=["cut off", "html", "empty"])
async def test_what_is_no_whole_image_is_never_published(tmp_path, body):
    services = world(tmp_path, Provider(on_download=lambda _: body))

    await copy(services, generated(services, tmp_path))

    assert result(services).state is JobState.WORKING
    assert not list(tmp_path.glob("dest/**/*.*"))


async def test_a_put_that_was_done_and_not_recorded_is_found_and_not_done_again(tmp_path):
    provider = Provider()
    services = world(tmp_path, provider)
    dies = dataclasses.replace(services, recorder=DiesBeforeTheLast(services.recorder))
    with pytest.raises(asyncio.CancelledError):
        await copy(dies, generated(services, tmp_path))

    await copy(services, claimed(services, later=120.0))

    stored(services, tmp_path)
    assert sum(provider.downloads.values()) == 1


async def test_somebody_elses_object_is_left_alone_and_ours_stands_beside_it(tmp_path):
    services = world(tmp_path, Provider())
    theirs = tmp_path / "dest/b/k0/0.png"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")

    await copy(services, generated(services, tmp_path))

    image = stored(services, tmp_path)
    assert (image.path, image.flags) == ("b/k0/0~2.png", ("path-conflict",))
    assert theirs.read_bytes() == b"theirs"


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")])
async def test_what_is_no_file_in_an_images_place_is_left_alone_and_the_image_stands_beside_it(tmp_path, make):
    services = world(tmp_path, Provider())
    (tmp_path / "dest/b/k0").mkdir(parents=True)
    make(tmp_path / "dest/b/k0/0.png")

    async with asyncio.timeout(60):
        await copy(services, generated(services, tmp_path))

    assert stored(services, tmp_path).path == "b/k0/0~2.png"


async def test_a_bucket_that_refuses_is_noted_and_the_next_write_that_works_ends_the_trouble(tmp_path):
    services = world(tmp_path, Provider())
    refusing = Refusing(services.destinations)
    services.destinations.opener = refusing.open

    await copy(services, generated(services, tmp_path))
    (trouble,) = services.destinations.troubles.values()
    refusing.now = False
    await copy(services, claimed(services, later=120.0))

    assert (trouble.code, trouble.denied) == ("denied", True)
    assert not services.destinations.troubles
    stored(services, tmp_path)


async def test_bytes_whose_destination_refuses_wait_on_our_disk_while_their_link_dies(tmp_path):
    provider = Provider()
    services = world(tmp_path, provider)
    refusing = Refusing(services.destinations)
    services.destinations.opener = refusing.open
    await copy(services, generated(services, tmp_path, lives=60.0))

    refusing.now = False
    provider.on_download = lambda _: DEAD
    await copy(services, claimed(services, later=7_200.0))

    stored(services, tmp_path)
    assert not list(services.staging.folder.iterdir())


async def test_while_a_destination_refuses_what_soon_dies_is_fetched_and_nothing_is_put(tmp_path):
    services = world(tmp_path, Provider())
    services.destinations.opener = lambda _dest: pytest.fail("it was opened")
    dest = str(tmp_path / "dest")
    due = generated(services, tmp_path, lives=60.0)
    services.destinations.refused(dest, StoreError(code="denied", message="", retryable=False, denied=True), 0.0)

    await copy(services, due)

    (image,) = result(services).images
    assert (image.state, services.ledger.reports.progress("b").copy_errors) == ("generated", {"denied": 1})
    assert image.link_expires_at > services.clock.now() + 86_400
    assert len(list(services.staging.folder.iterdir())) == 1


async def test_what_may_be_stored_already_is_not_lost_while_its_destination_cannot_be_asked(tmp_path):
    gone = {"code": 0, "data": {"status": "FAILURE", "error": "gone"}}
    provider = Provider(on_poll=lambda _: answer(gone))
    services = world(tmp_path, provider)
    dies = dataclasses.replace(services, recorder=DiesBeforeTheLast(services.recorder))
    with pytest.raises(asyncio.CancelledError):
        await copy(dies, generated(services, tmp_path, lives=60.0))
    dest, refuses = str(tmp_path / "dest"), StoreError(code="denied", message="", retryable=False, denied=True)
    provider.on_download = lambda _: DEAD
    services.destinations.refused(dest, refuses, services.clock.now())
    due = dataclasses.replace(claimed(services, later=120.0), expires_at=services.clock.now() - 7_200.0)

    await copy(services, due)
    assert result(services).images[0].state == "generated"
    services.destinations.worked(dest)
    await copy(services, claimed(services, later=240.0))

    stored(services, tmp_path)


async def test_a_disk_with_little_room_keeps_nothing_and_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("worker.images.staging.SPARE", 1 << 60)
    services = world(tmp_path, Provider())
    refusing = Refusing(services.destinations)
    services.destinations.opener = refusing.open

    await copy(services, generated(services, tmp_path, lives=60.0))
    assert result(services).images[0].link_expires_at < services.clock.now() + 61
    services.destinations.worked(str(tmp_path / "dest"))
    refusing.now = False
    await copy(services, claimed(services, later=30.0))

    stored(services, tmp_path)


class DiesBeforeTheLast:
    """A process that is killed between the put and its record."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def record(self, *facts):
        if isinstance(facts[0], ImageStored):
            raise asyncio.CancelledError
        await self._recorder.record(*facts)


class Refusing:
    """A destination that may not be written, until it may."""

    def __init__(self, destinations: Destinations, only: str = "") -> None:
        self.now = True
        self._only = only
        self._real = destinations.opener

    def open(self, dest):
        store = self._real(dest)
        put_new = store.put_new

        def refuse(path, *args, **kwargs):
            if self.now and path.endswith(self._only):
                raise StoreError(code="denied", message="403", retryable=False, denied=True)
            return put_new(path, *args, **kwargs)

        store.put_new = refuse
        return store


# -- what only a person can help -----------------------------------------------------------------------------------


class _Picky:
    """A store that refuses some names, as MinIO does."""

    def __init__(self, store, refuses):
        self._store, self._refuses = store, refuses

    def __getattr__(self, name):
        return getattr(self._store, name)

    def put_new(self, path, *content, **told):
        if self._refuses(path):
            message = f"s3://b/{path}: 400 XMinioInvalidObjectName"
            raise StoreError(code="bucket_refused", message=message, retryable=False)
        return self._store.put_new(path, *content, **told)


def picky(services, refuses):
    real = services.destinations.opener
    services.destinations.opener = lambda dest: _Picky(real(dest), refuses)


async def copied_until_it_is_left_alone(services, due):
    for tries in range(1, 6):
        await copy(services, due)
        again, next_at = services.ledger.claims.copies(services.clock.now() + 1e5, holder="me", lease=0.0, at_most=5)
        if not again:
            assert next_at is None
            return tries
        due = again[0]
    raise AssertionError("it is tried for ever")


async def test_a_name_that_a_destination_does_not_take_is_made_plain_and_told(tmp_path):
    services = world(tmp_path, Provider())
    picky(services, lambda path: "\\" in path)

    await copy(services, generated(services, tmp_path, path="b/a\\b ü/{index}.{ext}"))

    image = stored(services, tmp_path)
    assert (image.path, image.flags) == ("b/a%5Cb %C3%BC/0.png", ("safe-name",))


async def test_what_no_time_mends_is_left_alone_and_its_row_is_held_with_the_reason(tmp_path):
    services = world(tmp_path, Provider())
    picky(services, lambda _: True)

    tries = await copied_until_it_is_left_alone(services, generated(services, tmp_path))

    progress = services.ledger.reports.progress("b")
    assert tries == 3
    assert (result(services).state, result(services).error_code) == (JobState.HELD, "bucket_refused")
    assert (progress.images_generated, progress.images_stuck, progress.stuck_money) == (0, 1, PRICE)
    assert [(each.key, each.code) for each in progress.stuck] == [("k0", "bucket_refused")]
    assert services.ledger.reports.at_risk() == (1, PRICE)
    assert list(services.staging.folder.iterdir()), "its link may die while a person is asleep"


async def test_on_a_persons_word_it_is_tried_once_more_and_stored_where_that_was_mended(tmp_path):
    services = world(tmp_path, Provider())
    refuses = True
    picky(services, lambda _: refuses)
    await copied_until_it_is_left_alone(services, generated(services, tmp_path))

    services.ledger.batches.resume("b", services.clock.now())
    assert result(services).state is JobState.WORKING
    assert await copied_until_it_is_left_alone(services, claimed(services, later=1.0)) == 1
    assert result(services).state is JobState.HELD

    refuses = False
    services.ledger.batches.retry_copies("b", services.clock.now())
    await copy(services, claimed(services, later=1.0))
    stored(services, tmp_path)
    assert result(services).error_code is None
    assert not list(services.staging.folder.iterdir())


async def test_what_waits_for_a_person_can_be_given_up(tmp_path):
    services = world(tmp_path, Provider())
    picky(services, lambda _: True)
    await copied_until_it_is_left_alone(services, generated(services, tmp_path))

    now = services.clock.now() + 1e6
    (waiting,) = services.ledger.images.awaited("b", ["k0"], now)
    assert services.ledger.images.give_up([waiting.image_id], now) == {waiting.image_id}
    assert result(services).state is JobState.LOST
    assert services.ledger.reports.progress("b").lost_money == PRICE


async def test_base64_that_nobody_can_read_is_asked_for_anew_and_then_waits_for_a_person(tmp_path):
    text = {"code": 0, "data": {"status": "SUCCESS", "result": {"urls": ["https://cdn.test/t/0.png?sig=1"]}}}
    provider = Provider(on_poll=lambda _: answer(text), on_download=lambda _: b"<html>gone</html>")
    services = world(tmp_path, provider)

    await copied_until_it_is_left_alone(services, generated(services, tmp_path, b64="!!! none !!!"))

    assert (result(services).state, result(services).error_code) == (JobState.HELD, "bytes_unreadable")

    provider.on_download = None
    services.ledger.batches.retry_copies("b", services.clock.now())
    await copy(services, claimed(services, later=1.0))
    stored(services, tmp_path)


@pytest.mark.parametrize(
    "change", [lambda text: text.replace("+", "-").replace("/", "_"), lambda t: t.replace("+", " ")]
)
async def test_base64_as_addresses_and_forms_write_it_is_read(tmp_path, change):
    services = world(tmp_path, Provider())
    text = base64.b64encode(png(pixels=bytes(range(256)) * 9, padding=64) + b"\xfb\xff\xfe" * 9).decode()
    assert "+" in text

    await copy(services, generated(services, tmp_path, b64=change(text)))

    stored(services, tmp_path)


async def test_a_whole_gif_is_kept_as_what_it_is(tmp_path):
    dot = b",\0\0\0\0\x04\0\x04\0\0\x02\x04\x84\x8f\t\x05\0;"
    gif = b"GIF89a\x04\0\x04\0\x80\0\0" + b"\0\0\0\xff\xff\xff" + dot
    services = world(tmp_path, Provider(on_download=lambda _: gif))

    await copy(services, generated(services, tmp_path))

    image = stored(services, tmp_path)
    assert (image.path, image.format, image.width, image.flags) == ("b/k0/0.gif", "gif", 4, ("other-format",))


async def test_the_words_of_a_refusal_stay_with_the_image(tmp_path):
    refused = FetchError("link_dead", 'cdn.test answered 403: "error code: 1010"', dead_link=True)
    services = world(tmp_path, Provider(on_download=lambda _: refused))

    await copy(services, generated(services, tmp_path))

    (image,) = result(services).images
    assert 'answered 403: "error code: 1010"' in image.message
    assert services.ledger.reports.progress("b").copy_words == {"link_dead": image.message}


@pytest.mark.parametrize("code", ["forbidden_address", "too_large"])
async def test_a_link_that_no_time_will_mend_waits_for_a_person_too(tmp_path, code):
    services = world(tmp_path, Provider(on_download=lambda _: FetchError(code, "10.0.0.7 is a private address")))

    assert await copied_until_it_is_left_alone(services, generated(services, tmp_path)) == 3

    assert (result(services).state, result(services).error_code) == (JobState.HELD, code)


async def test_a_dead_link_or_a_page_is_tried_on_since_time_may_help(tmp_path):
    services = world(tmp_path, Provider(on_download=lambda _: b"<html>wait</html>"))
    due = generated(services, tmp_path, lives=1e6)
    for _ in range(6):
        await copy(services, due)
        due = claimed(services, later=1e5)

    assert result(services).state is JobState.WORKING
