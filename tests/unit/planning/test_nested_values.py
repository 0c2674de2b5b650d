"""Objects and lists in rows, reached by dotted names; and keys that are made of several columns."""

from __future__ import annotations

import orjson
import pytest

from jobs.manifest.nested import TemplateColumns, holds_json, reach
from jobs.manifest.templates import parse
from jobs.states import JobState
from tests.support.planned_rows import plan, refused

RING = {"input": {"title": "Ruby ring", "handle": "ruby-ring", "images": [{"url": "https://a.example/1.png"}], "n": 2}}


def lines(*rows):
    return b"\n".join(map(orjson.dumps, rows)).decode() + "\n"


def test_a_dotted_name_leads_into_objects_and_lists_wherever_a_column_is_named(tmp_path):
    mapping = {"key": "input.handle", "image_urls": "input.images.0.url", "n": "input.n"}
    empty = {"input": {"title": "", "handle": "x"}}

    ready, skipped = plan(
        tmp_path, lines(RING, empty), name="m.jsonl", prompt="Photo of {input.title}, {input.metal|gold}",
        mapping=mapping, path="{input.handle}/{index}.{ext}", skip_empty="input.title",
    )  # fmt: skip

    assert ready.row.key == "ruby-ring"
    assert ready.row.path == "ruby-ring/{index}.{ext}"
    assert ready.row.request.prompt == "Photo of Ruby ring, gold"
    assert ready.row.request.references == ("https://a.example/1.png",)
    assert ready.row.request.n == 2
    assert skipped.row.state is JobState.SKIPPED


def test_the_row_comes_back_as_it_was(tmp_path):
    (planned,) = plan(tmp_path, lines(RING), name="m.jsonl", prompt="{input.title}")

    assert orjson.loads(planned.row.carried) == RING


def test_a_cell_that_holds_json_is_reached_into_too(tmp_path):
    content = 'id,attributes\n1,"{""title"": ""Ruby ring""}"\n'

    (planned,) = plan(tmp_path, content, prompt="{attributes.title}")

    assert planned.row.request.prompt == "Ruby ring"


def test_a_column_that_has_a_dot_in_its_own_name_comes_first(tmp_path):
    row = {"input.title": "the column", "input": {"title": "the object"}}

    (planned,) = plan(tmp_path, lines(row), name="m.jsonl", prompt="{input.title}")

    assert planned.row.request.prompt == "the column"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.b.c", 1),
        ("a.b", {"c": 1}),
        ("l.1", "y"),
        ("l.0.k", "v"),
        ("x.y.z", 3),
        ("l.7", None),
        ("a.q", None),
        ("t.u", None),
    ],
)
def test_names_lead_to_values_or_to_nothing(name, found):
    values = {"a": {"b": {"c": 1}}, "l": [{"k": "v"}, "y"], "x.y": {"z": 3}, "t": "[not json"}

    assert (reach(values, name) == found) is (found is not None)


def test_a_template_of_redo_reaches_what_the_manifest_had(tmp_path):
    assert (
        parse("Drawing of {input.title}, {input.gone|gold}", "--prompt").render(TemplateColumns(RING))
        == "Drawing of Ruby ring, gold"
    )


def test_a_mistyped_dotted_name_is_refused_with_the_one_that_is_there(tmp_path):
    assert 'Perhaps "input.title"?' in refused(tmp_path, lines(RING), name="m.jsonl", prompt="{input.titel}")
    assert "input.handel" in refused(tmp_path, lines(RING), name="m.jsonl", mapping={"key": "input.handel"}, prompt="x")


@pytest.mark.parametrize(
    ("prompt", "holds"),
    [
        ('Photo of {"title":"Ruby ring"}', True), ('["a","b"]', True), ("Photo of [], on wood", True),
        ("a poster that says [HELLO]", False), ("a {curly} word", False), ("a ring [1]", False),
        ('a "{" on a wall', False),
    ],
)  # fmt: skip
def test_raw_json_in_a_prompt_is_known_from_brackets_that_people_write(prompt, holds):
    assert holds_json(prompt) is holds


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        (lines(RING), {"prompt": "Photo of {input}"}, "{input.title} {input.handle} {input.images.0.url} {input.n}"),
        ('id,prompt\n1,"{""subject"": ""a ring""}"\n', {}, "the prompt holds JSON"),
        (lines({"prompt": ["a", "b"]}), {}, "{prompt.0}"),
        (lines({"tags": []}), {"prompt": "Photo of {tags}"}, "the prompt holds JSON"),
    ],
)
def test_raw_json_in_a_prompt_is_told_before_money_with_the_names_of_what_is_in_it(tmp_path, content, options, says):
    (planned,) = plan(tmp_path, content, name="m.jsonl" if content.startswith("{") else "m.csv", **options)

    (doubt,) = planned.doubts
    assert doubt.column == "prompt"
    assert says in doubt.legal


# -- keys of several columns ---------------------------------------------------------------------------------------


def test_a_key_is_made_of_several_columns(tmp_path):
    content = "category,id,prompt\nrings, 1 ,a\n,2,b\n"

    planned = plan(tmp_path, content, mapping={"key": "{category|other}-{id}"})

    assert [each.row.key for each in planned] == ["rings-1", "other-2"]
    assert planned[0].row.path == "b/rings-1/{index}.{ext}"


def test_a_row_that_lacks_a_part_of_its_key_is_bad(tmp_path):
    (planned,) = plan(tmp_path, "category,id,prompt\n,1,a\n", mapping={"key": "{category}-{id}"})

    (problem,) = planned.problems
    assert (problem.column, planned.row.state) == ("category", JobState.INVALID)
    assert "{category|…}" in problem.legal


def test_a_key_made_of_columns_keeps_the_rules_of_any_key(tmp_path):
    (planned,) = plan(tmp_path, 'category,id,prompt\n"a\nb",1,x\n', mapping={"key": "{category}-{id}"})

    assert planned.row.state is JobState.INVALID
    assert "no control characters" in planned.problems[0].legal


def test_a_column_named_like_a_template_is_a_column(tmp_path):
    (planned,) = plan(tmp_path, "prompt,{id}\nx,7\n", mapping={"key": "{id}"})

    assert planned.row.key == "7"


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({"key": "{categroy}-{id}"}, 'no column "categroy"'),
        ({"key": "{category"}, "has no partner"),
        ({"prompt": "{category} ring"}, "For the prompt it is --prompt"),
        ({"ratio": "{category}"}, "only the key can be made of several columns"),
    ],
)
def test_a_template_that_cannot_be_is_refused(tmp_path, mapping, says):
    assert says in refused(tmp_path, "category,id,prompt\na,1,x\n", mapping=mapping)
