"""Rows that ask for the same under different keys are told before money, in one line."""

from __future__ import annotations

import pytest

from jobs.planning.intake import Intake, survey
from jobs.planning.planner import PlanOptions
from providers.catalog.models import Catalog
from tests.support.planned_rows import manifest_of, table


@pytest.fixture
def seen(tmp_path):
    """What a plan at maxapi.io, at two cents an image, sees of these rows."""

    def look(*rows, **options):
        chosen = PlanOptions(**{"batch": "b", "configured": frozenset({"maxapi.io"}), **options})
        return survey(
            Intake(manifest=manifest_of(tmp_path, table(*rows)), options=chosen, catalog=Catalog.load()), None, []
        )

    return look


def test_eighty_rows_of_one_request_are_counted_with_their_money_and_an_example(seen):
    rows = [{"key": f"k{at}", "Title": "Lamp", "Color": f"c{at}"} for at in range(80)]

    same = seen({"key": "first", "Title": "Sofa", "Color": ""}, *rows, prompt="Photo of a {Title}").same

    assert (same.rows, same.money, same.most, same.lines, same.prompt) == (
        79, 79 * 20_000, 80, (3, 4, 5), "Photo of a Lamp",
    )  # fmt: skip


def test_rows_that_differ_or_are_bad_ask_for_nothing_twice(seen):
    same = seen(
        {"key": "a", "prompt": "x", "n": "1"},
        {"key": "b", "prompt": "x", "n": "2"},
        {"key": "c", "prompt": "x", "n": "none"},
        {"key": "d", "prompt": "y", "n": "1"},
    ).same

    assert (same.rows, same.prompt) == (0, "")


def test_several_requests_that_come_twice_are_all_counted_and_the_commonest_is_the_example(seen):
    texts = ["a", "b", "a", "b", "c", "b"]

    same = seen(*({"key": f"k{at}", "prompt": text} for at, text in enumerate(texts))).same

    assert (same.rows, same.most, same.lines, same.prompt) == (3, 3, (3, 5, 7), "b")
