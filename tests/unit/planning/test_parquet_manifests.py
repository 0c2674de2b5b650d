"""Parquet as pandas, Spark and datasets for training write it."""

from __future__ import annotations

import datetime as dt
import decimal
import gzip

import orjson
import pyarrow as pa
import pytest
from pyarrow import parquet

from jobs.errors import BadInput
from jobs.manifest.reader import ReadOptions, open_manifest
from jobs.planning.planner import PlanOptions, prepare
from providers.catalog.models import Catalog
from tests.support.planned_rows import EVERYONE


def written(tmp_path, columns, name="m.parquet", **options):
    parquet.write_table(pa.table(columns), tmp_path / name, **options)
    return tmp_path / name


def read(path):
    return open_manifest(path, name=path.name, options=ReadOptions())


def plan(path, **options):
    manifest = read(path)
    planner = prepare(manifest, PlanOptions(batch="b", configured=EVERYONE, **options), Catalog.load())
    return [planner.plan(raw) for raw in manifest.rows()]


def test_rows_are_planned_and_their_values_come_back_with_their_types(tmp_path):
    path = written(tmp_path, {"id": [1, 2], "prompt": ["a", "b"], "n": [2, None], "score": [0.5, float("nan")]})

    planned = plan(path, mapping={"key": "id"})

    assert [(each.row.key, each.row.line, each.row.request.n) for each in planned] == [("1", 1, 2), ("2", 2, 1)]
    assert [orjson.loads(each.row.carried) for each in planned] == [
        {"id": 1, "prompt": "a", "n": 2.0, "score": 0.5},
        {"id": 2, "prompt": "b", "n": None, "score": None},
    ]


def test_structs_and_lists_are_reached_by_dotted_names(tmp_path):
    path = written(tmp_path, {"input": [{"title": "Ruby ring", "links": ["https://a.example/1.png"]}]})

    (planned,) = plan(path, prompt="{input.title}", mapping={"image_urls": "input.links.0"})

    assert planned.row.request.prompt == "Ruby ring"
    assert planned.row.request.references == ("https://a.example/1.png",)


def test_pictures_in_a_data_set_are_not_read_and_that_is_told(tmp_path):
    image = [{"bytes": b"\x89PNG\xff", "path": "1.png"}, {"bytes": b"\x89PNG\xfe", "path": "2.png"}]
    manifest = read(written(tmp_path, {"image": image, "thumb": [b"\xff\xd8", b"\xff"], "prompt": ["a", "b"]}))

    assert manifest.columns == ("image", "prompt")
    assert manifest.notes == ("bytes are not read, and are not in the results: image.bytes, thumb",)
    assert [raw.carried["image"] for raw in manifest.rows()] == [{"path": "1.png"}, {"path": "2.png"}]


def test_what_nobody_sees_in_a_name_does_not_matter(tmp_path):
    manifest = read(written(tmp_path, {"prompt ": ["a"], "\ufeffTitle": ["x"]}))

    assert [dict(raw.cells) for raw in manifest.rows()] == [{"prompt": "a", "Title": "x"}]


def test_bytes_that_are_text_are_text(tmp_path):
    assert [each.row.request.prompt for each in plan(written(tmp_path, {"prompt": ["café".encode(), None, b"b"]}))[::2]]


def test_every_other_type_is_something_that_json_can_hold(tmp_path):
    path = written(
        tmp_path,
        {
            "prompt": ["a"],
            "at": [dt.datetime(2026, 1, 2, 3, 4)],  # noqa: DTZ001  a time without a zone is what is tested
            "nanoseconds": pa.array([1], pa.timestamp("ns")),
            "on": [dt.date(2026, 1, 2)],
            "price": [decimal.Decimal("1.50")],
            "kind": pa.array(["x"]).dictionary_encode(),
            "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
            "big": pa.array([2**64 - 1], pa.uint64()),
        },
    )

    (raw,) = read(path).rows()

    assert list(raw.carried.values()) == [
        "a", "2026-01-02 03:04:00", "1970-01-01 00:00:00.000000001", "2026-01-02", "1.50", "x", {"k": 1}, 2**64 - 1,
    ]  # fmt: skip
    assert orjson.loads(orjson.dumps(raw.carried)) == raw.carried


def test_many_row_groups_are_one_table_and_our_own_results_are_no_columns(tmp_path):
    path = written(tmp_path, {"prompt": [str(n) for n in range(50)], "lf_key": ["k"] * 50}, row_group_size=7)

    assert [(raw.line, dict(raw.cells)) for raw in read(path).rows()] == [
        (n + 1, {"prompt": str(n)}) for n in range(50)
    ]


def test_a_file_that_breaks_off_is_damaged_and_a_packed_one_is_to_be_unpacked(tmp_path):
    whole = written(tmp_path, {"prompt": ["a"]}).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-20])
    (tmp_path / "m.parquet.gz").write_bytes(gzip.compress(whole))

    with pytest.raises(BadInput, match="damaged Parquet"):
        read(tmp_path / "cut.parquet")
    with pytest.raises(BadInput, match="unpack it"):
        read(tmp_path / "m.parquet.gz")


def test_without_pyarrow_the_message_says_how_to_install_it(tmp_path, monkeypatch):
    path = written(tmp_path, {"prompt": ["a"]})
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)

    with pytest.raises(Exception, match="pip install pyarrow"):
        read(path)


@pytest.mark.parametrize("use_dictionary", [True, False])
def test_a_value_that_would_take_all_memory_is_refused_before_it_is_read(tmp_path, use_dictionary):
    columns = {"prompt": ["a cow", "x" * 65_000_000], "key": ["1", "2"]}
    path = written(tmp_path, columns, compression="zstd", use_dictionary=use_dictionary, write_statistics=False)
    assert path.stat().st_size < 300_000

    with pytest.raises(BadInput, match=r"its column prompt unpacks from [0-9,]+ to 65,"):
        read(path)


def test_a_row_with_a_value_that_is_too_long_is_bad_and_much_alike_is_no_fault(tmp_path):
    long_texts = ["x" * 1_000_001, "a cow"]
    same = pa.table({"key": list(map(str, range(10_000))), "prompt": ["a red vase on a table " * 300] * 10_000})
    parquet.write_table(same, tmp_path / "same.parquet", compression="zstd", use_dictionary=False)

    faults = [raw.fault and raw.fault.what for raw in read(written(tmp_path, {"prompt": long_texts})).rows()]

    assert (faults[0] or "").startswith("a cell is longer than 1,000,000 characters")
    assert faults[1] is None
    assert read(tmp_path / "same.parquet").columns == ("key", "prompt")


def test_columns_whose_names_differ_in_what_nobody_sees_must_be_clear_where_one_is_used(tmp_path):
    path = written(tmp_path, {"prompt": ["a cow"], "prompt ": ["a dog"], "Tag": ["x"], "Tag ": ["y"]})

    with pytest.raises(BadInput, match='2 columns are named "prompt", so nobody knows which is meant'):
        plan(path)
    (planned,) = plan(path, mapping={"prompt": "prompt_2"})
    assert planned.row.request.prompt == "a dog"
