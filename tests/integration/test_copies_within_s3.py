"""--reuse within S3: the store copies the object by itself, and what the copy holds is proven before it counts."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, replace

import orjson
import pytest
import structlog
from sqlalchemy import select, update

from jobs.facts import ImageChecked
from jobs.ledger.batches.values import NewBatch
from jobs.ledger.claims.reuse import ReuseOptions
from jobs.ledger.database.schema import images, jobs
from jobs.policy.reuse import Reuse
from jobs.states import ImageState, JobState
from tests.support.s3_server import S3Server, minio_names, s3_server
from tests.support.worker_world import Provider, png, row, stock, world
from worker.local.run import run_batch
from worker.services import Services
from worker.stages.copy import copy
from worker.storage.base import CopyResult, CopySource
from worker.storage.destinations import WIDEST

SPRING, SUMMER = "s3://shop-img/spring", "s3://shop-img/summer"
REFUSED = (501, "NotImplemented")
COPY_HEADER = "x-amz-copy-source"
METADATA = {
    "lightfast-batch": "c",
    "lightfast-key": "k0",
    "lightfast-index": "0",
    "lightfast-request": row(0).request_hash,
}


@pytest.fixture
def server(monkeypatch):
    with s3_server() as served:
        for name, value in served.environment.items():
            monkeypatch.setenv(name, value)
        yield served


@dataclass(frozen=True, slots=True)
class Shop:
    """A ledger with a batch `b` whose images are stored, and a batch `c` that takes them."""

    services: Services

    def due(self, later=0.0, most=2_000):
        now = self.services.clock.now() + later
        return self.services.ledger.claims.copies(now, holder="me", lease=60.0, at_most=most)[0]

    def results(self):
        return list(self.services.ledger.reports.results("c"))

    def result(self):
        (only,) = self.results()
        return only

    async def copy_all(self, later=0.0):
        """As many side by side as a destination takes."""
        at_once = asyncio.Semaphore(WIDEST)

        async def one(each):
            async with at_once:
                await copy(self.services, each)

        await asyncio.gather(*map(one, self.due(later)))


def shop(tmp_path, count=1, *, source=SPRING, dest=SUMMER, **batch):
    services = world(tmp_path, Provider())
    stock(services, tmp_path, [row(number) for number in range(count)], dest=source)
    store = services.destinations.store(source)
    stored = []
    for number in range(count):
        content, path = png(4, 4, colour=number + 1, padding=number), f"b/k{number}/0.png"
        metadata = {"lightfast-batch": "b", "lightfast-key": f"k{number}", "lightfast-index": "0"}
        store.put(path, content, content_type="image/png", metadata=metadata)
        told = {"object_path": path, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        stored.append({**told, "width": 4, "height": 4, "format": "png", "stored_at": 1.0})
    with services.ledger._database.writing() as tx:
        for number, told in enumerate(stored):
            mine = select(jobs.c.id).where(jobs.c.key == f"k{number}").scalar_subquery()
            values = {"state": ImageState.STORED.value, **told}
            tx.execute(update(images).where(images.c.job_id == mine).values(**values))
        tx.execute(update(jobs).values(state=JobState.DONE.value))
    manifest = [replace(row(number), path=f"c/k{number}/{{index}}.{{ext}}") for number in range(count)]
    new = NewBatch(name="c", dest=dest, path="{batch}/{key}/{index}.{ext}", columns=(), source="c.csv", **batch)
    wish = ReuseOptions(how=Reuse.COPY, at_least=count)
    services.ledger.batches.record_manifest(new, manifest, reuse_images=wish, now=services.clock.now())
    return Shop(services)


def content_of(server: S3Server, path="summer/c/k0/0.png"):
    return server.objects.get(f"shop-img/{path}")


def described(server: S3Server, path="summer/c/k0/0.png"):
    return {name.removeprefix("x-amz-meta-"): told for name, told in server.described[f"shop-img/{path}"].items()}


# -- what is copied ------------------------------------------------------------------------------------------------


async def test_no_image_is_read_and_each_has_the_same_bytes_and_its_new_rows_metadata(tmp_path, server):
    count = 100
    made = shop(tmp_path, count)
    server.asked.clear()

    await made.copy_all()

    assert server.kinds() == {"COPY": count, "HEAD": 3 * count}, "nothing is read and nothing is put"
    results = made.results()
    assert [each.state for each in results] == [JobState.DONE] * count
    for each in results:
        (image,) = each.images
        held = content_of(server, f"summer/{image.path}")
        assert held == content_of(server, f"spring/b/{each.key}/0.png")
        assert image.sha256 == hashlib.sha256(held).hexdigest()
        assert (image.width, image.height, image.bytes, image.format) == (4, 4, len(held), "png")
        assert (image.flags, image.cost) == (("reused",), 0)
    (first, *_) = results
    assert described(server) == METADATA
    assert first.images[0].path == "c/k0/0.png"
    story = made.services.ledger.reports.story("c", "k0")
    assert (story.taken_from[1, 0].batch, story.taken_from[1, 0].key, story.attempts) == ("b", "k0", ())


async def test_an_image_of_another_bucket_is_copied_too(tmp_path, server):
    made = shop(tmp_path, source="s3://last-year/x")
    server.asked.clear()

    await made.copy_all()

    assert made.result().state is JobState.DONE
    assert content_of(server) == server.objects["last-year/x/b/k0/0.png"]
    assert server.kinds()["COPY"] == 1


async def test_who_wants_every_image_decoded_has_it_read(tmp_path, server):
    made = shop(tmp_path, decode=True)
    server.asked.clear()

    await made.copy_all()

    assert made.result().state is JobState.DONE
    assert server.kinds()["COPY"] == 0
    assert server.kinds(key="spring")["GET"] == 1


async def test_a_sidecar_is_written_beside_the_copy_as_beside_any_image(tmp_path, server):
    made = shop(tmp_path, sidecar=True)

    await made.copy_all()

    told = orjson.loads(content_of(server, "summer/c/k0/0.json"))
    assert (told["batch"], told["reused"], told["sha256"]) == (
        "c",
        True,
        hashlib.sha256(content_of(server)).hexdigest(),
    )


# -- stores that can do less ---------------------------------------------------------------------------------------


async def test_where_the_store_tells_no_hash_each_copy_is_read_and_not_put(tmp_path, server):
    """Some (R2) refuse to be asked for it, which is found out once."""
    server.manners.unknown = {"x-amz-checksum-algorithm": REFUSED}
    made = shop(tmp_path, 3)
    server.asked.clear()

    for each in made.due():
        await copy(made.services, each)

    assert [each.state for each in made.results()] == [JobState.DONE] * 3
    assert server.kinds(key="summer") == {"COPY": 4, "HEAD": 7, "GET": 3}
    assert server.kinds(key="spring")["GET"] == 0
    asked = [each for each in server.puts() if "x-amz-checksum-algorithm" in each.headers]
    assert [each.status for each in asked] == [501]


@pytest.mark.parametrize("manner", ["unknown", "denied", "old metadata"])
async def test_a_store_that_does_not_copy_is_asked_once_and_then_read(tmp_path, server, manner):
    made = shop(tmp_path, 3)
    server.asked.clear()
    if manner == "unknown":
        server.manners.unknown = {COPY_HEADER: REFUSED}
    server.manners.answers = [(403, "AccessDenied")] if manner == "denied" else []
    server.manners.keeps_old_metadata = manner == "old metadata"

    for each in made.due():
        await copy(made.services, each)

    assert [each.state for each in made.results()] == [JobState.DONE] * 3
    assert server.kinds()["COPY"] == (3 if manner == "unknown" else 1)
    assert (server.kinds(key="spring")["GET"], server.kinds(key="summer")["PUT"]) == (3, 4), (
        "one finds out of conditions"
    )
    assert described(server) == METADATA
    assert {each.images[0].path for each in made.results()} == {f"c/k{number}/0.png" for number in range(3)}


async def test_who_may_write_and_not_read_at_amazons_believes_the_hash_that_the_copy_tells(tmp_path, server):
    made = shop(tmp_path)
    made.services.destinations.store(SUMMER)._access.is_amazons = True
    server.manners.denies_reading = lambda name: name.startswith("summer/")
    server.asked.clear()

    await made.copy_all()

    assert made.result().state is JobState.DONE
    assert server.kinds()["COPY"] == 1
    assert server.kinds()["PUT"] == 0


async def test_who_may_write_and_not_read_elsewhere_has_the_image_read_and_put(tmp_path, server):
    made = shop(tmp_path)
    made.services.destinations.store(SUMMER).put_new("learns", b"that conditions are kept", content_type="text/plain")
    server.manners.denies_reading = lambda name: name.startswith("summer/")
    server.asked.clear()

    await made.copy_all()

    assert made.result().state is JobState.DONE
    assert server.kinds()["COPY"] == 0
    assert not made.services.destinations.troubles


@pytest.mark.parametrize("answer", [(503, "SlowDown"), (500, "InternalError"), (409, "ConditionalRequestConflict")])
async def test_a_fault_that_passes_delays_the_copy_as_it_would_a_put(tmp_path, server, monkeypatch, answer):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    made = shop(tmp_path)
    server.manners.answers = [answer]

    await made.copy_all()
    (image,) = made.result().images
    assert (made.result().state, image.error_code.startswith("bucket_")) == (JobState.WORKING, True)

    await made.copy_all(later=120.0)
    assert made.result().state is JobState.DONE


# -- other bytes than were stored ----------------------------------------------------------------------------------


def change(server: S3Server, content=None):
    """Behind our back, and of the same size; the store has a hash of what it holds now, or none."""
    place = "shop-img/spring/b/k0/0.png"
    server.objects[place] = content or png(4, 4, colour=99)


async def refused_and_nothing_left(made, server):
    await made.copy_all()

    assert (made.result().state, made.result().error_code) == (JobState.FAILED, "reuse_gone")
    assert content_of(server) is None
    assert not made.services.destinations.troubles
    bought = made.services.ledger.claims.submits("main", made.services.clock.now(), lease=900.0, only="c")
    assert bought.intents == ()


async def test_a_copy_with_other_bytes_ends_its_row_and_is_deleted(tmp_path, server):
    made = shop(tmp_path)
    assert len(png(4, 4, colour=99)) == len(content_of(server, "spring/b/k0/0.png"))
    change(server)
    server.asked.clear()

    await refused_and_nothing_left(made, server)

    assert server.kinds(key="summer")["COPY"] == server.kinds(key="summer")["DELETE"] == 1


@pytest.mark.parametrize("told_by", ["hash", "size"])
async def test_other_bytes_are_not_even_copied_where_the_store_tells_them_apart(tmp_path, server, monkeypatch, told_by):
    monkeypatch.setenv("AWS_CHECKSUM_ALGORITHM", "SHA256")
    made = shop(tmp_path)
    if told_by == "hash":
        made.services.destinations.store(SPRING).put("b/k0/0.png", png(4, 4, colour=99), content_type="image/png")
    else:
        change(server, png(4, 4, padding=7))
    server.asked.clear()

    await refused_and_nothing_left(made, server)

    assert server.kinds()["COPY"] == 0


@pytest.mark.parametrize("conditions", [True, False])
async def test_bytes_that_change_while_they_are_copied_are_found_out(tmp_path, server, conditions):
    made = shop(tmp_path)
    server.manners.ignores_conditions = not conditions
    server.manners.before_copy = lambda: change(server)

    await refused_and_nothing_left(made, server)


async def test_a_copy_with_other_bytes_that_cannot_be_deleted_is_told_and_never_taken_for_the_image(tmp_path, server):
    made = shop(tmp_path)
    change(server)
    server.manners.deletes = False

    with structlog.testing.capture_logs() as said:
        await made.copy_all()

    assert (made.result().state, made.result().error_code) == (JobState.FAILED, "reuse_gone")
    (left,) = [each for each in said if each["event"] == "wrong_copy_left"]
    assert left["path"] == "s3://shop-img/summer/c/k0/0.png"
    assert not made.services.destinations.troubles, "the destination takes writes all the same"

    made.services.ledger.batches.retry("c", made.services.clock.now())
    assert (await run_batch(made.services, "c", max_stall=5.0)).exit_code == 0
    (bought,) = made.result().images
    assert bought.path == "c/k0/0~2.png"
    assert hashlib.sha256(content_of(server, "summer/c/k0/0~2.png")).hexdigest() == bought.sha256


async def test_a_source_that_is_gone_ends_its_row(tmp_path, server):
    made = shop(tmp_path)
    del server.objects["shop-img/spring/b/k0/0.png"]

    await refused_and_nothing_left(made, server)


# -- the path is taken ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manner", ["conditions", "conditions of puts alone", "amazons"])
async def test_another_object_in_its_place_stays_and_the_copy_stands_beside_it(tmp_path, server, manner):
    made = shop(tmp_path)
    store = made.services.destinations.store(SUMMER)
    store.put("c/k0/0.png", b"somebody's", content_type="image/png")
    server.manners.ignores_conditions = manner == "conditions of puts alone"
    store._access.is_amazons = manner == "amazons"

    await made.copy_all()

    (image,) = made.result().images
    assert (image.path, image.flags) == ("c/k0/0~2.png", ("path-conflict", "reused"))
    assert content_of(server) == b"somebody's"
    assert content_of(server, "summer/c/k0/0~2.png") == content_of(server, "spring/b/k0/0.png")


async def test_a_name_that_the_store_refuses_is_another_for_the_copy_too(tmp_path, server):
    made = shop(tmp_path)
    with made.services.ledger._database.writing() as tx:
        tx.execute(update(jobs).where(jobs.c.path.like("c/%")).values(path="c/k\\0/{index}.{ext}"))
    server.manners.refuses_name = minio_names

    await made.copy_all()

    (image,) = made.result().images
    assert (image.path, "safe-name" in image.flags) == ("c/k%5C0/0.png", True)


# -- a process that dies -------------------------------------------------------------------------------------------


def copied_by_the_dead(made, server):
    """A process has copied the image, and died before it could say so."""
    source = server.objects["shop-img/spring/b/k0/0.png"]
    original = CopySource(
        store=made.services.destinations.store(SPRING),
        path="b/k0/0.png",
        sha256=hashlib.sha256(source).hexdigest(),
        size=len(source),
    )
    store = made.services.destinations.store(SUMMER)
    done = store.copy_new("c/k0/0.png", original, content_type="image/png", metadata=METADATA)
    assert done is CopyResult.COPIED
    server.asked.clear()


@pytest.mark.parametrize("name_is_recorded", [True, False])
async def test_a_copy_that_was_made_and_not_recorded_is_found_by_the_next_worker(tmp_path, server, name_is_recorded):
    made = shop(tmp_path)
    (claimed,) = made.due()
    copied_by_the_dead(made, server)
    if name_is_recorded:
        held = content_of(server)
        fact = {"object_path": "c/k0/0.png", "sha256": hashlib.sha256(held).hexdigest(), "bytes": len(held)}
        checked = ImageChecked(image_id=claimed.image_id, **fact, width=4, height=4, format="png", flags=())
        await made.services.recorder.record(checked)

    await made.copy_all(later=61.0)

    (image,) = made.result().images
    assert (made.result().state, image.path, image.flags) == (JobState.DONE, "c/k0/0.png", ("reused",))
    assert server.kinds()["COPY"] == 0
    assert [name for name in server.objects if "/summer/c/" in name] == ["shop-img/summer/c/k0/0.png"]


async def test_a_wrong_copy_whose_maker_died_is_deleted_by_the_next_worker(tmp_path, server):
    made = shop(tmp_path)
    change(server)
    copied_by_the_dead(made, server)
    assert content_of(server) is not None

    await refused_and_nothing_left(made, server)


async def test_a_picture_of_the_same_row_that_is_no_copy_of_the_source_is_never_deleted(tmp_path, server):
    """It may be one that was paid for, by a ledger that is lost."""
    made = shop(tmp_path)
    paid = png(4, 4, colour=50)
    made.services.destinations.store(SUMMER).put("c/k0/0.png", paid, content_type="image/png", metadata=METADATA)

    await made.copy_all()

    assert made.result().images[0].path == "c/k0/0~2.png"
    assert content_of(server) == paid
