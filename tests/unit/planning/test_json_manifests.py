"""JSON as people have it: lists, lists in an object, objects on several lines, and one broken line."""

from __future__ import annotations

import gzip
import json
import tracemalloc

import pytest

from jobs.manifest import json_text
from jobs.manifest.reader import ReadOptions, open_manifest
from jobs.planning.duplicates import DuplicateRows, hash64
from jobs.states import JobState
from tests.support.planned_rows import manifest_of, plan, refused, table

TWO = [{"id": 1, "prompt": "a cow"}, {"id": 2, "prompt": "a dog"}]


def rows_of(tmp_path, content, name="m.json"):
    return [(raw.line, dict(raw.cells)) for raw in manifest_of(tmp_path, content, name).rows()]


@pytest.mark.parametrize("name", ["m.json", "m", "m.jsonl", "m.csv"])
def test_a_list_of_objects_is_a_row_each_whatever_the_file_is_called(tmp_path, name):
    content = '[\n {"id": 1, "prompt": "a cow"},\n {"id": 2, "prompt": "a dog"}\n]\n'

    assert rows_of(tmp_path, content, name) == [
        (2, {"id": "1", "prompt": "a cow"}),
        (3, {"id": "2", "prompt": "a dog"}),
    ]


@pytest.mark.parametrize(
    ("content", "looks"),
    [
        (json.dumps(TWO), "JSON list, UTF-8"),
        (json.dumps(TWO, indent=2), "JSON list, UTF-8"),
        (json.dumps(TWO) + "\n" + json.dumps([]), "JSON list, UTF-8"),  # pages of an API, one after the other
        (json.dumps({"count": 2, "data": TWO, "next": None, "tags": [1]}), 'JSON list "data", UTF-8'),
        (json.dumps({"data": {"items": TWO, "info": {"more": False}}}, indent=1), 'JSON list "data.items", UTF-8'),
        ("\n".join(json.dumps(row, indent=2) for row in TWO), "JSON objects, UTF-8"),  # as jq writes them
        ("\n".join(map(json.dumps, TWO)), "jsonl, UTF-8"),
    ],
)
def test_the_rows_are_found_however_json_is_laid_out(tmp_path, content, looks):
    manifest = manifest_of(tmp_path, content, "m.json")

    assert manifest.looks == looks
    assert [dict(raw.carried) for raw in manifest.rows()] == TWO


def test_a_list_on_one_line_numbers_its_rows_and_one_on_many_lines_names_the_line(tmp_path):
    assert [line for line, _ in rows_of(tmp_path, json.dumps(TWO))] == [1, 2]
    assert [line for line, _ in rows_of(tmp_path, json.dumps(TWO, indent=1))] == [2, 6]


def test_a_list_of_texts_is_a_list_of_prompts(tmp_path):
    planned = plan(tmp_path, '["a cow", "a dog"]', name="m.json")

    assert [(each.row.key, each.row.request.prompt) for each in planned] == [("1", "a cow"), ("2", "a dog")]


def test_a_list_of_batch_requests_is_read_as_their_lines_are(tmp_path):
    body = {"model": "gpt-image-2", "prompt": "a lamp"}
    request = {"custom_id": "r-1", "method": "POST", "url": "/v1/images/generations", "body": body}

    (planned,) = plan(tmp_path, json.dumps([request]), name="m.json")

    assert (planned.row.key, planned.row.request.prompt) == ("r-1", "a lamp")


def test_one_object_that_is_a_row_stays_one_though_it_has_a_list(tmp_path):
    row = {"prompt": "a ring", "variants": [{"sku": 1}, {"sku": 2}]}

    assert [cells["prompt"] for _, cells in rows_of(tmp_path, json.dumps(row))] == ["a ring"]


@pytest.mark.parametrize(
    ("content", "wanted", "looks"),
    [
        ({"data": [{"title": "a"}], "included": [{"sku": 1}]}, {"title"}, 'JSON list "data", UTF-8'),
        ({"title": "my export", "items": [{"title": "a"}]}, {"title"}, 'JSON list "items", UTF-8'),
        ({"model": "x", "items": [{"prompt": "a"}]}, {"prompt"}, 'JSON list "items", UTF-8'),
        ({"input": {"title": "a", "images": [{"url": "u"}]}}, {"input.title"}, "jsonl, UTF-8"),
        ({"title": "a", "images": [{"url": "u"}]}, {"title"}, "jsonl, UTF-8"),
    ],
)
def test_the_columns_that_the_user_names_tell_a_row_from_a_list_of_rows(tmp_path, content, wanted, looks):
    (tmp_path / "m.json").write_text(json.dumps(content))

    options = ReadOptions(names=frozenset(wanted))

    assert open_manifest(tmp_path / "m.json", name="m.json", options=options).looks == looks


def test_other_compressions_and_encodings_hold_for_json_too(tmp_path):
    (tmp_path / "m.json.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + json.dumps(TWO).encode()))

    manifest = open_manifest(tmp_path / "m.json.gz", name="m.json.gz", options=ReadOptions())

    assert len(list(manifest.rows())) == 2


def test_two_rows_with_one_key_are_found_though_they_stand_on_one_line(tmp_path):
    content = '[{"key": "a", "prompt": "x"},\n{"key": "b", "prompt": "y"}, {"key": "b", "prompt": "z"}]'
    one, two, three = plan(tmp_path, content, name="m.json")
    twins = DuplicateRows(keys=frozenset({hash64("b")}))

    judged = [twins.judge(each, "line") for each in (one, two, three)]

    assert [each.row.state for each in judged] == [JobState.READY, JobState.READY, JobState.INVALID]
    assert "line 2 has the same key" in judged[2].problems[0].legal


def test_a_problem_names_what_the_number_counts(tmp_path):
    (_, bad) = plan(tmp_path, '[{"prompt": "a"}, {"prompt": "", "x": 1}]', name="m.json")

    assert str(bad.problems[0]).startswith("item 2, key 2, column prompt is empty")


# -- what is wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('[{"a": 1},\n {"a": 2 "b": 3}]', "line 2, character 10: broken JSON"),
        ('[{"a": 1}\n {"a": 2}]', "line 2, character 2: broken JSON: expected a comma"),
        ('[{"a": 1},\n {"a": 2},\n]', "line 3, character 1: broken JSON: the comma before ] is one too many"),
        ('[{"a": 1},\n {"a": ', "line 2, character 8: broken JSON: the file ends in the middle"),
        ('[{"a": 1}\n', "broken JSON: the file ends in the middle"),
        ('{"data": [{"a": 1}], "next": ', "broken JSON: the file ends in the middle"),
        ("[]", "its JSON list is empty"),
        ("3", "has no rows"),
        ('{"data": [{"a": 1}], "included": [{"a": 2}]}', 'several lists ("data", "included")'),
        ('{"prompt": {"0": "a", "1": "b"}, "key": {"0": "x", "1": "y"}}', 'orient="records"'),
    ],
)
def test_a_file_that_is_no_list_of_rows_is_refused_with_the_place(tmp_path, content, says):
    assert says in refused(tmp_path, content, name="m.json")


def test_the_place_is_right_behind_the_first_megabyte(tmp_path):
    good = ",\n".join(json.dumps({"prompt": "x" * 100}) for _ in range(20_000))

    assert "line 20001, character 12: broken JSON" in refused(tmp_path, f'[{good},\n"x", {{"a": }}]', name="m.json")


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        ('{"prompt": "a"}\n{"prompt": "b",}\n{"prompt": "c"}\n', 2, "broken JSON"),
        ('{"prompt": "a"}\n[1]\n{"prompt": "c"}\n', 2, "not a JSON object, but [1]"),
        ('[{"prompt": "a"},\nnull,\n{"prompt": "c"}]', 2, "not a JSON object, but null"),
        ('[{"prompt": "a"},\n{"prompt": "\\ud83d"},\n{"prompt": "c"}]', 2, "half a character"),
    ],
)
def test_what_is_wrong_with_one_row_costs_that_row_alone(tmp_path, content, line, says):
    planned = plan(tmp_path, content, name="m.json")

    assert [each.row.state for each in planned] == [JobState.READY, JobState.INVALID, JobState.READY]
    assert planned[1].row.line == line
    assert says in planned[1].problems[0].legal


def test_lines_that_end_with_a_comma_are_lines(tmp_path):
    assert [cells for _, cells in rows_of(tmp_path, '{"prompt": "a"},\n{"prompt": "b"},\n', "m.jsonl")] == [
        {"prompt": "a"}, {"prompt": "b"},
    ]  # fmt: skip


def test_a_list_in_which_nothing_is_a_row_is_refused_with_the_first(tmp_path):
    assert "m.json, item 1: not a JSON object, but 7" in refused(tmp_path, "[7, 8]", name="m.json")


def test_a_row_that_is_broken_is_not_skipped_for_an_empty_column(tmp_path):
    planned = plan(tmp_path, '{"prompt": "a"}\n{"prompt": "b",}\n', name="m.jsonl", skip_empty="prompt")

    assert [each.row.state for each in planned] == [JobState.READY, JobState.INVALID]


def test_numbers_that_no_computer_word_holds_keep_their_digits(tmp_path):
    digits = "123456789012345678901234567890"

    assert rows_of(tmp_path, f'[{{"ean": {digits}, "none": NaN, "deep": {{"big": {digits}}}}}]') == [
        (1, {"ean": digits, "none": "", "deep": f'{{"big":"{digits}"}}'})
    ]


def test_a_long_list_takes_no_more_memory_than_a_short_one(tmp_path, monkeypatch):
    monkeypatch.setattr(json_text, "_CHUNK", 1 << 10)
    row, many = json.dumps({"prompt": "a lamp on a table"}), 20_000

    def peak(rows):
        manifest = manifest_of(tmp_path, f"[{','.join([row] * rows)}]", "m.json")
        tracemalloc.start()
        try:
            assert sum(1 for _ in manifest.rows()) == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # Far from what all of its rows would take, and more than other threads of this process may take meanwhile.
    assert peak(many) < peak(200) + many * len(row) / 2


# -- nested deeply, and names that look the same -------------------------------------------------------------------


def nested(levels):
    return "[" * levels + "]" * levels


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("levels", [200, 254, 300, 1_100, 50_000])
@pytest.mark.parametrize(("begin", "between", "end"), [("", "\n", ""), ("[", ",", "]"), ('{"data": [', ",", "]}")])
def test_a_row_that_is_nested_too_deeply_is_one_bad_row(tmp_path, levels, begin, between, end, at):
    rows = ['{"key": "a", "prompt": "a cow"}', '{"key": "c", "prompt": "a cat"}']
    rows.insert(at, f'{{"key": "b", "prompt": "a dog", "tree": {nested(levels)}}}')

    planned = plan(tmp_path, f"{begin}{between.join(rows)}{end}", "m.jsonl" if not begin else "m.json")

    assert [each.row.key for each in planned if not each.problems] == ["a", "c"]
    ((problem,),) = [each.problems for each in planned if each.problems]
    assert "lists and objects in each other, more than 200 levels deep" in str(problem)


def test_what_is_less_deep_is_carried_as_it_stands(tmp_path):
    (planned,) = plan(tmp_path, f'[{{"prompt": "a cow", "tree": {nested(199)}}}]', "m.json")

    assert json.loads(planned.row.carried)["tree"] == json.loads(nested(199))


@pytest.mark.parametrize("levels", [300, 1_100])
def test_options_and_texts_that_are_nested_too_deeply_are_no_json(tmp_path, levels):
    row = {"prompt": "a cow", "options": f'{{"a": {nested(levels)}}}', "text": f'{{"a": {nested(levels)}}}'}

    ((bad,),) = [each.problems for each in plan(tmp_path, table(row))]
    assert bad.column == "options"
    assert "{text.a}" in refused(tmp_path, table({"prompt": "x", "text": row["text"]}), prompt="{text.a}")


@pytest.mark.parametrize("names", [("Title", " Title", "Title "), ("Title ", "Title", "\ufeffTitle")])
def test_items_whose_names_differ_in_what_nobody_sees_are_all_kept(tmp_path, names):
    ((_, cells),) = rows_of(tmp_path, json.dumps([{"prompt": "a cow", **dict(zip(names, "abc", strict=True))}]))

    assert cells == {"prompt": "a cow", "Title": "a", "Title_2": "b", "Title_3": "c"}


@pytest.mark.parametrize("name", ["m.json", "m.jsonl"])
def test_of_such_items_one_that_is_used_must_be_clear_as_in_a_csv(tmp_path, name):
    row = {"prompt ": "a cow", "prompt": "a dog", "Title": "x", "Title ": "y"}
    content = json.dumps([row]) if name == "m.json" else json.dumps(row)

    told = refused(tmp_path, content, name)

    assert '2 columns are named "prompt", so nobody knows which is meant' in told
    assert "Title" not in told
    (planned,) = plan(tmp_path, content, name, mapping={"prompt": "prompt_2"})
    assert planned.row.request.prompt == "a dog"
