"""--reuse: an image that is there already is not paid for again, and is the very same; what is not there is told."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace

import pytest
from sqlalchemy import create_engine, select, text, update

from jobs.errors import LightfastError
from jobs.facts import SubmitAccepted, SubmitRefused, SubmitUnclear
from jobs.ledger import open_ledger
from jobs.ledger.batches.manifests import RecordOptions, record_manifest
from jobs.ledger.batches.values import NewBatch
from jobs.ledger.claims.reuse import ReuseOptions
from jobs.ledger.database.schema import attempts, batches, images, jobs
from jobs.planning.intake import record, survey
from jobs.policy.reuse import Allotment, Reuse, is_reusable
from jobs.results.completion import Reason, RunState
from jobs.results.reasons import why
from jobs.results.rows import plain_address, row_values
from jobs.states import ImageState, JobState
from providers.types import Kind, Request
from tests.support import stocked_ledger as shelf
from tests.support.manifest_world import MAIN, NOW, World, finish, rows
from tests.support.shop_ledger import call, document, open_shop
from tests.support.worker_world import Provider, png, row, stock, world
from worker.stages.copy import copy


@pytest.fixture
def shop(tmp_path, ledger):
    ledger.accounts.sync([MAIN])
    return World(tmp_path, ledger)


def reused(shop, name):
    """The keys of the rows whose images are taken from, by the batch's own keys."""
    with shop.ledger._database.reading() as tx:
        source, owner = images.alias(), jobs.alias()
        joined = (
            images.join(jobs, jobs.c.id == images.c.job_id)
            .join(batches, batches.c.id == images.c.batch_id)
            .join(source, source.c.id == images.c.source_id)
            .join(owner, owner.c.id == source.c.job_id)
        )
        wanted = select(jobs.c.key, owner.c.key).select_from(joined).where(batches.c.name == name)
        return dict(map(tuple, tx.execute(wanted)))


# -- which rows ----------------------------------------------------------------------------------------------------


def test_rows_that_are_there_cost_nothing_and_the_plan_says_so(shop):
    shop.made(rows(30))

    seen = shop.take([*rows(30, key="new"), *rows(5, prompt="chair", key="c")], "summer", reuse=Reuse.COPY)

    again = seen.again
    assert (again.reused, again.reused_images, again.reused_money) == (30, 30, 30 * 20_000)
    assert (seen.images, seen.money, again.to_pay, again.rows) == (5, 5 * 20_000, 5, 0)
    assert [(line.images, line.tasks) for line in seen.routes] == [(5, 5)]
    assert reused(shop, "summer") == {f"new{number}": f"k{number}" for number in range(30)}
    assert shop.ledger.reports.progress("summer").jobs == {JobState.WORKING: 30, JobState.READY: 5}
    assert len(shop.ledger.claims.submits("main", NOW, lease=60.0, horizon=60.0).intents) == 5


def test_keys_that_were_rewritten_take_the_images_of_the_old(shop):
    shop.made(rows(2_500))

    seen = shop.take([*rows(1_200, key="new"), *rows(1_300, first=1_200)], reuse=Reuse.COPY)

    assert (seen.again.reused, seen.images, seen.again.absent) == (1_200, 0, 1_200)
    assert seen.routes == ()
    assert reused(shop, "spring") == {f"new{number}": f"k{number}" for number in range(1_200)}


def test_repeats_stay_different_pictures(shop):
    shop.made(["a,lamp", "b,lamp"])
    shop.take([f"x{number},lamp" for number in range(5)], "summer", reuse=Reuse.COPY)
    finish(shop.ledger, "summer", most=2)

    assert sorted(reused(shop, "summer").values()) == ["a", "b"]
    seen = shop.take([f"y{number},lamp" for number in range(9)], "autumn", reuse=Reuse.COPY)
    assert (seen.again.reused, seen.images) == (2, 7), "a copy is the same picture as what it was copied from"
    assert sorted(reused(shop, "autumn").values()) == ["x0", "x1"], "the newest copy is the likeliest to be there"


def test_no_row_gets_a_picture_that_its_batch_has(shop):
    shop.made(["a,lamp"])
    shop.take(["a2,lamp"], "copies", reuse=Reuse.COPY)
    finish(shop.ledger, "copies")

    seen = shop.take(["a,lamp", "b,lamp"], reuse=Reuse.COPY)

    assert (seen.again.reused, seen.images) == (0, 1)


def test_another_n_another_request_and_the_stand_ins_images_are_not_taken(shop):
    shop.made(rows(3), head="key,prompt", name="spring")
    shop.made(rows(3), "rehearsal", sandbox=True)
    with shop.ledger._database.writing() as tx:  # as `redo --prompt` leaves it
        other = Request(prompt="vase", model="gpt-image-2").to_json()
        tx.execute(update(jobs).where(jobs.c.key == "k1").values(request=other, revision=2))
        tx.execute(
            update(images).where(images.c.job_id.in_(select(jobs.c.id).where(jobs.c.key == "k1"))).values(revision=2)
        )

    twice = [f"{line},2" for line in rows(3)]
    assert shop.look(twice, "pairs", reuse=Reuse.COPY, head="key,prompt,n").again.reused == 0
    shop.take(rows(3, key="x"), "summer", reuse=Reuse.COPY)
    assert reused(shop, "summer") == {"x0": "k0", "x2": "k2"}


def test_what_is_bought_again_although_images_are_to_be_reused_is_told_and_a_yes_is_not_enough(shop):
    shop.made(["a,lamp", "b,lamp", "c,vase"])
    shop.made(["d,chair,2"], "pairs", head="key,prompt,n")
    with shop.ledger._database.writing() as tx:
        other = Request(prompt="a better vase", model="gpt-image-2").to_json()  # as `redo --prompt` leaves it
        tx.execute(update(jobs).where(jobs.c.key == "c").values(request=other, revision=2))
        of_c = select(jobs.c.id).where(jobs.c.key == "c").scalar_subquery()
        tx.execute(update(images).where(images.c.job_id == of_c).values(revision=2))
        tx.execute(update(jobs).where(jobs.c.key == "d").values(state=JobState.PARTIAL.value))
    wanted = ["w,lamp,1", "x,lamp,1", "y,lamp,1", "z,vase,1", "u,chair,2", "t,table,1"]

    again = shop.look(wanted, "summer", reuse=Reuse.COPY, head="key,prompt,n").again

    assert (again.reused, again.to_pay) == (2, 4), "two lamps are there"
    assert (again.rows, again.images, again.not_takeable) == (2, 3, 2), "the vase and the chairs; a third lamp is new"
    assert again.needs_buy_again
    assert not shop.look(wanted[:3], "summer", reuse=Reuse.COPY, head="key,prompt,n").again.needs_buy_again


def test_a_request_that_was_made_before_its_row_changed_is_told_when_it_is_asked_for_elsewhere(shop):
    lamps = rows(12)
    shop.made([*lamps, "v,vase"])
    changed = shop.take([*rows(12, prompt="better lamp"), "v,vase"], changed="redo")
    finish(shop.ledger, "spring")
    assert changed.images == 12

    again = shop.look([*lamps, "v,vase", "t,table"], "summer", reuse=Reuse.COPY).again
    assert (again.reused, again.to_pay, again.rows, again.not_takeable) == (1, 13, 12, 12)
    assert again.needs_buy_again
    plain = shop.look([*lamps, "t,table"], "summer").again
    assert (plain.rows, plain.needs_buy_again) == (12, True)
    (place,) = plain.places
    assert (place.rows, place.same_keys) == (12, 12)


def test_a_row_that_goes_back_to_what_it_asked_for_gets_its_images_back_for_nothing(shop):
    lamps = [f"{line},2" for line in rows(3)]
    shop.made(lamps, head="key,prompt,n")
    first = {each.key: [image.path for image in each.images] for each in shop.ledger.reports.results("spring")}
    broken = [f"k{number},ERROR,2" for number in range(3)]
    shop.take(broken, changed="redo", head="key,prompt,n")
    finish(shop.ledger, "spring")
    with shop.ledger._database.writing() as tx:
        of_k2 = select(jobs.c.id).where(jobs.c.key == "k2").scalar_subquery()
        lost = (images.c.job_id == of_k2, images.c.revision == 1, images.c.slot == 1)
        tx.execute(update(images).where(*lost).values(state=ImageState.LOST.value))

    refused = shop.look(lamps, changed="error", head="key,prompt,n")
    seen = shop.take(lamps, changed="redo", head="key,prompt,n")

    assert (refused.disputed, refused.redo_images) == (3, 2)
    assert "--changed redo makes 2 images anew for $0.04 and gives 2 rows their earlier images back for nothing; " in (
        told_of(refused)
    )
    assert (seen.changed, seen.given_back, seen.images, seen.again.to_pay) == (3, 2, 2, 1), "k2 lacks one of then"
    due, _ = shop.ledger.claims.copies(NOW, holder="me", lease=60.0, at_most=9)
    assert {(one.key, one.slot, one.revision): one.origin.path for one in due} == {
        (key, slot, 3): first[key][slot] for key in ("k0", "k1") for slot in range(2)
    }
    (bought,) = shop.ledger.claims.submits("main", NOW, lease=60.0, horizon=60.0).intents
    assert bought.key == "k2"


def told_of(seen):
    (reason,) = seen.refuse_reasons(skip_bad=False, budget=None, partial=False, changed="error")
    return reason


@pytest.mark.parametrize(
    ("number", "told"),
    [(1, "gives 1 row its earlier images back for nothing"), (2, "gives 2 rows their earlier images back for nothing")],
)
def test_rows_that_all_go_back_are_not_told_as_made_anew_for_nothing(shop, number, told):
    shop.made(rows(number))
    shop.take(rows(number, prompt="ERROR"), changed="redo")
    finish(shop.ledger, "spring")

    assert f"  --changed redo {told}; --changed keep" in told_of(shop.look(rows(number), changed="error"))


def test_changed_rows_that_were_redone_with_prompts_of_their_own_are_counted(shop):
    shop.made(rows(5))
    given = {each.key: each.request for each in shop.ledger.reports.results("spring")}
    own = [("k0", replace(given["k0"], prompt="mine")), ("k1", replace(given["k1"], prompt="mine")), ("k2", None)]
    shop.ledger.batches.redo("spring", [*own, ("k4", replace(given["k4"], prompt="mine"))], NOW, {})
    finish(shop.ledger, "spring")
    lines = [*rows(4, prompt="new"), *rows(1, first=4)]  # k4 has not changed in the manifest

    refused, seen = shop.look(lines, changed="error"), shop.look(lines, changed="redo")

    assert (refused.changed, refused.own_prompts, seen.own_prompts) == (4, 2, 2)
    assert "2 of these rows were redone with prompts of their own (redo --prompt): --changed redo takes" in (
        told_of(refused)
    )
    shop.take(lines, changed="redo")
    finish(shop.ledger, "spring")
    again = shop.look([*rows(4, prompt="newer"), *rows(1, first=4)], changed="redo")
    assert (again.changed, again.own_prompts) == (4, 0), "the manifest's prompt has taken the place of their own"


def test_a_row_that_was_redone_with_a_prompt_of_its_own_gets_that_image_back(shop):
    shop.made(rows(2))
    given = {each.key: each.request for each in shop.ledger.reports.results("spring")}
    shop.ledger.batches.redo("spring", [("k0", replace(given["k0"], prompt="a better lamp")), ("k1", None)], NOW, {})
    finish(shop.ledger, "spring")
    redone = {each.key: each.images[0].path for each in shop.ledger.reports.results("spring")}
    shop.take(rows(2, prompt="ERROR"), changed="redo")
    finish(shop.ledger, "spring")

    seen = shop.take(rows(2), changed="redo")

    assert (seen.given_back, seen.images) == (2, 0)
    due, _ = shop.ledger.claims.copies(NOW, holder="me", lease=60.0, at_most=9)
    assert {(one.key, one.revision): one.origin.path for one in due} == {
        ("k0", 4): redone["k0"],
        ("k1", 4): redone["k1"],
    }
    assert {each.key: each.request.prompt for each in shop.ledger.reports.results("spring")} == {
        "k0": "a better lamp",
        "k1": "lamp 1",
    }
    finish(shop.ledger, "spring")
    again = shop.look(rows(2, key="x"), "summer", reuse=Reuse.COPY).again
    assert (again.reused, again.not_takeable) == (1, 1), "the better lamp is no image of the manifest's prompt"
    assert shop.look(rows(2), changed="error").changed == 0


def test_a_row_that_goes_back_before_the_change_was_made_gets_its_images_back_too(shop):
    shop.made(rows(2))
    shop.take(rows(2, prompt="ERROR"), changed="redo")  # nothing of it is sent, or all of it failed

    seen = shop.take(rows(2))

    assert (seen.changed, seen.disputed, seen.given_back, seen.reused, seen.images) == (2, 0, 2, 2, 0)
    due, _ = shop.ledger.claims.copies(NOW, holder="me", lease=60.0, at_most=9)
    assert [(one.key, one.revision) for one in due] == [("k0", 2), ("k1", 2)]
    assert not shop.ledger.claims.submits("main", NOW, lease=60.0, horizon=60.0).intents


def test_images_of_then_that_are_gone_since_the_plan_are_not_bought_without_a_word(shop):
    shop.made(rows(2))
    shop.take(rows(2, prompt="ERROR"), changed="redo")
    finish(shop.ledger, "spring")
    intake = shop.intake(rows(2), changed="redo")
    seen = survey(intake, shop.ledger.batches.find("spring"), [MAIN])
    with shop.ledger._database.writing() as tx:
        tx.execute(update(images).where(images.c.revision == 1).values(state=ImageState.LOST.value))

    bound = {"dest": "/d/spring", "path": "{batch}/{key}/{index}.{ext}", "columns": ("key",), "source": "m.csv"}
    with pytest.raises(LightfastError, match="Nothing was recorded; run again"):
        record(intake, seen, NewBatch(name="spring", **bound), NOW)


def test_references_count_as_the_same_only_where_their_bytes_were_recorded():
    base = Request(prompt="x", model="gpt-image-2")
    recorded = f"photos/a.png#sha256-{'a' * 64}.png"

    assert is_reusable(base)
    assert is_reusable(replace(base, references=(recorded,)))
    assert not is_reusable(replace(base, references=(recorded, "https://shop.example/a.png")))
    assert not is_reusable(replace(base, references=("s3://shop/a.png",)))


def test_rows_with_several_images_take_all_of_them_by_their_slots(shop):
    shop.made(["a,lamp,3"], head="key,prompt,n")

    seen = shop.take(["b,lamp,3"], "summer", reuse=Reuse.COPY, head="key,prompt,n")

    assert (seen.again.reused, seen.again.reused_images, seen.again.reused_money) == (1, 3, 60_000)
    due, _ = shop.ledger.claims.copies(NOW, holder="me", lease=60.0, at_most=9)
    assert [(one.slot, one.origin.path) for one in sorted(due, key=lambda each: each.slot)] == [
        (slot, _path(shop, "a", slot)) for slot in range(3)
    ]


def _path(shop, key, slot):
    (result,) = [each for each in shop.ledger.reports.results("spring") if each.key == key]
    return result.images[slot].path


def test_what_the_plan_counted_on_and_is_gone_is_not_bought_without_a_word(shop):
    shop.made(rows(3))
    intake = shop.intake(rows(3), "summer", reuse=Reuse.COPY)
    seen = survey(intake, None, [MAIN])
    with shop.ledger._database.writing() as tx:
        tx.execute(update(jobs).where(jobs.c.key == "k2").values(state=JobState.LOST.value))

    bound = {"dest": "/d", "path": "{batch}/{key}/{index}.{ext}", "columns": ("key",), "source": "m.csv"}
    with pytest.raises(LightfastError, match="Nothing was recorded; run again"):
        record(intake, seen, NewBatch(name="summer", **bound), NOW)
    assert shop.ledger.batches.find("summer") is None


def test_a_source_is_given_once_however_often_it_is_looked_up():
    asked = []

    def find(hashes):
        asked.append(list(hashes))
        return []

    allotment = Allotment(find)
    allotment.ask(["a", "b"])
    allotment.ask(["b", "c"])

    assert asked == [["a", "b"], ["c"]]


def test_what_a_row_costs_to_be_given_its_image_does_not_grow_with_the_batch(postgres_ledger_url):
    """PostgreSQL knows nothing of the rows that the same transaction has made, and must read few all the same."""
    manifest = [replace(each, request_hash=f"h{at}") for at, each in enumerate(shelf.rows(2_000))]
    ledger, engine = open_ledger(postgres_ledger_url), create_engine(postgres_ledger_url)
    shelf.stock(ledger, manifest)
    finish(ledger, "spring")
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("ANALYZE"))

    few, many = (_rows_read(ledger, manifest[:count]) for count in (1_000, 2_000))

    assert many < 5 * few, "reading all that the batch has for each row makes it ten times as many"
    ledger.close()
    engine.dispose()


def _rows_read(ledger, manifest):
    manner = RecordOptions(reuse=ReuseOptions(how=Reuse.COPY, at_least=len(manifest)))
    read = "SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables WHERE relname IN ('jobs', 'images')"
    with ledger._database.writer.connect() as tx:
        record_manifest(tx, shelf.new_batch("summer"), manifest, manner, NOW)
        return tx.execute(text(read)).scalar_one()  # and all of it is forgotten


# -- in the same batch ---------------------------------------------------------------------------------------------


def test_copies_whose_keys_change_again_and_again_cost_nothing(shop):
    shop.made(rows(3))
    shop.take(rows(3), "summer", reuse=Reuse.COPY)
    finish(shop.ledger, "summer")

    for key in ("x", "y", "z"):
        again = shop.take(rows(3, key=key), "summer", reuse=Reuse.COPY).again
        assert (again.reused, again.to_pay, again.needs_buy_again) == (3, 0, False), key
        finish(shop.ledger, "summer")


def test_rows_of_the_batch_that_were_made_with_other_words_are_told_when_their_keys_change(shop):
    shop.made(rows(40))
    other = Request(prompt="a better lamp", model="gpt-image-2").to_json()
    with shop.ledger._database.writing() as tx:  # as `redo --prompt` leaves two of them, and `redo` a third
        for key, request in (("k0", other), ("k1", other), ("k2", jobs.c.request)):
            tx.execute(update(jobs).where(jobs.c.key == key).values(request=request, revision=2))
            mine = select(jobs.c.id).where(jobs.c.key == key).scalar_subquery()
            tx.execute(update(images).where(images.c.job_id == mine).values(revision=2))

    again = shop.look(rows(40, key="new"), reuse=Reuse.COPY).again

    assert (again.reused, again.to_pay, again.rows, again.not_takeable) == (38, 2, 2, 2)
    assert again.needs_buy_again, "the two that were rejected would be bought as they were"


def test_appended_rows_take_nothing_from_rows_that_stay(shop):
    shop.made(rows(3))

    again = shop.take(rows(3, key="x"), append=True, reuse=Reuse.COPY).again

    assert (again.reused, again.to_pay, again.here, again.not_takeable) == (0, 3, 3, 0)


@pytest.mark.parametrize("kept", [[], ["a,lamp"], ["b,lamp"]], ids=["none", "the first", "the second"])
def test_a_picture_that_was_handed_on_goes_to_one_row_of_the_new_manifest(shop, kept):
    shop.made(["a,lamp", "v,vase"])
    shop.take(["a,lamp"], "elsewhere", reuse=Reuse.COPY)
    finish(shop.ledger, "elsewhere")
    shop.take(["b,lamp", "v,vase"], reuse=Reuse.COPY)  # a has left
    finish(shop.ledger, "spring")

    again = shop.take([*kept, "c,lamp", "d,lamp"], reuse=Reuse.COPY).again

    assert (again.reused, again.to_pay) == ((0, 2) if kept else (1, 1))


# -- copying -------------------------------------------------------------------------------------------------------


def lived(tmp_path, count=1, **batch):
    """Services whose ledger has a batch `b` with its images stored, and a batch `c` that takes them."""
    services = world(tmp_path, Provider())
    manifest = [row(number) for number in range(count)]
    stock(services, tmp_path, manifest)
    for number in range(count):
        path = tmp_path / "dest" / "b" / f"k{number}" / "0.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(png(8, 2, colour=number))
        _store(services, f"k{number}", f"b/k{number}/0.png", path.read_bytes())
    again(services, tmp_path, count, **batch)
    return services


def _store(services, key, path, content):
    stored = {"state": ImageState.STORED.value, "object_path": path, "sha256": hashlib.sha256(content).hexdigest()}
    with services.ledger._database.writing() as tx:
        mine = select(jobs.c.id).where(jobs.c.key == key)
        tx.execute(update(images).where(images.c.job_id.in_(mine)).values(**stored, bytes=len(content), stored_at=1.0))
        tx.execute(update(jobs).where(jobs.c.key == key).values(state=JobState.DONE.value))


def again(services, tmp_path, count=1, how=Reuse.COPY, at_least=None, **batch):
    manifest = [replace(row(number), path=f"c/k{number}/{{index}}.{{ext}}") for number in range(count)]
    new = NewBatch(
        name="c", dest=str(tmp_path / "other"), path="{batch}/{key}/{index}.{ext}", columns=(), source="c", **batch
    )
    wish = ReuseOptions(how=how, at_least=count if at_least is None else at_least)
    services.ledger.batches.record_manifest(new, manifest, reuse_images=wish, now=services.clock.now())


def due(services, later=0.0):
    found, _ = services.ledger.claims.copies(services.clock.now() + later, holder="me", lease=60.0, at_most=9)
    return found


def only(services, name="c"):
    (result,) = services.ledger.reports.results(name)
    return result


async def test_the_image_is_copied_with_its_own_name_and_costs_nothing(tmp_path):
    services = lived(tmp_path, sidecar=True)

    await copy(services, due(services)[0])

    (image,) = only(services).images
    assert (tmp_path / "other" / "c/k0/0.png").read_bytes() == (tmp_path / "dest" / "b/k0/0.png").read_bytes()
    assert (image.path, image.flags, image.cost) == ("c/k0/0.png", ("wrong-pixels", "reused"), 0)
    assert (only(services).state, only(services).cost) == (JobState.DONE, 0)
    assert (tmp_path / "other" / "c/k0/0.json").exists()
    assert services.ledger.reports.reused("c") == services.ledger.reports.reused() == (1, 20_000)
    assert services.ledger.reports.money("c") == []
    story = services.ledger.reports.story("c", "k0")
    assert (story.taken_from[1, 0].batch, story.taken_from[1, 0].key, story.attempts) == ("b", "k0", ())


async def test_with_link_the_results_name_the_old_object(tmp_path):
    services = lived(tmp_path, how=Reuse.LINK)

    await copy(services, due(services)[0])

    values = row_values(only(services), plain_address(str(tmp_path / "other")))
    assert values["lf_urls"] == [(tmp_path / "dest" / "b/k0/0.png").as_uri()]
    assert not (tmp_path / "other").exists()
    assert list(services.ledger.images.stored("c")) == []


@pytest.mark.parametrize("harm", ["deleted", "other bytes", "row gone"])
async def test_what_is_not_there_as_it_was_ends_its_row_and_only_retry_buys_it(tmp_path, harm):
    services = lived(tmp_path)
    path = tmp_path / "dest" / "b/k0/0.png"
    if harm == "deleted":
        path.unlink()
    elif harm == "other bytes":
        path.write_bytes(png(8, 2, colour=7))
    else:
        with services.ledger._database.writing() as tx:
            tx.execute(update(images).where(images.c.source_id.is_not(None)).values(source_id=987_654))

    await copy(services, due(services)[0])

    assert (only(services).state, only(services).error_code) == (JobState.FAILED, "reuse_gone")
    assert services.ledger.reports.progress("c").images_lost == 0
    assert services.ledger.claims.submits("main", services.clock.now(), lease=900.0, only="c").intents == ()

    again(services, tmp_path, at_least=0)
    assert only(services).state is JobState.FAILED, "the same command does not buy it either"

    assert services.ledger.batches.retry("c", services.clock.now()) == 1
    (intent,) = services.ledger.claims.submits("main", services.clock.now(), lease=900.0, only="c").intents
    assert intent.key == "k0"


@pytest.mark.parametrize("state", ["running", "unknown"])
async def test_a_request_that_is_open_or_unknown_elsewhere_is_waited_for(tmp_path, state):
    services = world(tmp_path, Provider())
    stock(services, tmp_path, [row(0)])
    now = services.clock.now()
    (intent,) = services.ledger.claims.submits("main", now, lease=900.0).intents
    fact = SubmitAccepted(attempt_id=intent.attempt_id, at=now, task_id="t", poll_path=None, next_poll_at=now + 60)
    if state == "unknown":
        fact = SubmitUnclear(attempt_id=intent.attempt_id, at=now, code="outcome_unknown", message="it broke")
    services.ledger.facts.record([fact])
    again(services, tmp_path)

    await copy(services, due(services)[0])

    (image,) = only(services).images
    assert (only(services).state, image.error_code) == (JobState.WORKING, "reuse_waits")
    assert services.ledger.claims.submits("main", now, lease=900.0, only="c").intents == ()

    content = png(8, 2)
    (tmp_path / "dest/b/k0").mkdir(parents=True)
    (tmp_path / "dest/b/k0/0.png").write_bytes(content)
    with services.ledger._database.writing() as tx:
        mine = {"state": ImageState.STORED.value, "object_path": "b/k0/0.png", "bytes": len(content)}
        mine |= {"sha256": hashlib.sha256(content).hexdigest(), "stored_at": 1.0}
        tx.execute(update(images).where(images.c.source_id.is_(None)).values(**mine))
        tx.execute(update(attempts).values(state="succeeded"))
    await copy(services, due(services, later=120.0)[0])

    assert only(services).state is JobState.DONE


@pytest.mark.parametrize("left", [False, True])
async def test_a_row_that_is_sent_again_by_itself_is_waited_for_unless_it_has_left_its_batch(tmp_path, left):
    """Between two attempts nothing of it is open: it was refused for its pace, and goes out again in a moment."""
    services = world(tmp_path, Provider())
    stock(services, tmp_path, [row(0)])
    now = services.clock.now()
    (intent,) = services.ledger.claims.submits("main", now, lease=900.0).intents
    again(services, tmp_path)
    slow_down = SubmitRefused(attempt_id=intent.attempt_id, at=now, kind=Kind.THROTTLED, code="429", message="slow")
    services.ledger.facts.record([slow_down])
    if left:
        stock(services, tmp_path, [row(1)])

    await copy(services, due(services)[0])

    expected = (JobState.FAILED, "reuse_gone") if left else (JobState.WORKING, "reuse_waits")
    result = only(services)
    assert (result.state, result.error_code or result.images[0].error_code) == expected


async def test_a_run_that_waits_for_anothers_row_does_not_call_its_image_paid(tmp_path):
    services = world(tmp_path, Provider())
    stock(services, tmp_path, [row(0)])
    now = services.clock.now()
    services.ledger.claims.submits("main", now, lease=900.0)
    again(services, tmp_path)
    await copy(services, due(services)[0])

    progress = services.ledger.reports.progress("c", now)
    said = why(Reason.NOTHING_STORED, RunState(progress=progress, accounts=[], now=now))

    assert said.startswith("1 image to be taken from other rows: the same request is being made for another row")
    assert "paid image" not in said


async def test_a_copy_whose_process_died_is_made_by_the_next(tmp_path):
    services = lived(tmp_path)
    assert len(due(services)) == 1
    assert due(services) == [], "it is leased"

    await copy(services, due(services, later=61.0)[0])

    assert only(services).state is JobState.DONE


async def test_a_copy_that_is_gone_from_the_bucket_is_copied_again_for_nothing(tmp_path):
    services = lived(tmp_path)
    await copy(services, due(services)[0])
    (kept,) = services.ledger.images.stored("c")
    (tmp_path / "other" / kept.path).unlink()

    assert kept.has_task
    assert services.ledger.images.copy_again({kept.image_id: "gone"}, services.clock.now()) == 1
    await copy(services, due(services)[0])

    assert only(services).state is JobState.DONE
    assert (tmp_path / "other" / kept.path).exists()


async def test_giving_up_a_copy_that_waits_loses_no_money(tmp_path):
    services = lived(tmp_path)
    (image,) = only(services).images
    with services.ledger._database.reading() as tx:
        number = tx.execute(select(images.c.id).where(images.c.source_id.is_not(None))).scalar_one()

    assert image.reused
    assert services.ledger.images.give_up([number], services.clock.now()) == {number}
    assert (only(services).state, only(services).error_code) == (JobState.FAILED, "reuse_gone")
    assert services.ledger.reports.progress("c").lost_money == 0


async def test_a_link_to_a_link_names_the_one_object_there_is(tmp_path):
    services = lived(tmp_path, how=Reuse.LINK)
    await copy(services, due(services)[0])
    new = NewBatch(name="d", dest=str(tmp_path / "third"), path="{batch}/{key}/{index}.{ext}", columns=(), source="d")
    wish = ReuseOptions(how=Reuse.LINK, at_least=1)
    manifest = [replace(row(0), path="d/k0/{index}.{ext}")]
    services.ledger.batches.record_manifest(new, manifest, reuse_images=wish, now=services.clock.now())

    await copy(services, due(services)[0])

    values = row_values(only(services, "d"), plain_address(str(tmp_path / "third")))
    assert values["lf_urls"] == [(tmp_path / "dest" / "b/k0/0.png").as_uri()]


# -- named where it lies -------------------------------------------------------------------------------------------


@pytest.fixture
def linked(tmp_path):
    """The shop's images lie where another batch has stored them."""
    open_shop(tmp_path, tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "spring")
    named = {"lies_at": str(tmp_path / "spring"), "source_id": 1, "attempt_id": None}
    ledger = open_ledger(f"sqlite:///{tmp_path / 'lightfast.db'}")
    with contextlib.closing(ledger), ledger._database.writing() as tx:
        tx.execute(update(images).where(images.c.state == ImageState.STORED.value).values(**named))
    return tmp_path


@pytest.mark.parametrize("more", [(), ("--only", "reused")])
def test_a_contact_sheet_shows_images_that_lie_elsewhere(linked, more):
    call("results", "shop", "--format", "html", "-o", "sheet.html", *more)

    assert 'href="spring/shop/lamp/0.png"' in (linked / "sheet.html").read_text()


@pytest.mark.usefixtures("linked")
def test_verify_says_which_images_it_did_not_look_at_and_where_they_are(tmp_path):
    said = call("verify", "shop").stdout

    assert f"not looked at: 2 images at {tmp_path / 'spring'}" in said
    assert document("verify", "shop")["named_elsewhere"] == {str(tmp_path / "spring"): 2}
