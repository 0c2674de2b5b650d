"""A copy that no time mends is left alone, and its row says what a person can do."""

from __future__ import annotations

import base64

import pytest

from jobs.errors import StoreError
from jobs.states import JobState
from tests.support.copies import claimed, generated, result, stored
from tests.support.worker_world import PRICE, Provider, answer, png, world
from worker.http.client import FetchError
from worker.stages.copy import copy


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
