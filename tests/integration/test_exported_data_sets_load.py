"""Exports as the libraries that training jobs use load them."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import multiprocessing
import warnings
from datetime import UTC

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from tests.support.patience import until
from tests.support.picture_ledger import NOW, open_pictures, picture, row, store
from tests.support.shop_ledger import call

HOUSES = 12


@pytest.fixture
def shop(tmp_path):
    """Rows with two pictures each, of several houses."""
    ledger = open_pictures(tmp_path)
    rows = [row(n, f"k.{n}", style=("oil", "photo")[n % 2], house=f"h{n % HOUSES}", n=2) for n in range(40)]
    store(ledger, tmp_path / "out", rows)
    ledger.close()
    return tmp_path


def export(shape, *words):
    splits = ("--split", "train=50,test=50", "--split-by", "house", "--caption", "{prompt} in {style}")
    return call("export", "b", "--as", shape, "--to", "ds", *splits, *words)


def pixel(data):
    return Image.open(io.BytesIO(data)).convert("RGB").getpixel((0, 0))


PIXELS = sorted(pixel(picture(number)) for number in range(80))


def test_webdataset_loads_every_picture_with_its_caption_and_record(shop):
    export("webdataset", "--shard-size", "1kB")
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own, and of files that it leaves open
        import webdataset  # noqa: PLC0415  slow to import

        for split in ("train", "test"):
            shards = sorted(str(path) for path in (shop / "ds").glob(f"{split}-*.tar"))
            assert len(shards) > 1
            read = webdataset.WebDataset(shards, shardshuffle=False).decode("pil")
            found[split] = list(read.to_tuple("png", "txt", "json", "__key__"))
        del read
        gc.collect()

    everything = [*found["train"], *found["test"]]
    assert sorted(image.getpixel((0, 0)) for image, *_ in everything) == PIXELS
    assert len({name for *_, name in everything}) == 80
    assert all(caption == f"A {told['key']} in {told['style']}" for _, caption, told, _ in everything)
    houses = [{told["house"] for _, _, told, _ in found[split]} for split in ("train", "test")]
    assert houses[0].isdisjoint(houses[1])
    assert len(houses[0] | houses[1]) == HOUSES


@pytest.fixture
def load(shop, monkeypatch):
    """`datasets.load_dataset`, which may ask no hub and keeps its cache with the test."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(shop / "hf"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import datasets  # noqa: PLC0415  as above

        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        datasets.disable_progress_bars()
        yield lambda *words, **more: datasets.load_dataset(*words, cache_dir=str(shop / "hf"), **more)
        gc.collect()


def test_datasets_loads_shards_of_which_only_later_records_have_flags(shop, load):
    def drawn(number):
        file = io.BytesIO()
        Image.effect_noise((64, 64), 90.0).save(file, "png")
        return file.getvalue() if number < 12 else picture(number)

    with contextlib.closing(open_pictures(shop)) as ledger:
        store(ledger, shop / "out", [row(n, f"c.{n}") for n in range(20)], batch="c", pictures=drawn)
    call("export", "c", "--as", "webdataset", "--to", "ds")

    found = load(str(shop / "ds"))["train"]

    assert [line["json"]["flags"] for line in found] == [""] * 12 + ["blank"] * 8


@pytest.mark.parametrize("shape", ["imagefolder", "parquet"])
def test_datasets_loads_a_column_of_whole_and_other_numbers_as_numbers_and_codes_as_text(shop, load, shape):
    rows = [row(n, f"c.{n}", score=n if n < 6 else n + 0.5, code="007") for n in range(8)]
    with contextlib.closing(open_pictures(shop)) as ledger:
        store(ledger, shop / "out", rows, batch="c")
    call("export", "c", "--as", shape, "--to", "ds")

    found = load(str(shop / "ds"))["train"]

    assert (found.features["score"].dtype, found.features["code"].dtype) == ("float64", "string")
    assert found["score"][:] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.5, 7.5]
    assert set(found["code"]) == {"007"}


@pytest.mark.parametrize("shape", ["imagefolder", "parquet"])
def test_datasets_loads_dates_as_the_text_they_are_and_numbers_that_a_whole_split_lacks(shop, load, shape):
    """What `datasets` would guess differs from split to split: dates or text, numbers or nothing."""
    own = [
        {"house": f"h{n % 4}", "day": f"2026-01-{n + 1:02}" if n % 4 != 1 else "TBA", "opens": "2026-01-02T03:04:05Z"}
        | {
            "score": n / 2 if n % 4 != 1 else None,
            "seed": n if n % 4 != 1 else None,
            "sharp": True if n % 4 != 1 else None,
        }
        for n in range(16)
    ]
    with contextlib.closing(open_pictures(shop)) as ledger:
        store(ledger, shop / "out", [row(n, f"c{n}", **each) for n, each in enumerate(own)], batch="c")
    split = "train=30,test=70"  # h1 alone is in train
    call("export", "c", "--as", shape, "--to", "ds", "--split", split, "--split-by", "house", "--caption", "{opens}")

    for found in (load(shape, data_dir=str(shop / "ds")), load(str(shop / "ds"))):
        assert found["train"].features == found["test"].features
        types = {name: getattr(each, "dtype", "") for name, each in found["train"].features.items()}
        assert {types[name] for name in ("text", "day", "opens", "house", "model", "request")} == {"string"}
        assert (types["score"], types["seed"], types["sharp"]) == ("float64", "int64", "bool")
        assert types["time"].startswith("timestamp")
        assert set(found["train"]["house"]) == {"h1"}
        told = {line["lf_key" if "lf_key" in line else "key"]: line for split in found for line in found[split]}
        assert [{name: told[f"c{n}"][name] for name in each} for n, each in enumerate(own)] == own
        assert {line["text"] for line in told.values()} == {"2026-01-02T03:04:05Z"}
        assert {line["time"].replace(tzinfo=UTC).timestamp() for line in told.values()} == {NOW + 3001}


@pytest.mark.parametrize("shape", ["imagefolder", "parquet"])
def test_datasets_loads_every_picture_as_a_picture_with_its_caption_and_columns(shop, load, shape):
    export(shape, "--shard-size", "1kB", "--with-cost")

    for found in (load(shape, data_dir=str(shop / "ds")), load(str(shop / "ds"))):
        rows = [line for split in ("train", "test") for line in found[split]]
        assert sorted(line["image"].convert("RGB").getpixel((0, 0)) for line in rows) == PIXELS
        assert all(line["text"] == f"A {line['key']} in {line['style']}" for line in rows)
        assert {line["cost_usd"] for line in rows} == {0.04}
        assert {line["index"] for line in rows} == {0, 1}
        assert {line["time"].replace(tzinfo=UTC).timestamp() for line in rows} == {NOW + 3001}
        houses = [set(found[split]["house"]) for split in ("train", "test")]
        assert houses[0].isdisjoint(houses[1])
        assert len(houses[0] | houses[1]) == HOUSES


def test_pyarrow_reads_the_columns_with_their_types_and_the_bytes_of_the_pictures(shop):
    export("parquet", "--shard-size", "1kB")
    files = sorted((shop / "ds/data").glob("train-*.parquet"))

    table = pa.concat_tables([parquet.read_table(file) for file in files])

    assert len(files) > 1
    assert {name: str(table.schema.field(name).type) for name in ("text", "index", "flags", "time", "image")} == {
        "text": "string",
        "index": "int64",
        "flags": "list<element: string>",
        "time": "timestamp[ms, tz=UTC]",
        "image": "struct<bytes: binary, path: string>",
    }
    for line in table.to_pylist():
        assert hashlib.sha256(line["image"]["bytes"]).hexdigest() == line["sha256"]
        assert line["image"]["path"].endswith(".png")


def test_pictures_are_converted_by_processes_of_their_own(shop):
    export("imagefolder", "--format", "webp", "--quality", "80", "--max-side", "16")

    files = [*(shop / "ds").rglob("*.webp")]
    assert len(files) == 80
    assert {Image.open(io.BytesIO(file.read_bytes())).size for file in files} == {(16, 12)}
    until(lambda: not multiprocessing.active_children())
