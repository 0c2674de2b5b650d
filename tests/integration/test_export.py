"""An export of batches in folders, ended anywhere and gone on with."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import shutil
import sys
import tarfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from pyarrow import parquet

from jobs.errors import BadInput, LightfastError, StoreError
from jobs.export.options import SHAPES, read_split
from jobs.manifest.templates import parse
from tests.support.exports import Died, DyingStore, files, run, samples
from tests.support.picture_ledger import NOW, open_pictures, picture, row, store
from worker.export import imagefolder
from worker.export.state import MARK
from worker.export.workspace import workspace
from worker.runtime.executors import in_order
from worker.storage.disk import DiskStore
from worker.storage.opening import open_store

STYLES = ("oil", "photo")
SPLIT = read_split("train=60,test=40")
NEEDS_A_FULL_DISK = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")


@pytest.fixture
def ledger(tmp_path):
    with contextlib.closing(open_pictures(tmp_path)) as opened:
        yield opened


def stored(ledger, tmp_path, count):
    """So many rows with two variations each; one has two images and one was refused."""
    rows = [
        row(2 * n + at, f"k{n}-{style}", style=style, made_of=f"k{n}", n=1 + (n == 3))
        for n in range(count)
        for at, style in enumerate(STYLES)
    ]
    store(ledger, tmp_path / "out", rows, refused=("k5-oil",))
    return ledger


@pytest.fixture
def shop(ledger, tmp_path):
    return stored(ledger, tmp_path, 12)


@pytest.fixture
def small_shop(ledger, tmp_path):
    return stored(ledger, tmp_path, 7)


def test_every_stored_picture_is_there_once_with_its_caption_and_record(shop, tmp_path):
    done = run(shop, tmp_path / "ds", caption=parse("{prompt} as {style}", "--caption"), splits=SPLIT)

    found = samples(tmp_path / "ds")
    assert len(found) == done.images == 25
    assert done.rows_without == 1
    assert {each["png"] for each in found.values()} == {picture(number) for number in range(25)}
    one = found["b__k3-oil__1"]
    assert one["txt"] == b"A k3-oil as oil"
    record = json.loads(one["json"])
    assert (record["style"], record["batch"], record["lf_key"], record["index"]) == ("oil", "b", "k3-oil", 1)
    assert done.splits == Counter(each["split"] for each in found.values())


def test_variations_of_one_row_are_in_one_split_of_the_data_set(shop, tmp_path):
    run(shop, tmp_path / "ds", splits=SPLIT)

    of_rows = {}
    for name, each in samples(tmp_path / "ds").items():
        of_rows.setdefault(name.split("__")[1].split("-")[0], set()).add(each["split"])
    assert all(len(splits) == 1 for splits in of_rows.values())
    assert set().union(*of_rows.values()) == {"train", "test"}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_export_writes_the_same_bytes(shop, tmp_path, shape):
    for name in ("one", "two"):
        run(shop, tmp_path / name, splits=SPLIT, shape=shape)

    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_an_image_folder_has_each_picture_as_a_file_and_a_line_for_it(shop, tmp_path):
    done = run(shop, tmp_path / "ds", shape="imagefolder", splits=SPLIT)

    for split, number in done.splits.items():
        folder = tmp_path / "ds" / split
        lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
        assert {each["file_name"] for each in lines} == {path.name for path in folder.glob("*.png")}
        assert len(lines) == number
        assert all(each["text"] == f"A {each['key']}" for each in lines)
        for each in lines:
            data = (folder / each["file_name"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == each["sha256"] == each["source_sha256"]
    assert sum(done.splits.values()) == 25
    assert {each["file"] for each in done.files} == {f"{split}/metadata.jsonl" for split in ("train", "test")}
    assert not list((tmp_path / "ds/.lightfast/export").iterdir())


def test_a_number_that_is_not_there_is_no_text_in_an_image_folder(ledger, tmp_path):
    rows = [row(0, "a", seed=7, sharp=True, style="oil"), row(1, "b", seed=None, sharp=None, style=None)]
    store(ledger, tmp_path / "out", rows)

    run(ledger, tmp_path / "ds", shape="imagefolder", columns=("seed", "sharp", "style"))

    lines = parquet.read_table(tmp_path / "ds/train/metadata.parquet").to_pylist()
    assert [(each["seed"], each["sharp"], each["style"]) for each in lines] == [(7, True, "oil"), (None, None, "")]


@pytest.mark.parametrize(
    ("own", "caption", "name"),
    [
        ({"day": "2 January", "seed": 7, "zip": "007"}, "{prompt}", "metadata.jsonl"),
        ({"day": "2026-01-02-morning"}, "{prompt}", "metadata.jsonl"),
        ({"day": "2026-01-02"}, "{prompt}", "metadata.parquet"),
        ({"day": "2026-01-02 03:04"}, "{prompt}", "metadata.parquet"),
        ({"note": "on 2026-01-02 03:04"}, "{note|2026-01-02}", "metadata.jsonl"),
        ({"note": ""}, "{note|2026-01-02}", "metadata.parquet"),
        ({"seed": None}, "{prompt}", "metadata.parquet"),
    ],
)
def test_what_loaders_would_guess_wrong_from_lines_of_json_is_in_a_table_with_types(
    ledger, tmp_path, own, caption, name
):
    store(ledger, tmp_path / "out", [row(0, "a", seed=7, note="n"), row(1, "b", **{"seed": 7, "note": "n", **own})])

    done = run(ledger, tmp_path / "ds", shape="imagefolder", caption=parse(caption, "--caption"))

    assert [path.name for path in (tmp_path / "ds/train").glob("metadata.*")] == [name]
    assert [each["file"] for each in done.files] == [f"train/{name}"]


def test_an_image_folder_that_needs_types_is_refused_before_anything_is_written_without_pyarrow(
    ledger, tmp_path, monkeypatch
):
    store(ledger, tmp_path / "out", [row(0, "a", day="2026-01-02")])
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(LightfastError, match=r"of text that looks like dates.* needs pyarrow, which is not installed"):
        run(ledger, tmp_path / "ds", shape="imagefolder")

    assert not (tmp_path / "ds").exists()


def test_shards_are_no_larger_than_asked_but_for_one_larger_picture(shop, tmp_path):
    run(shop, tmp_path / "small", shard_size=250)
    done = run(shop, tmp_path / "tiny", shard_size=1)

    with tarfile.open(tmp_path / "small/train-000000.tar") as tar:
        assert sum(member.size for member in tar if member.name.endswith(".png")) <= 250
    assert len(done.files) == 25


def test_batches_follow_each_other_and_their_columns_stand_beside_each_other(shop, tmp_path):
    store(shop, tmp_path / "elsewhere", [row(0, "k1-oil", colour="red")], batch="second")

    done = run(shop, tmp_path / "ds", names=("second", "b"), shard_size=10**6)

    with tarfile.open(tmp_path / "ds/train-000000.tar") as tar:
        assert tar.getnames()[0] == "second__k1-oil__0.png"
        record = json.load(tar.extractfile("second__k1-oil__0.json"))
    assert (record["colour"], record["style"]) == ("red", None)
    assert done.images == 26


def test_a_picture_that_is_gone_or_changed_is_told_and_the_others_are_exported(shop, tmp_path):
    (tmp_path / "out/b/3.png").unlink()
    (tmp_path / "out/b/5.png").write_bytes(picture(999))

    done = run(shop, tmp_path / "ds")

    assert (done.images, done.missing) == (23, 2)
    told = [json.loads(line) for line in (tmp_path / "ds/missing.jsonl").read_text().splitlines()]
    assert [(each["path"], each["reason"]) for each in told] == [
        ("b/3.png", "gone"),
        ("b/5.png", "changed since it was stored"),
    ]
    assert not {each["name"] for each in told} & samples(tmp_path / "ds").keys()
    assert "2 images that were gone or changed" in (tmp_path / "ds/README.md").read_text()


def test_the_card_counts_what_there_is_and_says_no_money_unasked(shop, tmp_path):
    run(shop, tmp_path / "ds", splits=SPLIT, license="cc-by-4.0")
    run(shop, tmp_path / "money", with_cost=True)

    card = (tmp_path / "ds/README.md").read_text()
    assert 'license: "cc-by-4.0"' in card
    assert "25 images of 23 prompts" in card
    assert "| gpt-image-2 | maxapi.io | 25 |" in card
    assert "| oil | " in card
    assert "- 1 row without a stored image" in card
    assert "$" not in card
    assert "List price of all images: $0.50." in (tmp_path / "money/README.md").read_text()


def test_converted_pictures_have_their_own_pixels_hash_and_ending_and_their_sources_hash(ledger, tmp_path):
    def pictures(number):
        return b"no picture" if number == 2 else picture(number)

    store(ledger, tmp_path / "out", [row(number, f"k{number}") for number in range(25)], pictures=pictures)
    options = {"format": "jpeg", "max_side": 20, "columns": ("width", "height", "sha256", "source_sha256")}

    done = run(ledger, tmp_path / "ds", pool=lambda: ThreadPoolExecutor(2), **options)

    found = samples(tmp_path / "ds")
    assert (len(found), done.missing) == (24, 1)
    assert done.first_missing[0]["reason"] == "no picture that can be converted"
    assert {each["source_sha256"] for each in map(record_of, found.values())} <= {
        hashlib.sha256(picture(number)).hexdigest() for number in range(25)
    }
    for each in found.values():
        told = record_of(each)
        assert Image.open(io.BytesIO(each["jpg"])).size == (told["width"], told["height"]) == (20, 15)
        assert hashlib.sha256(each["jpg"]).hexdigest() == told["sha256"]
    assert "converted to jpeg (quality 95) and have at most 20 pixels" in (tmp_path / "ds/README.md").read_text()


def record_of(sample):
    return json.loads(sample["json"])


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"caption": parse("{styl}", "--caption")}, 'there is no column "styl". Did you mean style?'),
        ({"columns": ("kye",)}, 'there is no column "kye"'),
        ({"split_by": "nobody"}, 'there is no column "nobody"'),
        ({"caption": parse("{note}", "--caption")}, "{note} is empty in row k0-oil of b"),
    ],
)
def test_what_does_not_fit_the_batch_is_said_before_anything_is_written(ledger, tmp_path, options, said):
    store(ledger, tmp_path / "out", [row(0, "k0-oil", style="oil", note="")])

    with pytest.raises(BadInput) as told:
        run(ledger, tmp_path / "ds", **options)

    assert said in told.value.problems[0]
    assert not (tmp_path / "ds").exists()


def test_a_batch_without_a_stored_image_is_refused(ledger, tmp_path):
    store(ledger, tmp_path / "out", [row(0, "k0")], refused=("k0",))

    with pytest.raises(BadInput, match="no image of 1 row is stored"):
        run(ledger, tmp_path / "ds")

    assert not (tmp_path / "ds").exists()


@pytest.mark.parametrize("below", ["more", "train/a/b"])
def test_a_place_within_another_export_is_refused(shop, tmp_path, below):
    run(shop, tmp_path / "ds")
    before = files(tmp_path / "ds")

    with pytest.raises(BadInput, match="lies within another export, "):
        run(shop, tmp_path / "ds" / below, splits=SPLIT)

    assert files(tmp_path / "ds") == before
    assert run(shop, tmp_path / "beside").images == 25


def test_a_prefix_within_another_export_in_a_bucket_is_refused(small_shop, tmp_path):
    places = {"s3://b": DyingStore(), "s3://b/sets": DyingStore(), "s3://b/sets/one": DyingStore()}
    opener = {**places, str(tmp_path / "out"): open_store(str(tmp_path / "out"))}.__getitem__
    run(small_shop, "s3://b/sets", opener=opener)

    with pytest.raises(BadInput, match=r"--to s3://b/sets/one: it lies within another export, s3://b/sets,"):
        run(small_shop, "s3://b/sets/one", opener=opener)

    assert not places["s3://b/sets/one"].held


@pytest.mark.parametrize("name", ["m.csv", "m.csv/ds"])
def test_a_file_for_a_destination_is_wrong_input(shop, tmp_path, name):
    (tmp_path / "m.csv").write_text("mine")

    with pytest.raises(BadInput, match="a file is there"):
        run(shop, tmp_path / name)

    assert (tmp_path / "m.csv").read_text() == "mine"


@pytest.mark.parametrize("own", [{"key": "mine"}, {}])
def test_lists_of_what_is_left_out_name_images_by_the_names_of_records(ledger, tmp_path, own):
    rows = [replace(row(n, f"k{n}"), carried=json.dumps({"note": "x", **own}).encode()) for n in range(2)]
    store(ledger, tmp_path / "out", rows)
    (tmp_path / "out/b/1.png").unlink()

    run(ledger, tmp_path / "ds")

    (lost,) = [json.loads(line) for line in (tmp_path / "ds/missing.jsonl").read_text().splitlines()]
    (record,) = map(record_of, samples(tmp_path / "ds").values())
    name = "lf_key" if own else "key"
    assert (lost[name], record[name]) == ("k0", "k1")
    assert ("key" in lost) == (name == "key")


def test_nothing_is_written_where_something_is(shop, tmp_path):
    (tmp_path / "ds").mkdir()
    (tmp_path / "ds/notes.txt").write_text("mine")

    with pytest.raises(BadInput, match="there is something already"):
        run(shop, tmp_path / "ds")

    assert files(tmp_path / "ds") == {"notes.txt": b"mine"}


def test_another_export_is_never_written_over_and_the_same_one_is_said_to_be_done(shop, tmp_path):
    first = run(shop, tmp_path / "ds")
    before = files(tmp_path / "ds")

    with pytest.raises(BadInput, match="another export is there, done: b as webdataset"):
        run(shop, tmp_path / "ds", splits=SPLIT)
    again = run(shop, tmp_path / "ds")

    assert files(tmp_path / "ds") == before
    assert again.was_done
    assert again.images == first.images


def test_a_batch_that_is_exported_with_another_is_another_export(shop, tmp_path):
    run(shop, tmp_path / "ds")
    store(shop, tmp_path / "out", [row(0, "new")], batch="c")

    with pytest.raises(BadInput, match="another export is there, done: b as webdataset, with other options"):
        run(shop, tmp_path / "ds", names=("b", "c"))


def test_an_image_that_is_made_anew_since_is_told_and_nothing_is_written_over(shop, tmp_path):
    run(shop, tmp_path / "ds")
    before = files(tmp_path / "ds")
    shop.batches.redo("b", [("k11-photo", None)], NOW + 10_000)

    with pytest.raises(BadInput) as told:
        run(shop, tmp_path / "ds")

    assert "before rows or images changed: made, redone or repaired since" in told.value.problems[0]
    assert "name an empty folder or prefix" in told.value.problems[0]
    assert files(tmp_path / "ds") == before
    assert run(shop, tmp_path / "new").images == 24


def test_an_address_that_is_none_is_wrong_input(shop):
    with pytest.raises(BadInput, match="--to ftp://x: a destination is"):
        run(shop, "ftp://x")


def test_a_file_that_somebody_put_in_the_way_is_not_written_over(shop, tmp_path):
    def tell(stage, through, *_):
        if (stage, through) == ("exported", 1):
            (tmp_path / "ds/train-000001.tar").write_text("mine")

    with pytest.raises(LightfastError, match="something else is at train-000001"):
        run(shop, tmp_path / "ds", tell=tell)

    assert (tmp_path / "ds/train-000001.tar").read_text() == "mine"


# -- ended anywhere ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "after"), [("webdataset", True), ("webdataset", False), ("imagefolder", False)])
def test_an_export_that_died_at_any_write_goes_on_to_the_same_bytes(small_shop, tmp_path, monkeypatch, shape, after):
    monkeypatch.setattr(imagefolder, "_PICTURES", 3)
    monkeypatch.setattr(imagefolder, "_PUTS", 1)
    (tmp_path / "out/b/9.png").unlink()
    whole = DyingStore()
    places = {"s3://ds": whole, str(tmp_path / "out"): open_store(str(tmp_path / "out"))}
    run(small_shop, "s3://ds", splits=SPLIT, shape=shape, opener=places.__getitem__)
    at, died = 0, True
    while died:
        at, died = at + 1, False
        store = DyingStore(at, after=after)
        opener = {**places, "s3://ds": store}.__getitem__
        try:
            run(small_shop, "s3://ds", splits=SPLIT, shape=shape, opener=opener)
        except Died:
            died, store.at = True, 0
            assert run(small_shop, "s3://ds", splits=SPLIT, shape=shape, opener=opener).missing == 1
        assert store.held == whole.held, f"died at write {at}"
    assert at > 9, "it died at each of the writes"


def test_parts_on_record_are_not_read_again(shop, tmp_path):
    asked = []

    class Watched(DiskStore):
        def read(self, path):
            asked.append(path)
            return super().read(path)

    store = DyingStore(5, after=True)  # the mark, two parts with their records
    opener = {"s3://ds": store, str(tmp_path / "out"): Watched(tmp_path / "out")}.__getitem__
    with pytest.raises(Died):
        run(shop, "s3://ds", opener=opener)
    first, store.at = len(asked), 0
    run(shop, "s3://ds", opener=opener)

    assert first >= 11
    assert len(asked) - first == 25 - 2 * 5


def test_lines_that_another_process_took_away_end_an_image_folder_without_a_file_of_fewer(shop, tmp_path):
    class Raced(DiskStore):
        def read(self, path):
            return None if path.startswith(".lightfast/export/") and path.endswith(".jsonl") else super().read(path)

    def opener(address):
        return Raced(tmp_path / "ds") if address == str(tmp_path / "ds") else open_store(address)

    with pytest.raises(LightfastError, match="exported by another process, too"):
        run(shop, tmp_path / "ds", shape="imagefolder", opener=opener)

    assert not (tmp_path / "ds/train/metadata.jsonl").exists()


# -- what is lost since ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_a_file_that_is_gone_since_an_export_was_done_is_named_when_it_is_asked_for_again(shop, tmp_path, shape):
    (tmp_path / "out/b/3.png").unlink()
    run(shop, tmp_path / "ds", shape=shape, splits=SPLIT, shard_size=10**6)
    kept = {path.relative_to(tmp_path / "ds").as_posix() for path in (tmp_path / "ds").rglob("*") if path.is_file()}
    assert run(shop, tmp_path / "ds", shape=shape, splits=SPLIT, shard_size=10**6).lost == 0

    for name in {"picture" if name.endswith(".png") else name: name for name in sorted(kept - {MARK})}.values():
        path = tmp_path / "ds" / name
        data = path.read_bytes()
        path.unlink()
        done = run(shop, tmp_path / "ds", shape=shape, splits=SPLIT, shard_size=10**6)
        assert (done.lost, done.first_lost[0]["reason"]) == (1, "gone"), name
        assert done.first_lost[0]["file"] == name.removesuffix(".png")
        path.write_bytes(data)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_file_of_another_size_since_an_export_was_done_is_named(shop, tmp_path, shape):
    done = run(shop, tmp_path / "ds", shape=shape)
    name = done.files[0]["file"]
    with (tmp_path / "ds" / name).open("ab") as file:
        file.write(b"more")
    (tmp_path / "ds/README.md").write_text("our own words")

    done = run(shop, tmp_path / "ds", shape=shape)

    assert [each["file"] for each in done.first_lost] == [name]
    assert re.fullmatch(r"of [\d,]+ bytes, and was written with [\d,]+", done.first_lost[0]["reason"])


@pytest.mark.parametrize("shape", ["webdataset", "imagefolder"])
def test_what_was_lost_while_an_export_was_stopped_is_made_again(shop, tmp_path, monkeypatch, shape):
    monkeypatch.setattr(imagefolder, "_PICTURES", 3)
    run(shop, tmp_path / "whole", shape=shape, splits=SPLIT)
    with pytest.raises(LightfastError):
        run(shop, tmp_path / "ds", shape=shape, splits=SPLIT, opener=away(tmp_path))
    there = sorted(path for path in (tmp_path / "ds").rglob("*") if path.suffix in {".tar", ".png", ".jsonl"})
    assert len(there) > 1
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "ds", copy)

    for path in [there[0], *there[-2:]]:
        shutil.rmtree(tmp_path / "ds")
        shutil.copytree(copy, tmp_path / "ds")
        path.unlink()
        run(shop, tmp_path / "ds", shape=shape, splits=SPLIT)
        assert files(tmp_path / "ds") == files(tmp_path / "whole"), path.name


def test_a_file_that_was_cut_while_an_export_was_stopped_is_named_and_not_written_over(shop, tmp_path):
    with pytest.raises(LightfastError):
        run(shop, tmp_path / "ds", opener=away(tmp_path))
    cut = tmp_path / "ds/train-000000.tar"
    cut.write_bytes(cut.read_bytes()[:512])

    with pytest.raises(LightfastError, match=r"something else is at train-000000\.tar"):
        run(shop, tmp_path / "ds")

    assert cut.stat().st_size == 512
    cut.unlink()
    assert run(shop, tmp_path / "ds").images == 25


class Away(DiskStore):
    """A bucket that stops to answer at one of its images."""

    def read(self, path):
        if path == "b/20.png":
            raise StoreError(code="bucket_unreachable", message="no answer", retryable=True)
        return super().read(path)


def away(tmp_path):
    out = str(tmp_path / "out")
    return lambda address: Away(tmp_path / "out") if address == out else open_store(address)


def test_a_store_that_does_not_answer_stops_the_export_which_goes_on_later(shop, tmp_path):
    with pytest.raises(LightfastError, match=r"no answer \(bucket_unreachable\).*the same command goes on"):
        run(shop, tmp_path / "ds", opener=away(tmp_path))
    assert json.loads((tmp_path / "ds" / MARK).read_text())["state"] == "begun"

    assert run(shop, tmp_path / "ds").images == 25


def test_what_killed_exports_left_is_gone_after_the_next_one_and_what_others_write_stays(shop, tmp_path, monkeypatch):
    temporary, parts = tmp_path / "temporary", tmp_path / "ds/.lightfast/parts"
    (temporary / "lightfast-export-dead").mkdir(parents=True)
    for name in ("lock", "train.part"):
        (temporary / "lightfast-export-dead" / name).write_bytes(b"")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with pytest.raises(LightfastError):
        run(shop, tmp_path / "ds", opener=away(tmp_path))
    (parts / "left").write_bytes(b"half")

    with workspace() as other:
        run(shop, tmp_path / "ds")

        assert list(temporary.iterdir()) == [other]
    assert not list(parts.iterdir())
    assert not list(temporary.iterdir())


@pytest.fixture
def full(tmp_path, monkeypatch):
    """What makes the disk for temporary files full once all rows are looked through."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    def tell(stage, through, *_):
        if (stage, through) == ("looked through", 25):
            (folder,) = temporary.iterdir()
            (folder / "train.part").symlink_to("/dev/full")

    yield tell
    assert not list(temporary.iterdir())


@NEEDS_A_FULL_DISK
@pytest.mark.parametrize("shape", ["parquet", "webdataset"])
def test_a_full_disk_for_temporary_files_is_told_and_the_export_goes_on_when_there_is_room(shop, tmp_path, full, shape):
    with pytest.raises(LightfastError) as told:
        run(shop, tmp_path / "ds", shape=shape, shard_size=10**6, tell=full)

    assert f"No space left on device ({tmp_path}/temporary; TMPDIR names another folder" in str(told.value)
    assert files(tmp_path / "ds").keys() == {MARK}
    assert json.loads((tmp_path / "ds" / MARK).read_text())["state"] == "begun"
    for name in ("ds", "whole"):
        run(shop, tmp_path / name, shape=shape, shard_size=10**6)
    assert files(tmp_path / "ds") == files(tmp_path / "whole")


@NEEDS_A_FULL_DISK
def test_what_stopped_an_export_is_told_and_not_that_the_temporary_disk_is_full_as_well(shop, tmp_path, full):
    with pytest.raises(LightfastError, match=r"no answer \(bucket_unreachable\)"):
        run(shop, tmp_path / "ds", shard_size=10**6, tell=full, opener=away(tmp_path))


def test_a_batch_that_changes_meanwhile_is_exported_as_it_was_when_it_was_looked_through(shop, tmp_path):
    def tell(stage, through, *_):
        if (stage, through) == ("looked through", 25):
            shop.batches.redo("b", [("k11-photo", row(0, "k11-photo").request)], 1_800_010_000.0)

    run(shop, tmp_path / "before")
    assert run(shop, tmp_path / "ds", tell=tell).images == 25

    assert files(tmp_path / "ds") == files(tmp_path / "before")
    assert run(shop, tmp_path / "after").images == 24


def test_no_more_is_read_ahead_than_the_window_holds():
    running = []

    def work(item):
        running.append(item)
        return item

    results = in_order(work, iter([5, 5, 5, 50, 5]), 4, weight=lambda each: each, most=12)

    assert next(results) == 5
    assert len(running) <= 3
    assert [*results] == [5, 5, 50, 5]
