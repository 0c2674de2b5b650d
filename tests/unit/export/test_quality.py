"""Near duplicates and blank pictures among exported ones: found, flagged, left out, and decided once."""

from __future__ import annotations

import contextlib
import io
import json
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image, ImageEnhance
from sqlalchemy import event

from jobs.export.near_duplicates import COARSE, FINE, SIGNATURE, NearDuplicates
from jobs.export.options import read_split
from jobs.results.rows import row_values
from sandbox.images.pictures import Picture, draw
from tests.support.exports import Died, DyingStore, files, run, samples
from tests.support.picture_ledger import open_pictures, row, store
from worker.export import flags
from worker.export.appearance import appearance_of
from worker.export.pictures import look
from worker.storage.disk import DiskStore
from worker.storage.opening import open_store

SIDE = 128  # pixels
THINGS = ("lamp", "vase", "chair", "rug", "shelf", "stove", "table", "bowl", "heron", "fox", "clock", "book")
KINDS = ("brass", "oak", "reed", "moss green", "red", "blue", "iron", "glass", "small", "old")


def drawn(prompt, *, side=SIDE, **more):
    return draw(Picture(prompt=prompt, facts="sandbox", pixels=(side, side), **more)).convert("RGB")


def encoded(picture, kind="png", **more):
    file = io.BytesIO()
    picture.save(file, kind, **more)
    return file.getvalue()


@pytest.fixture
def ledger(tmp_path):
    with contextlib.closing(open_pictures(tmp_path)) as opened:
        yield opened


def inspected(ledger, dest, **options):
    return run(ledger, dest, **{"near_duplicates": "flag", "pool": lambda: ThreadPoolExecutor(1), **options})


def records(dest):
    return {name.split("__")[1]: json.loads(each["json"]) for name, each in samples(dest).items()}


@pytest.fixture
def shop(ledger, tmp_path):
    """Of twelve pictures the sixth and the ninth are near to the third, the seventh is blank."""
    pictures = [drawn(f"A {thing}") for thing in THINGS]
    pictures[5] = drawn("A chair", variant="one")
    pictures[8] = drawn("A chair", variant="two")
    pictures[6] = drawn("A rug", blank="#fefefe")
    rows = [row(at, thing) for at, thing in enumerate(THINGS)]
    store(ledger, tmp_path / "out", rows, pictures=lambda number: encoded(pictures[number]))
    return ledger


# -- what is near ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        lambda picture: encoded(picture, "jpeg", quality=30),
        lambda picture: encoded(picture, "webp", quality=40),
        lambda picture: encoded(picture.resize((SIDE // 2, SIDE // 2))),
        lambda picture: encoded(picture.resize((SIDE * 4, SIDE * 4)), "jpeg"),  # decoded at a part of its size
        lambda picture: encoded(ImageEnhance.Brightness(picture).enhance(1.05)),
        lambda picture: encoded(picture.convert("RGBA")),
        lambda picture: encoded(turned(picture), "jpeg", exif=TURNED),
    ],
    ids=["jpeg", "webp", "half", "four times", "lighter", "alpha", "turned by its camera"],
)
def test_a_picture_that_was_encoded_anew_resized_or_made_lighter_is_near(changed):
    pictures, near = [drawn(f"A {thing}") for thing in THINGS], NearDuplicates()
    for number, picture in enumerate(pictures):
        near.add(str(number), f"row {number}", appearance_of(picture).signature)

    found = [near.find("another", look(changed(picture)).signature) for picture in pictures]

    assert found == [str(number) for number in range(len(pictures))]


TURNED = Image.Exif()
TURNED[0x0112] = 6


def turned(picture):
    return picture.transpose(Image.Transpose.ROTATE_90)


def test_the_same_shapes_in_other_colours_are_another_picture():
    near, lamp = NearDuplicates(), Image.new("RGB", (90, 90), "white")
    lamp.paste((200, 60, 60), (20, 20, 70, 80))
    blue = Image.merge("RGB", lamp.split()[::-1])
    near.add("red", "row", appearance_of(lamp).signature)

    assert near.find("other", appearance_of(blue).signature) is None
    assert near.find("other", appearance_of(lamp).signature) == "red"


def test_every_near_signature_is_found_among_many_and_the_first_of_them_named():
    rng, near = random.Random(5), NearDuplicates()
    kept = [rng.randbytes(SIGNATURE) for _ in range(3000)]
    for number, signature in enumerate(kept):
        near.add(str(number), f"row {number}", signature)
    for number, signature in enumerate(kept[:200]):
        near.add(f"later {number}", "later", signature)

    def changed(signature, coarse, fine, levels):
        bits = int.from_bytes(signature[: COARSE + FINE])
        for at in rng.sample(range(COARSE * 8), coarse):
            bits ^= 1 << FINE * 8 + at
        for at in rng.sample(range(FINE * 8), fine):
            bits ^= 1 << at
        colours = [each + levels if each < 128 else each - levels for each in signature[COARSE + FINE :]]
        return bits.to_bytes(COARSE + FINE) + bytes(colours)

    for number, signature in enumerate(kept[:200]):
        assert near.find("new", changed(signature, 7, 20, 16)) == str(number)
        assert near.find(f"row {number}", changed(signature, 7, 20, 16)) == f"later {number}"
        assert near.find("new", changed(signature, 8, 20, 16)) is None
        assert near.find("new", changed(signature, 7, 21, 16)) is None
        assert near.find("new", changed(signature, 7, 20, 17)) is None


@pytest.mark.parametrize("colour", ["black", "white", "#336699"])
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_picture_of_one_colour_is_blank(colour, kind):
    assert look(encoded(Image.new("RGB", (200, 120), colour), kind)).is_blank


def test_grain_leaves_a_picture_blank_and_anything_to_be_seen_does_not():
    grain = Image.blend(Image.new("RGB", (512, 512)), Image.effect_noise((512, 512), 30).convert("RGB"), 0.1)
    dot = Image.new("RGB", (512, 512), "white")
    dot.paste("black", (100, 100, 104, 104))

    assert look(encoded(grain)).is_blank
    assert not look(encoded(dot)).is_blank
    assert look(encoded(Image.new("RGBA", (50, 50), (0, 0, 0, 0)))).is_blank


def test_of_bytes_that_cannot_be_decoded_nothing_is_said():
    assert look(b"no picture") is None


def test_pictures_of_the_sandbox_are_told_apart_and_every_planted_one_is_found():
    """Recall and precision that docs/how-to/export.md states."""
    prompts = [f"A {kind} {thing}" for kind in KINDS for thing in THINGS]
    plain = [(appearance_of(drawn(prompt, side=256)), None) for prompt in prompts]
    sources = prompts[::2]
    planted = [(appearance_of(drawn(source, side=256, variant=source[::-1])), source) for source in sources]
    near, found = NearDuplicates(), []
    for (seen, source), name in zip(plain + planted, [*prompts, *(f"near {n}" for n in range(60))], strict=True):
        first = near.find(name, seen.signature)
        found.append((first, source))
        if first is None:
            near.add(name, name, seen.signature)

    assert not {seen.signature for seen, _ in plain} & {seen.signature for seen, _ in planted}
    assert [first for first, source in found if source is None] == [None] * 120, "nothing else"
    assert [first for first, source in found if source] == sources


# -- in an export ------------------------------------------------------------------------------------------------------


def test_near_duplicates_and_blank_pictures_are_flagged_and_counted(shop, tmp_path):
    done = inspected(shop, tmp_path / "ds")

    told = records(tmp_path / "ds")
    assert {key: (each["flags"], each["duplicate_of"]) for key, each in told.items() if each["flags"]} == {
        "stove": ("near_duplicate", "b__chair__0"),
        "heron": ("near_duplicate", "b__chair__0"),
        "table": ("blank", ""),
    }
    assert (done.images, done.near_duplicates, done.dropped, done.blank) == (12, 2, 0, 1)
    card = (tmp_path / "ds/README.md").read_text()
    assert "- 2 near duplicates of an earlier image, which `duplicate_of` names" in card
    assert "- 1 blank image of one colour" in card


def test_near_duplicates_are_left_out_and_listed_where_that_is_asked_for(shop, tmp_path):
    done = inspected(shop, tmp_path / "ds", near_duplicates="drop")

    told = records(tmp_path / "ds")
    assert told.keys() == {*THINGS} - {"stove", "heron"}
    assert (done.images, done.near_duplicates, done.dropped, done.blank) == (10, 2, 2, 1)
    assert told["table"]["flags"] == "blank"
    assert "duplicate_of" not in told["table"]
    lines = [json.loads(line) for line in (tmp_path / "ds/near_duplicates.jsonl").read_text().splitlines()]
    assert [(each["lf_key"], each["duplicate_of"]) for each in lines] == [
        ("stove", "b__chair__0"),
        ("heron", "b__chair__0"),
    ]
    assert (
        "- 2 near duplicates of an earlier image: `near_duplicates.jsonl` names"
        in (tmp_path / "ds/README.md").read_text()
    )


def test_pictures_are_not_decoded_where_near_duplicates_are_kept(shop, tmp_path):
    done = run(shop, tmp_path / "ds", near_duplicates="keep", pool=None)

    assert (done.images, done.near_duplicates, done.blank) == (12, 0, 0)
    assert all(not each["flags"] and "duplicate_of" not in each for each in records(tmp_path / "ds").values())
    assert "Near duplicates and blank images were not looked for." in (tmp_path / "ds/README.md").read_text()


def test_variations_of_one_row_are_no_near_duplicates_of_each_other(ledger, tmp_path):
    rows = [row(0, "one", made_of="lamp"), row(1, "two", made_of="lamp", n=2), row(2, "other")]
    same = [drawn("A lamp", variant=str(number)) for number in range(4)]
    store(ledger, tmp_path / "out", rows, pictures=lambda number: encoded(same[number]))

    done = inspected(ledger, tmp_path / "ds", near_duplicates="drop")

    assert (done.images, done.dropped) == (3, 1)
    assert samples(tmp_path / "ds").keys() == {"b__one__0", "b__two__0", "b__two__1"}


def test_pictures_that_are_converted_are_looked_at_too(shop, tmp_path):
    done = inspected(shop, tmp_path / "ds", near_duplicates="drop", format="jpeg", max_side=64)

    assert (done.images, done.dropped, done.blank) == (10, 2, 1)
    assert inspected(shop, tmp_path / "large", max_side=1000).near_duplicates == 2


def test_a_picture_that_cannot_be_decoded_is_exported_and_counted(ledger, tmp_path):
    store(ledger, tmp_path / "out", [row(0, "one"), row(1, "two")], pictures=lambda number: b"odd %d" % number)

    done = inspected(ledger, tmp_path / "ds")

    assert (done.images, done.near_duplicates, done.blank) == (2, 0, 0)
    assert "- 2 images that could not be decoded" in (tmp_path / "ds/README.md").read_text()


# -- in the ledger -----------------------------------------------------------------------------------------------------


FOUND = {"stove": ["near_duplicate"], "heron": ["near_duplicate"], "table": ["blank"]}


def flags_in_results(ledger, batch="b"):
    """What `results` has in `lf_flags`, of the rows that have any."""
    values = {each.key: row_values(each, str)["lf_flags"] for each in ledger.reports.results(batch)}
    return {key: flags for key, flags in values.items() if flags}


def writes_of(ledger):
    """A list that grows by one with each writing transaction from now on."""
    begun = []
    event.listen(ledger._database.writer, "begin", lambda _: begun.append(1))
    return begun


@pytest.mark.parametrize("what", ["flag", "drop"])
def test_results_have_what_an_export_found_in_one_transaction_and_the_same_again_in_none(shop, tmp_path, what):
    before = list(shop.reports.results("b"))
    writes = writes_of(shop)
    inspected(shop, tmp_path / "ds", near_duplicates=what)
    assert flags_in_results(shop) == FOUND
    assert len(writes) == 1

    assert inspected(shop, tmp_path / "ds", near_duplicates=what).was_done
    inspected(shop, tmp_path / "again", near_duplicates=what)
    assert flags_in_results(shop) == FOUND
    assert len(writes) == 1
    assert files(tmp_path / "again") == files(tmp_path / "ds")
    assert [each.state for each in before] == [each.state for each in shop.reports.results("b")]


def test_many_flags_are_recorded_with_a_transaction_for_some_hundred_images(ledger, tmp_path, monkeypatch):
    monkeypatch.setattr(flags, "PAGE", 5)
    store(ledger, tmp_path / "out", [row(at, f"k{at}") for at in range(12)])  # each of one colour

    writes = writes_of(ledger)
    inspected(ledger, tmp_path / "ds")

    assert flags_in_results(ledger) == {f"k{at}": ["blank"] for at in range(12)}
    assert len(writes) == 3


def test_where_nobody_looks_flags_of_an_earlier_export_stay_and_are_no_part_of_the_data_set(shop, tmp_path):
    run(shop, tmp_path / "before", near_duplicates="keep")
    assert flags_in_results(shop) == {}
    inspected(shop, tmp_path / "ds")

    run(shop, tmp_path / "kept", near_duplicates="keep")

    assert flags_in_results(shop) == FOUND
    assert files(tmp_path / "kept") == files(tmp_path / "before")


def test_pictures_of_one_row_in_several_batches_are_not_near_duplicates_of_each_other(ledger, tmp_path):
    lamp = [drawn("A lamp"), drawn("A lamp", variant="one")]
    for name, picture in zip("bc", lamp, strict=True):
        store(ledger, tmp_path / "out", [row(0, "lamp")], batch=name, pictures=lambda _, it=picture: encoded(it))

    inspected(ledger, tmp_path / "both", names=("b", "c"))

    assert (flags_in_results(ledger), flags_in_results(ledger, "c")) == ({}, {})


def test_flags_of_the_newest_export_that_looked_at_an_image_stand(ledger, tmp_path):
    lamp = [drawn("A lamp"), drawn("A lamp", variant="one")]
    store(ledger, tmp_path / "out", [row(0, "lamp")], pictures=lambda _: encoded(lamp[0]))
    later = [lamp[1], drawn("A rug", blank="#fefefe")]
    store(
        ledger, tmp_path / "out", [row(0, "lantern"), row(1, "rug")], batch="c", pictures=lambda at: encoded(later[at])
    )

    inspected(ledger, tmp_path / "both", names=("b", "c"))
    assert (flags_in_results(ledger), flags_in_results(ledger, "c")) == (
        {},
        {"lantern": ["near_duplicate"], "rug": ["blank"]},
    )

    inspected(ledger, tmp_path / "other way", names=("c", "b"))
    assert (flags_in_results(ledger), flags_in_results(ledger, "c")) == (
        {"lamp": ["near_duplicate"]},
        {"rug": ["blank"]},
    )

    inspected(ledger, tmp_path / "alone")
    assert flags_in_results(ledger) == {}


def test_an_image_that_cannot_be_had_keeps_its_flags(shop, tmp_path):
    inspected(shop, tmp_path / "ds")
    table = next(each.images[0] for each in shop.reports.results("b") if each.key == "table")
    (tmp_path / "out" / table.path).unlink()

    inspected(shop, tmp_path / "again")

    assert flags_in_results(shop) == FOUND


def test_a_ledger_that_takes_no_writes_is_asked_once_and_holds_no_export_up(ledger, tmp_path, monkeypatch):
    monkeypatch.setattr(flags, "PAGE", 5)
    store(ledger, tmp_path / "out", [row(at, f"k{at}") for at in range(12)])
    writer = ledger._database.writer
    writer.dispose()
    opened = []
    event.listen(writer, "connect", lambda connection, _: opened.append(connection.execute("PRAGMA query_only = ON")))

    done = inspected(ledger, tmp_path / "ds")

    assert (done.images, done.blank) == (12, 12)
    assert "may write to" in done.flags_not_recorded
    assert flags_in_results(ledger) == {}
    assert len(opened) == 2, "for one write: it is tried once more on a new connection, as always"
    assert inspected(ledger, tmp_path / "ds").was_done


def test_an_export_that_was_killed_records_what_it_had_found_when_it_goes_on(shop, tmp_path):
    bucket, folder = DyingStore(), str(tmp_path / "out")
    options = {"shard_size": 1, "opener": {"s3://ds": bucket, folder: open_store(folder)}.__getitem__}
    bucket.at = 1 + 2 * 10 + 1  # ten parts are on record
    with pytest.raises(Died):
        inspected(shop, "s3://ds", **options)
    bucket.at = 0

    inspected(shop, "s3://ds", **options)

    assert flags_in_results(shop) == FOUND


# -- ended, and gone on with -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["flag", "drop"])
def test_an_export_that_died_at_any_write_decides_the_same_of_every_picture(shop, tmp_path, what):
    (tmp_path / "out/b/2.png").unlink()
    options = {"near_duplicates": what, "splits": read_split("train=60,test=40"), "shard_size": 9000}
    whole, folder = DyingStore(), str(tmp_path / "out")
    inspected(shop, "s3://ds", opener={"s3://ds": whole, folder: open_store(folder)}.__getitem__, **options)
    at, died = 0, True
    while died:
        at, died = at + 1, False
        store = DyingStore(at)
        opener = {"s3://ds": store, folder: open_store(folder)}.__getitem__
        for more in (3, 3, 0, 0):  # it dies after three more writes, twice, and then no more
            try:
                done = inspected(shop, "s3://ds", opener=opener, **options)
                break
            except Died:
                died, store.at = True, store.writes + more if more else 0
        assert done.near_duplicates == 2
        assert store.held == whole.held, f"died at write {at}"
    assert at > 12, "it died at each of the writes"


def test_what_was_decided_is_replayed_without_reading_pictures_again(shop, tmp_path):
    asked = []

    class Watched(DiskStore):
        def read(self, path):
            asked.append(path)
            return super().read(path)

    store, folder = DyingStore(), str(tmp_path / "out")
    opener = {"s3://ds": store, folder: Watched(tmp_path / "out")}.__getitem__
    options = {"near_duplicates": "drop", "shard_size": 1, "opener": opener}
    inspected(shop, "s3://ds", **options)
    whole, store.held, store.writes, store.at = store.held, {}, 0, 1 + 2 * 8 + 1  # eight parts of ten are on record
    with pytest.raises(Died):
        inspected(shop, "s3://ds", **options)
    asked.clear()
    store.at = 0
    inspected(shop, "s3://ds", **options)

    assert store.held == whole
    assert len(asked) == 2
