"""A paid image reaches its place whole, under its own key, or waits until its link is dead for good."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import errno
import io
import os

import pytest
from PIL import Image

from jobs.errors import StoreError
from jobs.facts import ImageStored
from jobs.states import JobState
from tests.support.copies import DEAD, Refusing, claimed, generated, result, stored
from tests.support.worker_world import PRICE, Provider, answer, png, world
from worker.http.client import FetchError
from worker.images.staging import MEMORY, Body, Staging, remove_stale
from worker.recording.recorder import Recorder
from worker.stages.copy import copy


async def test_an_image_is_stored_under_its_key_with_what_was_found_in_its_bytes(tmp_path):
    services = world(tmp_path, Provider(on_download=lambda _: png(8, 2)))

    await copy(services, generated(services, tmp_path))

    image = stored(services, tmp_path)
    assert (image.path, image.width, image.height, image.format) == ("b/k0/0.png", 8, 2, "png")
    assert image.flags == ("wrong-pixels",)


@pytest.mark.parametrize(("orientation", "pixels"), [(1, (768, 1024)), (6, (1024, 768))])
async def test_pixels_and_their_flag_are_of_the_image_as_it_is_shown(tmp_path, orientation, pixels):
    """A camera's way: stored on its side, with a note how to turn it."""
    exif, into = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.new("RGB", (768, 1024)).save(into, "JPEG", exif=exif)
    services = world(tmp_path, Provider(on_download=lambda _: into.getvalue()))

    await copy(services, generated(services, tmp_path, pixels=(1024, 768)))

    image = stored(services, tmp_path)
    assert (image.width, image.height) == pixels
    assert image.flags == (() if orientation == 6 else ("wrong-pixels",))


async def test_bytes_without_a_link_are_stored_from_their_file_which_is_then_gone(tmp_path):
    services = world(tmp_path, Provider())
    due = generated(services, tmp_path, b64=base64.b64encode(png()).decode())

    await copy(services, due)

    assert stored(services, tmp_path).path == "b/k0/0.png"
    assert not list(services.staging.folder.iterdir())


async def test_bytes_without_a_link_are_found_after_the_ledgers_folder_was_moved(tmp_path):
    services = world(tmp_path, Provider())
    due = generated(services, tmp_path, b64=base64.b64encode(png()).decode())
    now_at = services.staging.folder.rename(tmp_path / "moved-spool")
    services = dataclasses.replace(services, staging=Staging(now_at))

    await copy(services, due)

    assert stored(services, tmp_path).path == "b/k0/0.png"
    assert not list(now_at.iterdir())


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

    assert remove_stale(tmp_path) == 1
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
