"""Lines of a provider's own batch file are planned by their bodies, or refused with what is legal."""

from __future__ import annotations

import orjson
import pytest

from jobs.errors import BadInput
from jobs.manifest.raw_rows import KNOWN_COLUMNS
from jobs.states import JobState
from tests.support.planned_rows import plan

PICTURE = "https://a.example/1.png"


def batch_line(body, *, url="/v1/images/generations", **more):
    return orjson.dumps({"custom_id": "r", "method": "POST", "url": url, "body": body, **more}).decode() + "\n"


def plan_line(tmp_path, body, **line):
    good = batch_line({"prompt": "good"}, custom_id="good")
    _, planned = plan(tmp_path, good + batch_line(body, **line), name="m.jsonl")
    return planned


@pytest.mark.parametrize(
    ("line", "column", "value", "legal"),
    [
        ({"url": "/v1/videos/generations"}, "url", "/v1/videos/generations", "only images"),
        ({"url": "/v1/chat/completions"}, "url", "/v1/chat/completions", "only images"),
        ({"url": "/v1/embeddings"}, "url", "/v1/embeddings", "only images"),
        ({"url": "/v1/responses"}, "url", "/v1/responses", "only images"),
        ({"url": "/v1/images/variations"}, "url", "/v1/images/variations", "only images"),
        ({"method": "GET"}, "method", "GET", "POST"),
        ({"body": None}, "body", "", "an object"),
        ({"body": "a lamp"}, "body", "a lamp", "an object"),
        ({"url": "/v1/images/edits"}, "body.images", "", "needs its picture"),
    ],
)
def test_a_line_that_asks_for_something_else_is_not_bought_as_a_generation(tmp_path, line, column, value, legal):
    planned = plan_line(tmp_path, **{"body": {"prompt": "add a rainbow"}, **line})

    (problem,) = planned.problems
    assert (planned.row.state, planned.row.key, problem.column, problem.value) == (JobState.INVALID, "r", column, value)
    assert legal in problem.legal


@pytest.mark.parametrize(
    "url",
    ["/v1/images/edits", "https://api.x.ai/v1/images/edits", "/openai/deployments/d/images/edits?api-version=1", None],
)
@pytest.mark.parametrize(
    "pictures",
    [
        {"images": [{"image_url": PICTURE}]},
        {"image": {"url": PICTURE, "type": "image_url"}},
        {"image": [{"url": PICTURE, "type": "image_url"}]},
        {"image": PICTURE},
        {"image[]": [PICTURE]},
        {"image_url": {"url": PICTURE}},
        {"images": [{"type": "image_url", "image_url": {"url": PICTURE}}], "mask": None, "image": None},
        {"reference_images": [PICTURE]},
        {"image_urls": PICTURE},
    ],
)
def test_pictures_are_read_in_every_shape_that_openai_and_xai_write(tmp_path, pictures, url):
    planned = plan_line(tmp_path, {"prompt": "add a rainbow", **pictures}, url=url)

    assert planned.row.request.references == (PICTURE,), planned.problems


@pytest.mark.parametrize(
    ("body", "column", "legal"),
    [
        ({"image": {"file_id": "file-1"}}, "body.image", "uploaded"),
        ({"images": [{"image_url": PICTURE}, {"b64_json": "aaaa"}]}, "body.images", "a link"),
        ({"image": {"url": PICTURE, "weight": 0.5}}, "body.image", "a link"),
        ({"image": 7}, "body.image", "a link"),
        ({"image": PICTURE, "images": [PICTURE]}, "body.image", "named by images"),
        ({"image": "data:image/png;base64,iVBORw0KGgo="}, "image_urls", "https:// link"),
        ({"mask": {"image_url": PICTURE}}, "body.mask", "no provider takes a mask"),
        ({"prompt": ["a", "b"]}, "body.prompt", "one text"),
        ({"key": "other"}, "body.key", "custom_id"),
        ({"ratio": "1:1", "aspect_ratio": "16:9"}, "body.aspect_ratio", "ratio says 1:1"),
        ({"options": '{"background": "opaque"}'}, "body.options", "an object"),
        ({"options": {"background": "opaque"}, "background": "auto"}, "body.options", "twice"),
        ({"seed": 7}, "options", "takes"),
        ({"style": "vivid"}, "options", "takes"),
        ({"input_fidelity": "high"}, "options", "takes"),
        ({"background": "transparent"}, "options", "takes"),
    ],
)
def test_what_a_line_says_is_read_or_the_row_is_bad(tmp_path, body, column, legal):
    planned = plan_line(tmp_path, {"prompt": "a lamp", **body})

    assert planned.row.state is JobState.INVALID
    assert [problem.legal for problem in planned.problems if problem.column == column and legal in problem.legal]


def test_how_the_answer_comes_back_is_no_part_of_the_picture_and_null_says_nothing(tmp_path):
    said = {"response_format": "url", "stream": True, "partial_images": 2, "user": "u", "background": None, "n": None}

    planned, plain = (plan_line(tmp_path, {"prompt": "a lamp", **more}) for more in (said, {}))

    assert planned.row.request_hash == plain.row.request_hash


def test_xais_own_fields_are_read(tmp_path):
    body = {"model": "grok-imagine-pro", "prompt": "a", "aspect_ratio": "16:9", "resolution": "1080p", "n": 2}

    request = plan_line(tmp_path, body).row.request

    assert (request.ratio, request.resolution, request.n) == ("16:9", "1080p", 2)
    assert plan_line(tmp_path, {**body, "aspect_ratio": "auto"}).row.request.ratio == "1:1"


def test_a_batch_file_is_known_by_a_first_line_without_a_body(tmp_path):
    first = '{"custom_id": "x", "method": "POST", "url": "/v1/images/generations"}\n'

    bad, good = plan(tmp_path, first + batch_line({"prompt": "a"}), name="m.jsonl")

    assert (bad.problems[0].column, good.row.state) == ("body", JobState.READY)


def test_a_wrong_line_is_not_left_out_as_an_empty_one(tmp_path):
    (planned,) = plan(tmp_path, batch_line({"input": "x"}, url="/v1/embeddings"), name="m.jsonl", skip_empty="prompt")

    assert planned.row.state is JobState.INVALID


@pytest.mark.parametrize("column", [each for each in KNOWN_COLUMNS if each != "key"])
def test_a_field_of_a_batch_file_is_left_out_or_the_refusal_says_what_map_does_there(tmp_path, column):
    line = batch_line({"prompt": "a", "size": "1024x1024", "n": 2})

    with pytest.raises(BadInput, match="batch file's lines are read by the field names") as refused:
        plan(tmp_path, line, name="m.jsonl", mapping={column: "custom_id"})

    if column == "image_urls":
        assert "leaves it out" not in str(refused.value)
        with pytest.raises(BadInput, match="--map key=FIELD takes another field"):
            plan(tmp_path, line, name="m.jsonl", mapping={column: ""})
    else:
        assert f"--map {column}= leaves it out" in str(refused.value)
        prompt = {"prompt": "b"} if column == "prompt" else {}
        (planned,) = plan(tmp_path, line, name="m.jsonl", mapping={column: ""}, **prompt)
        assert planned.row.state is JobState.READY


def test_fields_that_are_left_out_are_no_part_of_the_picture(tmp_path):
    line = batch_line({"prompt": "a", "size": "1024x1024", "n": 2, "seed": 7})

    (refused,) = plan(tmp_path, line, name="m.jsonl")
    (planned,) = plan(tmp_path, line, name="m.jsonl", mapping=dict.fromkeys(("size", "n", "options"), ""))

    assert "--map options= makes such rows without their options" in refused.row.message
    assert (planned.row.request.size, planned.row.request.n, planned.row.request.options) == (None, 1, {})


def test_the_key_of_a_batch_file_is_another_field_or_the_rows_number(tmp_path):
    lines = batch_line({"prompt": "a"}, sku="lamp") + batch_line({"prompt": "b"}, sku="rug")

    named = plan(tmp_path, lines, name="m.jsonl", mapping={"key": "sku"})
    numbered = plan(tmp_path, lines, name="m.jsonl", mapping={"key": ""})

    assert [each.row.key for each in named] == ["lamp", "rug"]
    assert [each.row.key for each in numbered] == ["1", "2"]
    with pytest.raises(BadInput, match="no column"):
        plan(tmp_path, lines, name="m.jsonl", mapping={"key": "handle"})


def test_what_stands_beside_the_body_is_no_part_of_the_request(tmp_path):
    (planned,) = plan(tmp_path, batch_line({"prompt": "a"}, n=4, model="x", ratio="16:9"), name="m.jsonl")

    assert (planned.row.request.n, planned.row.request.ratio) == (1, "1:1")


@pytest.mark.parametrize(
    ("field", "value", "column"),
    [("num_images", 4, "n"), ("image_size", "1K", "size"), ("width", 1024, "size"), ("numberOfImages", 2, "n")],
)
def test_a_field_under_another_services_name_is_told_with_the_one_that_is_read(tmp_path, field, value, column):
    (problem,) = plan_line(tmp_path, {"prompt": "a", field: value}).problems

    assert (problem.column, problem.legal) == (f"body.{field}", f"{column} is the field that is read")


@pytest.mark.parametrize("between", [",", ", ", " ", ";", "\n"])
def test_links_joined_in_one_text_are_not_bought_as_one_link(tmp_path, between):
    joined = f"{PICTURE}{between}{PICTURE.replace('1', '2')}"

    for picture in (joined, {"url": joined}, [joined]):
        (problem,) = plan_line(tmp_path, {"prompt": "a", "image": picture}, url="/v1/images/edits").problems
        assert (problem.column, problem.legal) == ("body.image", "several pictures are a list of links")


def test_a_custom_id_with_a_slash_is_a_key(tmp_path):
    planned = plan_line(tmp_path, {"prompt": "a"}, custom_id="chairs/oak/1")

    assert (planned.row.key, planned.row.path) == ("chairs/oak/1", "b/chairs%2Foak%2F1/{index}.{ext}")
