"""Columns that would change the picture and are only carried are told with what helps, and a shop's own are not."""

from __future__ import annotations

import re
import shlex

import orjson
import pytest

from jobs.planning.hints import hints
from jobs.planning.planner import PlanOptions
from jobs.states import JobState
from providers.catalog.models import Catalog
from tests.support.planned_rows import EVERYONE, manifest_of, plan, table


def told(tmp_path, *rows, name="m.csv", **options):
    content = table(*rows) if name == "m.csv" else "".join(orjson.dumps(row).decode() + "\n" for row in rows)
    chosen = PlanOptions(**{"batch": "b", "configured": EVERYONE, **options})
    return list(hints(manifest_of(tmp_path, content, name), chosen, Catalog.load()))


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
@pytest.mark.parametrize(
    ("column", "value", "option"),
    [
        ("aspect_ratio", "9:16", "--map ratio=aspect_ratio"),
        ("aspectRatio", "9:16", "--map ratio=aspectRatio"),
        ("Aspect Ratio (W:H)", "9:16", "--map 'ratio=Aspect Ratio (W:H)'"),
        ("aspect", "16:9", "--map ratio=aspect"),
        ("ar", "16:9", "--map ratio=ar"),
        ("raito", "16:9", "--map ratio=raito"),
        ("num_images", "4", "--map n=num_images"),
        ("n_images", "4", "--map n=n_images"),
        ("count", "4", "--map n=count"),
        ("numberOfImages", "4", "--map n=numberOfImages"),
        ("image_size", "1024x1024", "--map size=image_size"),
        ("image_size", "2K", "--map resolution=image_size"),
        ("image_size", "16:9", "--map ratio=image_size"),
        ("dimensions", "1536x1024", "--map size=dimensions"),
        ("Size", "1536x1024", "--map size=Size"),
        ("image_resolution", "4k", "--map resolution=image_resolution"),
        ("Quality", "high", "--map quality=Quality"),
        ("reference_image", "https://a.example/1.png", "--map image_urls=reference_image"),
        ("image", "https://a.example/1.png", "--map image_urls=image"),
        ("Image URLs", "https://a.example/1.png", "--map 'image_urls=Image URLs'"),
        ("model_name", "grok-imagine-pro", "--map model=model_name"),
    ],
)
def test_a_column_under_another_name_is_told_with_the_option_that_reads_it(tmp_path, column, value, option, name):
    (line,) = told(tmp_path, {"prompt": "a", column: value}, name=name)

    assert line.startswith(f'column "{column}" ("{value}") is carried and changes nothing; it looks like ')
    assert line.endswith(f": {option} uses it")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("Style", "ST-1042"),
        ("Count", "250"),
        ("Count", "0"),
        ("Size", "XL"),
        ("size_label", "160x230"),
        ("Dimensions", "160 x 230 cm"),
        ("Model", "XJ-200"),
        ("Quality", "A"),
        ("Format", "Hardcover"),
        ("Seed", "Tomato"),
        ("Steps", "Wash, dry, fold"),
        ("Image", "Front view"),
        ("Background", "Founded in 1920"),
        ("Quantity", "3"),
        ("Title", "Lamp"),
        ("Width", "80"),
        ("Strength", "Extra strong"),
        ("aspect_ratio", ""),
    ],
)
def test_a_shops_own_columns_are_not_told(tmp_path, column, value):
    assert told(tmp_path, {"prompt": "a", column: value}, {"prompt": "b", column: value}) == []


def test_a_column_whose_values_fit_in_some_rows_only_is_a_shops_own(tmp_path):
    assert told(tmp_path, {"prompt": "a", "Count": "4"}, {"prompt": "b", "Count": "250"}) == []


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("seed", "42", "seed"),
        ("steps", "30", "steps"),
        ("cfg_scale", "7.5", "cfg_scale"),
        ("sampler", "euler", "sampler"),
    ],
)
def test_what_no_provider_takes_is_said_to_be_taken_by_none(tmp_path, column, value, what):
    (line,) = told(tmp_path, {"prompt": "a", column: value})

    assert line == f'column "{what}" ("{value}") is carried and changes nothing: no provider takes it'


def test_several_that_no_provider_takes_are_one_line(tmp_path):
    (line,) = told(tmp_path, {"prompt": "a", "seed": "42", "steps": "30", "Title": "x"})

    assert line == 'columns "seed" ("42"), "steps" ("30") are carried and change nothing: no provider takes them'


@pytest.mark.parametrize(
    ("rows", "options", "prompt", "made"),
    [
        ([{"prompt": "a lamp", "style": "Art Deco"}], {}, "{prompt}, {style}", "a lamp, Art Deco"),
        ([{"T": "lamp", "Style": "vivid"}], {"prompt": "A {T}"}, "A {T}, {Style}", "A lamp, vivid"),
        ([{"T": "lamp", "Style": "vivid"}], {"mapping": {"prompt": "T"}}, "{T}, {Style}", "lamp, vivid"),
        (
            [{"prompt": "a", "negative_prompt": "text"}, {"prompt": "b", "negative_prompt": ""}],
            {},
            "{prompt}. Leave out: {negative_prompt|}",
            "a. Leave out: text",
        ),
        (
            [{"prompt": "a", "negative_prompt": "text", "style": "anime"}],
            {},
            "{prompt}, {style}. Leave out: {negative_prompt}",
            "a, anime. Leave out: text",
        ),
    ],
)
def test_what_a_prompt_can_say_is_told_with_the_template_that_says_it(tmp_path, rows, options, prompt, made):
    (line,) = told(tmp_path, *rows, **options)

    (found,) = shlex.split(line.partition("--prompt ")[2])
    assert found == prompt
    assert [each.row.state for each in plan(tmp_path, table(*rows), **{**options, "prompt": found})] == [
        JobState.READY
    ] * len(rows)
    assert plan(tmp_path, table(*rows), **{**options, "prompt": found})[0].row.request.prompt == made


def test_an_option_of_a_provider_is_told_with_the_cell_that_asks_for_it(tmp_path):
    (line,) = told(tmp_path, {"prompt": "a", "background": "opaque"})

    assert line.endswith('; a column options with {"background":"opaque"} uses it')
    assert told(tmp_path, {"prompt": "a", "background": "opaque"}, configured=frozenset({"maxapi.io"})) == []


def test_width_and_height_are_told_with_the_column_that_is_read(tmp_path):
    (line,) = told(tmp_path, {"prompt": "a", "width": "1024", "height": "1536"})

    assert line.startswith('columns "width" and "height" ("1024x1536") are carried and change nothing')
    assert "one column size with 1024x1536 is read" in line


def test_a_field_inside_an_object_is_told_by_its_dotted_name(tmp_path):
    row = {"prompt": "a", "input": {"aspect_ratio": "9:16", "style": "anime", "n": 3, "tags": ["x"]}}

    lines = told(tmp_path, row, name="m.jsonl")

    assert [line.rpartition(": ")[2] for line in lines] == [
        "--map ratio=input.aspect_ratio uses it",
        "--map n=input.n uses it",
        "--prompt '{prompt}, {input.style}'",
    ]
    assert told(tmp_path, row | {"options": {"background": "opaque"}}, name="m.jsonl") == lines
    assert told(tmp_path, row, name="m.jsonl", prompt="{prompt} {input}") == []


def test_columns_that_are_in_use_are_not_told(tmp_path):
    row = {"prompt": "a", "aspect_ratio": "16:9", "style": "vivid", "num_images": "2"}
    options = {"prompt": "{prompt}, {style}", "mapping": {"ratio": "aspect_ratio", "n": ""}}

    assert told(tmp_path, row, **options) == []


def test_where_the_option_would_cost_rows_the_reason_is_told_instead(tmp_path):
    (lite,) = told(tmp_path, {"prompt": "a", "aspect_ratio": "16:9"}, model="grok-imagine-lite")
    (ruined,) = told(tmp_path, {"prompt": "a", "aspect_ratio": "16:09"})
    both = told(tmp_path, {"prompt": "a", "aspect_ratio": "16:9", "image_size": "1536x864"})

    assert (
        'it looks like "ratio", but with --map ratio=aspect_ratio "16:9" is refused: grok-imagine-lite takes no ratio'
    ) in lite
    assert "did you mean 16:9?" in ruined
    assert both[0].endswith("--map ratio=aspect_ratio uses it")
    assert "either size, or ratio and resolution" in both[1]


def test_what_is_proposed_makes_every_row(tmp_path):
    rows = [{"prompt": "a", "Aspect": "9:16", "num_images": "2", "Image": "https://a.example/1.png"}] * 3

    lines = told(tmp_path, *rows)

    mapping = dict(re.search(r"--map (\S+)", line)[1].split("=") for line in lines)
    assert set(mapping) == {"ratio", "n", "image_urls"}
    assert {each.row.state for each in plan(tmp_path, table(*rows), mapping=mapping)} == {JobState.READY}
