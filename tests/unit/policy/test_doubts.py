"""An answer that ends something paid is believed when it was repeated, often enough and for long enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.policy.doubts import LONGEST_WAIT, PATIENCE, Doubt, Doubted, is_believed, of_failure, since, wait
from providers.types import Kind
from tests.support import ROOT

NOW = 1_800_000_000.0
PAGE = ROOT / "docs" / "explanation" / "polling.md"


def asked_until_believed(doubt: Doubt, poll_every: float) -> tuple[int, float]:
    """Answers that all say so, and the seconds from the first to the last."""
    now, before = NOW, Doubted()
    while not is_believed(doubt, before, now):
        before = Doubted(code=doubt, since=since(doubt, before, now), answers=before.answers + 1)
        now += wait(doubt, before, now, poll_every)
    return before.answers + 1, now - NOW


@pytest.mark.parametrize(
    ("doubt", "answers", "seconds"), [(Doubt.EMPTY, (5, 12), 300), (Doubt.SHORT, (4, 8), 60), (Doubt.FAILED, (2, 2), 4)]
)
def test_what_is_said_without_a_break_is_believed_after_several_answers_over_some_time(doubt, answers, seconds):
    came, took = asked_until_believed(doubt, 5.0)

    assert answers[0] <= came <= answers[1]
    assert seconds <= took <= seconds + LONGEST_WAIT


@given(doubt=st.sampled_from(Doubt), other=st.sampled_from(Doubt), answers=st.integers(1, 1000), ago=st.floats(0, 1e6))
def test_another_answer_begins_anew(doubt, other, answers, ago):
    before = Doubted(code=other, since=NOW - ago, answers=answers)

    if other is not doubt:
        assert not is_believed(doubt, before, NOW)
        assert since(doubt, before, NOW) == NOW


@given(doubt=st.sampled_from(Doubt), ago=st.floats(0, 1e7), every=st.floats(0.01, 1e4))
def test_questions_are_never_further_apart_than_a_minute(doubt, ago, every):
    assert 0 < wait(doubt, Doubted(code=doubt, since=NOW - ago, answers=3), NOW, every) <= LONGEST_WAIT


def test_only_failures_that_nothing_in_the_request_explains_are_doubted():
    assert of_failure(Kind.TRANSIENT, "provider_failed")
    assert of_failure(Kind.PERMANENT, "provider_cancelled")
    for kind, code in ((Kind.MODERATION, "moderation"), (Kind.PERMANENT, "invalid_parameters"), (Kind.ACCOUNT, "x")):
        assert not of_failure(kind, code)


def test_the_page_says_how_long_each_is_doubted():
    told = PAGE.read_text(encoding="utf-8")

    for doubt, patience in PATIENCE.items():
        assert f"| `{doubt}` | " in told
        line = next(line for line in told.splitlines() if line.startswith(f"| `{doubt}` |"))
        assert f"| {patience.answers} | {patience.seconds:g} s |" in line
