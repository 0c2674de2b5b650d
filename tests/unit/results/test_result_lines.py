"""Result lines: own columns untouched, then lf_, in every format."""

from __future__ import annotations

import csv
import io
import itertools
import json
import tracemalloc

import pytest

from jobs.errors import BadInput
from jobs.results.rows import (
    Choice,
    ReplacedValues,
    UnreadableLines,
    as_term,
    check_words,
    choose_columns,
    chosen,
    image_lines,
    near,
    plain_address,
    public_address,
    row_lines,
)
from jobs.results.writers import with_own_types, write_csv, write_jsonl, write_parquet
from jobs.states import JobState
from tests.support.results_samples import A_FAILED, A_SKIPPED, a_missing_image, a_result, an_image

OWN = ("Handle", "prompt", "lf_status")
AT_S3 = plain_address("s3://shop/spring/")


def as_csv(results, asked=None, *, per_image=False):
    lines = (image_lines if per_image else row_lines)(results, AT_S3)
    file = io.BytesIO()
    write_csv(file, choose_columns(asked, OWN, per_image=per_image), lines)
    return list(csv.DictReader(io.StringIO(file.getvalue().decode(), newline="")))


def test_a_row_keeps_its_own_columns_and_gains_those_of_the_contract_in_their_order():
    rows = as_csv([a_result(images=(an_image(0), an_image(1, flags=("wrong-pixels",))), cost=40_000)])

    assert list(rows[0].items()) == [
        ("Handle", "lamp"),
        ("prompt", "A lamp"),
        ("lf_key", "lamp"),
        ("lf_status", "done"),
        ("lf_images", "2"),
        ("lf_urls", '["s3://shop/spring/catalog/lamp/0.png","s3://shop/spring/catalog/lamp/1.png"]'),
        ("lf_width", "[1024,1024]"),
        ("lf_height", "[1536,1536]"),
        ("lf_bytes", "[1400000,1400000]"),
        ("lf_sha256", json.dumps(["ab" * 32] * 2, separators=(",", ":"))),
        ("lf_provider", "maxapi.io"),
        ("lf_model", "gpt-image-2"),
        ("lf_cost_usd", "0.04"),
        ("lf_error", ""),
        ("lf_message", ""),
        ("lf_flags", '["wrong-pixels"]'),
        ("lf_done_at", "2026-05-14T02:14:07Z"),
    ]


def test_values_of_own_columns_come_out_as_they_went_in():
    nasty = '=1+2 "quoted", two\r\nlines; \u4e2d\u6587 \x00'

    rows = as_csv([a_result(carried={"Handle": nasty, "prompt": ""})])

    assert rows[0]["Handle"] == nasty


def test_an_unknown_price_is_empty_and_a_known_zero_is_not():
    rows = as_csv([a_result(cost=None), A_FAILED])

    assert [row["lf_cost_usd"] for row in rows] == ["", "0.00"]


def test_per_image_gives_a_line_for_each_slot_and_one_for_a_row_without():
    short = a_result(
        "set", state=JobState.PARTIAL, images=(an_image(0), a_missing_image(1)), error_code="provider_failed"
    )

    rows = as_csv([short, A_FAILED, A_SKIPPED], per_image=True)

    told = [(row["lf_key"], row["lf_index"], row["lf_status"], row["lf_url"], row["lf_error"]) for row in rows]
    assert told == [
        ("set", "0", "done", "s3://shop/spring/catalog/lamp/0.png", ""),
        ("set", "1", "failed", "", "provider_failed"),
        ("vase", "0", "failed", "", "moderation"),
        ("rug", "", "skipped", "", ""),
    ]
    assert "lf_urls" not in rows[0]


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("Handle,Image Src=lf_url", ["Handle", "Image Src"]),
        ("*,-lf_*,Image Src=lf_url", ["Handle", "prompt", "Image Src"]),
        ("prompt=lf_prompt,lf_status", ["prompt", "lf_status"]),
        ("*,-*,lf_key", ["lf_key"]),
    ],
)
def test_columns_are_chosen_left_out_and_renamed(asked, names):
    rows = as_csv([a_result()], asked)

    assert list(rows[0]) == names
    assert rows[0].get("Image Src", "s3://shop/spring/catalog/lamp/0.png").endswith("lamp/0.png")


def test_a_star_keeps_every_column_and_a_name_of_its_own_replaces_one_in_place():
    rows = as_csv([a_result()], "*,Handle=lf_url")

    assert list(rows[0])[:3] == ["Handle", "prompt", "lf_key"]
    assert rows[0]["Handle"] == "s3://shop/spring/catalog/lamp/0.png"


@pytest.mark.parametrize("name", ["Price [EUR]", "Net, gross", 'Size "', "It's", "Image Src"])
def test_any_name_of_a_column_can_be_left_out_and_named(name):
    left_out = choose_columns(f"*,-lf_*,{as_term(f'-{name}')}", ["key", name])
    named = choose_columns(as_term(name.replace(" ", "\u00a0 ")), ["key", name])

    assert ([each.name for each in left_out], [each.name for each in named]) == (["key"], [name])


@pytest.mark.parametrize("term", ["prompt=lf_url", "prompt=lf_urls", "prompt=lf_width"])
def test_a_column_in_anothers_place_keeps_the_old_value_where_there_is_no_new_one(term):
    done, failed, skipped = as_csv([a_result(), A_FAILED, A_SKIPPED], f"*,-lf_*,{term}")

    assert list(done) == ["Handle", "prompt"]
    assert done["prompt"] not in ("", "A lamp")
    assert (failed["prompt"], skipped["prompt"]) == ("A lamp", "A lamp")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("*,-lf_*,prompt=lf_url", ['2 values of your column "prompt" are replaced by lf_url. ']),
        ("prompt=lf_url,Handle=lf_key", ['2 values of your column "prompt" are replaced by lf_url. ']),
        ("*,-lf_*,New Image=lf_url", []),
        ("*", []),
    ],
)
def test_values_of_the_manifest_that_others_take_the_place_of_are_counted(asked, told):
    """Those that stay, and those that are replaced by the same, are none."""
    columns = choose_columns(asked, ["Handle", "prompt"])
    replaced = ReplacedValues(columns, ["Handle", "prompt"])

    lines = row_lines([a_result(), a_result(), A_FAILED, A_SKIPPED], AT_S3)

    assert len(list(replaced.watch(lines))) == 4
    assert [line.partition("A name")[0] for line in replaced.notes] == told
    assert all("--columns '*,-lf_*,New Image=lf_url'" in line for line in replaced.notes)


@pytest.mark.parametrize(
    ("own", "free"),
    [
        (["Handle", "New Image"], "New Image 2"),
        (["Handle", "new image", "New Image 2"], "New Image 3"),  # shops read both in one way
        (["Handle", "New Image 2"], "New Image"),
    ],
)
def test_what_keeps_a_columns_values_names_one_that_is_not_there_yet(own, free):
    replaced = ReplacedValues(choose_columns("*,-lf_*,Handle=lf_url", own), own)

    list(replaced.watch(row_lines([a_result()], AT_S3)))

    (note,) = replaced.notes
    assert note.endswith(f"--columns '*,-lf_*,{free}=lf_url'")


def test_a_column_is_taken_from_an_object_by_its_dotted_name():
    columns = choose_columns("Title=input.title,input.n,input.gone", ["input"])
    line = {"input": {"title": "Ruby ring", "n": 2}}

    assert [(each.name, each.of(line)[1]) for each in columns] == [
        ("Title", "Ruby ring"), ("input.n", 2), ("input.gone", None),
    ]  # fmt: skip
    with pytest.raises(BadInput, match=r"no column 'inptu\.title'"):
        choose_columns("inptu.title", ["input"])


def test_a_parquet_column_in_anothers_place_is_text():
    parquet = pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()

    write_parquet(file, choose_columns("*,-lf_*,prompt=lf_width", OWN), row_lines([a_result(), A_FAILED], AT_S3))

    assert parquet.read_table(io.BytesIO(file.getvalue()))["prompt"].to_pylist() == ["[1024]", "A lamp"]


@pytest.mark.parametrize("asked", ["Handel", "Src=lf_ulr", "*,-nothing"])
def test_an_unknown_column_is_refused_with_its_near_misses(asked):
    with pytest.raises(BadInput, match="no column"):
        choose_columns(asked, OWN)


def test_every_mistake_in_the_columns_is_named_at_once():
    with pytest.raises(BadInput) as refused:
        choose_columns("Src=lf_ulr,Handel,Handle", OWN)

    first, second = refused.value.problems
    assert "'lf_ulr'. Did you mean lf_url" in first
    assert "'Handel'. Did you mean Handle" in second


def test_near_misses_are_named_once_and_without_one_what_there_is():
    assert near("lapm", ["lamp", "lamp", "vase"]) == "Did you mean lamp?"
    assert near("xyz", ["lamp", "vase"]) == "There are: lamp, vase."


def test_lines_are_chosen_by_statuses_codes_and_flags_and_other_words_are_refused():
    results = [a_result(), a_result("odd", images=(an_image(flags=("wrong-pixels",)),)), A_FAILED]
    codes = {"moderation": "", "wrong-pixels": ""}

    def keys(choice):
        return [line["lf_key"] for line in chosen(row_lines(results, AT_S3), choice)]

    wanted = check_words("--only", ["moderation,wrong-pixels"], codes)

    assert keys(Choice(only=wanted)) == ["odd", "vase"]
    assert keys(Choice(without=wanted)) == ["lamp"]
    assert keys(Choice(only=wanted, without=frozenset({"failed"}))) == ["odd"]
    assert keys(None) == ["lamp", "odd", "vase"]
    with pytest.raises(BadInput, match=r"--except: .*fialed.*failed"):
        check_words("--except", ["fialed"], codes)


@pytest.mark.parametrize(
    ("bad", "asked", "told"),
    [
        ([], "*,-lf_*", []),
        ([30], "*,-lf_*", ["1 line of the manifest could not be read, and stands here as far as it was"]),
        ([30, 41], "*,-lf_*", ["2 lines of the manifest could not be read, and stand here as far as they were"]),
        ([30], "*,-lf_*,lf_status", []),
    ],
)
def test_lines_that_could_not_be_read_are_told_where_nothing_in_the_file_shows_them(bad, asked, told):
    odd = {"state": JobState.INVALID, "error_code": "unreadable_row", "message": "3 cells where the header has 4"}
    unreadable = UnreadableLines(choose_columns(asked, OWN))

    lines = [a_result(), A_FAILED, *(a_result(line=line, **odd) for line in bad)]
    assert len(list(unreadable.watch(row_lines(lines, AT_S3)))) == len(lines)

    notes = list(unreadable.notes)
    assert [note.partition(", with")[0] for note in notes] == told
    assert all("line 30" in note and "--except unreadable_row" in note for note in notes)


def test_jsonl_has_real_types():
    file = io.BytesIO()

    write_jsonl(file, choose_columns(None, OWN), row_lines([a_result(), A_SKIPPED], AT_S3))

    done, skipped = (json.loads(line) for line in file.getvalue().splitlines())
    assert done["lf_cost_usd"] == 0.02
    assert done["lf_width"] == [1024]
    assert done["lf_done_at"] == "2026-05-14T02:14:07Z"
    assert skipped["lf_urls"] == []
    assert skipped["lf_error"] is None


def test_parquet_has_typed_columns_and_every_line(monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("jobs.results.writers.ROW_GROUP", 2)
    file = io.BytesIO()
    per_image = choose_columns(None, OWN, per_image=True)

    write_parquet(file, per_image, image_lines([a_result(), A_FAILED, A_SKIPPED], AT_S3))

    table = parquet.read_table(io.BytesIO(file.getvalue()))
    assert table.column_names == [column.name for column in per_image]
    assert table["lf_index"].to_pylist() == [0, 0, None]
    assert table["lf_cost_usd"].to_pylist() == [0.02, None, None]
    assert table["lf_done_at"].to_pylist()[0].isoformat() == "2026-05-14T02:14:07.500000+00:00"


def test_own_columns_of_one_kind_keep_it_in_parquet():
    values = [
        {"id": 1, "score": 0.5, "ok": True, "mixed": 1, "text": "1", "big": 2**64 - 1, "list": [1], "none": None},
        {"id": None, "score": 2.0, "ok": False, "mixed": 1.5, "text": "b", "big": 1, "list": [], "none": None},
    ]
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = with_own_types(choose_columns(",".join(values[0]), list(values[0])), values)
    file = io.BytesIO()

    write_parquet(file, columns, values)

    table = parquet.read_table(io.BytesIO(file.getvalue()))
    assert {field.name: str(field.type) for field in table.schema} == {
        "id": "int64", "score": "double", "ok": "bool", "mixed": "string", "text": "string", "big": "string",
        "list": "string", "none": "string",
    }  # fmt: skip
    assert table.to_pylist()[0] | {"big": None} == {
        "id": 1, "score": 0.5, "ok": True, "mixed": "1", "text": "1", "list": "[1]", "none": None, "big": None,
    }  # fmt: skip


def test_the_types_of_a_table_of_texts_are_known_from_its_first_line():
    lines = iter([{"a": "x"}, {"a": 1}])

    with_own_types(choose_columns("a", ["a"]), lines)

    assert next(lines) == {"a": 1}


def test_addresses_are_the_destinations_own_or_the_public_ones():
    assert plain_address("/data/out put")("a b/0.png") == "file:///data/out%20put/a%20b/0.png"
    assert plain_address("s3://shop")("a b/0.png") == "s3://shop/a b/0.png"
    assert (
        public_address("https://img.shop.com/", "s3://shop/spring")("a b/0.png") == "https://img.shop.com/a%20b/0.png"
    )
    below = public_address("https://img.shop.com", "s3://shop/spring/", "s3://shop")
    assert below("0.png") == "https://img.shop.com/spring/0.png"


def test_a_million_lines_would_take_no_more_memory_than_a_thousand():
    class Nowhere(io.RawIOBase):
        def writable(self):
            return True

        def write(self, data):
            return len(data)

    def peak(lines):
        tracemalloc.start()
        write_csv(Nowhere(), choose_columns(None, OWN), row_lines(itertools.repeat(a_result(), lines), AT_S3))
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    assert peak(4_000) < peak(400) + 50_000


def test_the_path_below_the_destination_is_to_be_had():
    whole = a_result(images=(an_image(0), an_image(1)))

    assert as_csv([whole], "lf_path") == [{"lf_path": "catalog/lamp/0.png"}]
    paths = [row["lf_path"] for row in as_csv([whole, A_FAILED], "lf_path", per_image=True)]
    assert paths == ["catalog/lamp/0.png", "catalog/lamp/1.png", ""]
