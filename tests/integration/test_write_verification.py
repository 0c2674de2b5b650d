"""A bucket that says yes and keeps nothing, or half of it, is found out soon, and what it lost is copied again."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError

from cli.output.endings import message
from jobs.errors import StoreError
from jobs.states import JobState
from tests.support.worker_world import Provider, png, row, stock, world
from worker.local.run import Reason, run_batch
from worker.storage.base import PROBE, PutResult
from worker.storage.destinations import Destinations
from worker.storage.disk import DiskStore
from worker.storage.write_verification import LOOK_EVERY, VERIFICATION_FAILED, Look, WriteVerification

ROWS = 90
pytestmark = pytest.mark.virtual_time


class Liar(DiskStore):
    """A destination that from some put on keeps nothing, or only the beginning of what is long."""

    honest, puts, keeps = 0, 0, 0  # puts that are kept, all puts, bytes kept of the others

    def put_new(self, path, data, *, content_type, **_):
        self.puts += 1
        if self.puts > self.honest and len(data) > self.keeps:
            data = data[: self.keeps]
        return super().put_new(path, data, content_type=content_type) if data else PutResult.STORED


def whole(tmp_path):
    """The rows whose image is there."""
    return {path.parent.name for path in (tmp_path / "dest/b").rglob("*.png") if path.stat().st_size > 100}


@pytest.mark.parametrize(("honest", "keeps"), [(25, 0), (25, 40)])
async def test_a_bucket_that_begins_to_lie_stops_submits_and_what_it_did_not_keep_is_copied_again(
    tmp_path, honest, keeps
):
    provider = Provider(on_download=lambda url: png(padding=100, colour=len(url)))
    services = world(tmp_path, provider, max_in_flight=4)
    store = Liar(tmp_path / "dest")
    store.honest, store.keeps = honest, keeps
    services.destinations.verification.look_every = 10
    services.destinations.opener = lambda _: store
    stock(services, tmp_path, [row(number) for number in range(ROWS)])

    ending = await run_batch(services, "b", max_stall=3.0)

    assert (ending.exit_code, ending.reason) == (4, Reason.BUCKET_REFUSES)
    assert VERIFICATION_FAILED in message(ending)
    assert provider.submits.total() < ROWS
    stored = {line.key for line in services.ledger.reports.results("b") if line.state is JobState.DONE}
    assert stored <= whole(tmp_path), "nothing that is not there counts as stored"

    store.honest = 10**9
    services.destinations.__init__(opener=services.destinations.opener)
    ending = await run_batch(services, "b", max_stall=60.0)

    assert ending.progress.jobs == {JobState.DONE: ROWS}
    assert provider.submits.total() == ROWS
    assert len(whole(tmp_path)) == ROWS


@pytest.mark.parametrize("failures", [1, 3])
async def test_what_a_lying_bucket_may_not_have_kept_is_copied_again_though_the_ledger_failed_just_then(
    tmp_path, failures
):
    services = world(tmp_path, Provider(on_download=lambda url: png(padding=100, colour=len(url))), max_in_flight=4)
    store = Liar(tmp_path / "dest")
    store.honest = 25
    services.destinations.opener = lambda _: store
    stock(services, tmp_path, [row(number) for number in range(ROWS)])
    copy_again, tries = services.ledger.images.copy_again, []

    def away_at_first(reasons, now):
        tries.append(set(reasons))
        if len(tries) <= failures:
            raise OperationalError("UPDATE", {}, Exception("gone"))
        return copy_again(reasons, now)

    services.ledger.images.copy_again = away_at_first

    await run_batch(services, "b", max_stall=30.0)

    stored = {line.key for line in services.ledger.reports.results("b") if line.state is JobState.DONE}
    assert tries[0], "something was in doubt"
    assert stored <= whole(tmp_path), "nothing that is not there counts as stored"


def test_the_first_object_is_read_back_and_then_every_fiftieth_is_asked_for_its_size():
    verification = WriteVerification()

    looks = [verification.next_look("a") for _ in range(2 * LOOK_EVERY + 1)]

    assert [(at, look) for at, look in enumerate(looks) if look] == [
        (0, Look.BYTES), (LOOK_EVERY, Look.SIZE), (2 * LOOK_EVERY, Look.SIZE),
    ]  # fmt: skip
    assert verification.next_look("b") is Look.BYTES


def test_a_bucket_that_lied_is_believed_when_a_probe_of_the_same_size_is_kept(tmp_path):
    store = Liar(tmp_path)
    store.keeps = 100
    destinations = Destinations(opener=lambda _: store)
    verification = destinations.verification
    verification.unverified("d", 7)
    assert destinations.probe("d", 0.0), "it keeps what is small"

    assert verification.failed("d", 5_000) == 1

    assert not destinations.probe("d", 0.0)
    assert destinations.troubles["d"].code == VERIFICATION_FAILED
    assert not destinations.worked("d"), "its word alone is no proof"
    store.keeps = 10_000
    assert destinations.probe("d", 0.0)
    assert not destinations.troubles
    assert verification.probe_size("d") == 5_000, "until an image was kept"
    verification.verified("d")
    assert verification.probe_size("d") == PROBE


async def test_a_destination_without_room_is_not_taken_for_one_that_works_by_a_small_probe(tmp_path, monkeypatch):
    class Full(DiskStore):
        refused, room = 0, 100

        def put_new(self, path, data, **more):
            if len(data) > self.room:
                self.refused += 1
                raise StoreError(code="disk_full", message="no space left", retryable=True)
            return super().put_new(path, data, **more)

    services = world(tmp_path, provider := Provider(on_download=lambda _: png(padding=300)), max_in_flight=2)
    store = Full(tmp_path / "dest")
    services.destinations.opener = lambda _: store
    stock(services, tmp_path, [row(number) for number in range(60)])

    ending = await run_batch(services, "b", max_stall=3.0)

    assert ending.reason is Reason.BUCKET_REFUSES
    assert provider.submits.total() <= 8, "nothing more was sent after the first was refused"
    store.room = 10_000
    assert (await run_batch(services, "b", max_stall=3.0)).exit_code == 0


async def test_who_may_write_and_not_read_stores_all_the_same(tmp_path):
    class WriteOnly(DiskStore):
        def sha256_of(self, path):
            raise StoreError(code="bucket_denied", message=f"403 {path}", retryable=True, denied=True)

        look = sha256_of

    services = world(tmp_path, Provider())
    services.destinations.opener = lambda _: WriteOnly(tmp_path / "dest")
    stock(services, tmp_path, [row(number) for number in range(3)])

    assert (await run_batch(services, "b", max_stall=3.0)).exit_code == 0
