"""A key with a slash names one folder; two keys never share one, and a path leads back to its key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.manifest.templates import as_name, from_name
from jobs.planning.adoption import by_path, paths_of
from tests.support.planned_rows import plan, table

#: Keys of the pieces that could be mistaken for one another.
KEYS = st.lists(
    st.sampled_from(["/", "%", "2F", "25", "%2F", "%252F", "%2f", "a", ".", "{", "}", " "]), max_size=6
).map("".join)


@given(KEYS, KEYS)
def test_two_keys_never_have_one_name(one, other):
    assert (as_name(one) == as_name(other)) == (one == other)


@given(KEYS)
def test_a_name_has_no_slash_and_is_read_back(key):
    assert "/" not in as_name(key)
    assert from_name(as_name(key)) == key


@pytest.mark.parametrize("key", ["lamp", "50%", "a%20b", "100%25", "a b", "%2f"])
def test_keys_without_a_slash_keep_the_path_that_they_had(key):
    assert as_name(key) == key


@pytest.mark.parametrize("key", ["chairs/oak", "../up", "/", "a/", "a%2Fb"])
def test_an_image_is_found_again_by_its_path(tmp_path, key):
    (planned,) = plan(tmp_path, table({"key": key, "prompt": "a"}))

    found = by_path(planned.row.path.format(index=0, ext="png"), [paths_of("b", "{batch}/{key}/{index}.{ext}")])

    assert (found.key, found.slot) == (key, 0)


def test_another_column_in_a_path_may_have_a_slash_too(tmp_path):
    (planned,) = plan(tmp_path, table({"prompt": "a", "T": "Sofa 2/3"}), path="{T}/{index}.{ext}")

    assert planned.row.path == "Sofa 2%2F3/{index}.{ext}"
