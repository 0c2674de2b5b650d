"""A request's canonical JSON, however it was written."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from providers.types import Request

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
REQUESTS = st.builds(
    Request,
    prompt=TEXT,
    model=TEXT,
    ratio=st.none() | TEXT,
    resolution=st.none() | TEXT,
    size=st.none() | st.tuples(st.integers(1, 9_999), st.integers(1, 9_999)),
    n=st.integers(1, 10),
    references=st.lists(TEXT, max_size=2).map(tuple),
    quality=st.none() | TEXT,
    options=st.dictionaries(TEXT | st.just("prompt"), VALUES, max_size=3),
    provider=st.none() | TEXT,
)


@given(REQUESTS, TEXT)
def test_the_same_request_with_another_prompt_is_written_as_if_it_were_made_anew(request, prompt):
    quick = request.with_prompt(prompt, request.around_prompt())

    assert quick == replace(request, prompt=prompt)
    assert quick.to_json() == replace(request, prompt=prompt).to_json()
    assert Request.from_json(quick.to_json()) == quick


@given(REQUESTS, TEXT)
def test_a_changed_request_is_written_as_it_is_and_not_as_it_was(request, prompt):
    before = request.to_json()

    changed = replace(request, prompt=f"{request.prompt}{prompt}!")

    assert changed.to_json() != before
    assert request.to_json() == before
