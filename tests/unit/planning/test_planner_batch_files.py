"""Lines of a provider's own batch file are planned by their bodies, or refused with what is legal."""

from __future__ import annotations

import orjson
import pytest

from jobs.errors import BadInput
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


def test_columns_of_a_batch_file_cannot_be_mapped(tmp_path):
    with pytest.raises(BadInput, match="name their fields themselves"):
        plan(tmp_path, batch_line({"prompt": "a"}), name="m.jsonl", mapping={"size": ""})
