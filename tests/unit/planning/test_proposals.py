"""What is proposed in place of a value that is not legal can be made, whatever else the row and the options say."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.states import JobState
from providers.catalog.models import Catalog
from providers.registry import PROVIDERS
from tests.support.planned_rows import plan, table

CATALOG = Catalog.load()
COLUMNS = ("model", "provider", "ratio", "resolution", "size", "quality", "n")
LEGAL = {**{column: CATALOG.known(column) for column in COLUMNS if column != "n"}, "n": ("1", "2", "10")}
PREFIXES = ("", "openai/", "xai/", "openrouter/openai/", "azure/", "models/", "openai:", "OpenAI/")
SUFFIXES = ("", ":free", "@latest", "-beta", " ", "px", ".0", ",0", "-pro", "x")


def planned_row(tmp_path, row, **options):
    (planned,) = plan(tmp_path, table({"prompt": "a", **row}), **options)
    return planned


def message(tmp_path, row, **options):
    return planned_row(tmp_path, row, **options).row.message or ""


def proposed(planned, column):
    """The values that are proposed for a column."""
    legal = " ".join(each.legal for each in planned.problems if each.column == column)
    found = re.search(r"did you mean ([^?]*)\?", legal)
    return re.split(r", | or ", found[1]) if found else []


def swapped(text, at):
    at %= max(1, len(text) - 1)
    return text[:at] + text[at + 1 : at + 2] + text[at : at + 1] + text[at + 2 :]


@st.composite
def near_misses(draw):
    """A row with one wrong value near to a legal one, and perhaps legal values that do not go with it."""
    column = draw(st.sampled_from(COLUMNS))
    value = draw(st.sampled_from(LEGAL[column]))
    if draw(st.booleans()):
        value = swapped(value, draw(st.integers(0, 20)))
    value = draw(st.sampled_from(PREFIXES)) + value + draw(st.sampled_from(SUFFIXES))
    others = draw(st.sets(st.sampled_from([each for each in COLUMNS if each != column]), max_size=2))
    return column, {column: value} | {each: draw(st.sampled_from(LEGAL[each])) for each in others}


@given(near_misses(), st.sets(st.sampled_from(sorted(PROVIDERS)), min_size=1))
def test_each_proposal_is_accepted_in_the_place_of_the_value(tmp_path_factory, row, accounts):
    column, values = row
    folder = tmp_path_factory.mktemp("m")
    options = {"configured": frozenset(accounts)}

    before = planned_row(folder, values, **options)
    without = planned_row(folder, {**values, column: ""}, **options)

    for each in proposed(before, column):
        after = planned_row(folder, {**values, column: each}, **options)
        also_wrong = {problem.column for problem in (*before.problems, *without.problems)} - {column}
        assert {problem.column for problem in after.problems} <= also_wrong


@pytest.mark.parametrize(
    ("model", "likely"),
    [
        ("openai/gpt-image-2", "gpt-image-2"),
        ("openrouter/openai/gpt-image-2", "gpt-image-2"),
        ("azure/gpt-image-2", "gpt-image-2"),
        ("models/gpt-image-2", "gpt-image-2"),
        ("openai:gpt-image-2", "gpt-image-2"),
        ("gpt-image-2:free", "gpt-image-2"),
        ("GPT-Image-2", "gpt-image-2"),
        ("gpt-image-1", "gpt-image-2"),
        ("xai/grok-imagine-pro", "grok-imagine-pro"),
    ],
)
@pytest.mark.parametrize("accounts", [PROVIDERS, ["maxapi.io"]])
def test_a_model_under_a_vendors_name_leads_to_the_model_meant(tmp_path, model, likely, accounts):
    """In a column of the manifest, with --model, and in a line of a batch file."""
    options = {"configured": frozenset(accounts)}
    line = f'{{"custom_id": "a", "body": {{"model": "{model}", "prompt": "x"}}}}\n'

    (in_batch,) = plan(tmp_path, line, name="m.jsonl", **options)

    for said in (
        message(tmp_path, {"model": model}, **options),
        message(tmp_path, {}, model=model, **options),
        in_batch.row.message,
    ):
        assert f"did you mean {likely}" in said


def test_a_model_for_videos_is_none_for_pictures(tmp_path):
    assert "did you mean" not in message(tmp_path, {"model": "xai/grok-imagine-video"})


def test_no_model_is_proposed_that_this_run_cannot_make(tmp_path):
    said = message(tmp_path, {"model": "xai/grok-imagine-pro-2"}, configured=frozenset({"apimaster"}))

    assert "one of gpt-image-2" in said
    assert "did you mean" not in said


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"size": "1920x1080"}, "did you mean 1920x1088 or 2048x1152?"),
        ({"size": "1024 x 1024 px"}, "did you mean 1024x1024?"),
        ({"size": "16:9"}, "this is a ratio: --map ratio=size --map size= reads it as one"),
        ({"size": "2k"}, "this is a resolution: --map resolution=size --map size= reads it as one"),
        ({"resolution": "1536x1024"}, "this is a size: --map size=resolution --map resolution= reads it as one"),
        ({"resolution": "2048"}, "did you mean 2k?"),
        ({"provider": "maxapi-io"}, "did you mean maxapi.io"),
        ({"quality": "hd"}, "did you mean high?"),
        ({"n": "2 images"}, "did you mean 2?"),
        ({"size": "16:9", "quality": "hd"}, "this is a ratio: --map ratio=size --map size= reads it as one"),
    ],
)
def test_other_ways_to_write_a_value_lead_to_the_one_that_is_read(tmp_path, row, said):
    assert said in message(tmp_path, row)


def test_a_size_in_place_of_a_ratio_is_read_as_the_message_says(tmp_path):
    (planned,) = plan(tmp_path, table({"prompt": "a", "size": "16:9"}), mapping={"ratio": "size", "size": ""})

    assert (planned.row.state, planned.row.request.ratio) == (JobState.READY, "16:9")
