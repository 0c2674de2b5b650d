"""A cell with several links is several references; where it may be either, nothing is bought."""

from __future__ import annotations

import orjson
import pytest

from jobs.states import JobState
from tests.support.planned_rows import plan, table

TWO = ("https://a.example/1.png", "s3://shop/2.png")


@pytest.mark.parametrize("between", [",", ";", ", ", " ; ", "\n", " ", "|"])
def test_links_joined_by_a_spreadsheet_are_several_references(tmp_path, between):
    (planned,) = plan(tmp_path, table({"prompt": "a", "image_urls": between.join(TWO)}))

    assert planned.row.request.references == TWO


@pytest.mark.parametrize(
    "cell",
    [
        "https://a.example/1.png,2.png",
        "https://a.example/1.PNG; photos/2.webp",
        "https://a.example/1.png,",
        "https://a.example/?of=https://b.example/1,https://c.example/2",
        "https://a.example/1.png?X-Amz-Signature=aa,https://a.example/2.png?X-Amz-Signature=bb",
        "a.png,b.png",
    ],
)
def test_where_one_link_may_be_several_nothing_is_bought(tmp_path, cell):
    (planned,) = plan(tmp_path, table({"prompt": "a", "image_urls": cell}), configured={"apimaster"})

    (problem,) = planned.problems
    assert (planned.row.state, problem.column, problem.value) == (JobState.INVALID, "image_urls", cell)
    assert "separated by |, or are a JSON list" in problem.legal


@pytest.mark.parametrize(
    "link",
    [
        "https://a.example/w_300,h_200/lamp.png",
        "https://a.example/cdn-cgi/image/width=80,quality=75/https://b.example/lamp.png",
        "https://a.example/lamp.jpg;width=200",
        "https://a.example/resize?url=https://b.example/lamp.png",
        "https://a.example/lamp.png?fields=a.png,b.png",
    ],
)
def test_commas_that_belong_to_a_link_stay_in_it(tmp_path, link):
    (planned,) = plan(tmp_path, table({"prompt": "a", "image_urls": link}))

    assert planned.row.request.references == (link,)


def test_a_json_list_is_taken_by_its_word(tmp_path):
    odd = "https://a.example/?of=https://b.example/1,https://c.example/2"
    (planned,) = plan(tmp_path, table({"prompt": "a", "image_urls": orjson.dumps([odd]).decode()}))

    assert planned.row.request.references == (odd,)
