"""What is learnt of durations, and the polls that follow from it."""

from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from jobs.cadence import BINS, Durations, Span, bin_of, end_of, from_text, learn, observed, to_text

SECONDS = st.floats(0, 90_000, allow_nan=False)


def exactly(*seconds: float) -> list[Span]:
    return [Span(low=each, high=each) for each in seconds]


def part_within(known: Durations, low: float, high: float) -> float:
    """The part of what is known that lies between two durations."""
    inside = sum(each for place, each in known.weights.items() if low <= end_of(place) <= high)
    return inside / sum(known.weights.values())


# -- learning ------------------------------------------------------------------------------------------------------


@given(seconds=st.floats(0.11, 80_000))
def test_a_bin_holds_what_is_at_most_three_hundredths_below_its_end(seconds):
    place = bin_of(seconds)

    assert 0 <= place < BINS
    assert seconds <= end_of(place) * (1 + 1e-6)
    assert seconds >= end_of(place - 1) * (1 - 1e-6)


@given(ran=SECONDS, found=SECONDS, told=st.none() | st.tuples(SECONDS, SECONDS))
def test_what_was_seen_of_a_task_bounds_what_its_provider_says(ran, found, told):
    span = observed(ran=ran, found=found, told=told)

    assert min(ran, found) <= span.low <= span.high <= found


def test_a_told_duration_that_cannot_be_is_no_duration():
    assert observed(ran=5.0, found=9.0, told=(3_600.0, 3_600.0)) == Span(low=5.0, high=9.0)
    assert observed(ran=5.0, found=9.0, told=(7.0, 7.0)) == Span(low=7.0, high=7.0)
    assert observed(ran=5.0, found=9.0, told=(9.4, 9.4)) == Span(low=9.0, high=9.0)  # the answer was on its way


@given(spans=st.lists(st.tuples(SECONDS, SECONDS).map(sorted), max_size=60), half_life=st.floats(8, 200))
def test_what_is_known_is_bounded_however_much_is_learnt(spans, half_life):
    known = learn(Durations(), [Span(low=low, high=high) for low, high in spans], half_life=half_life)

    assert all(0 <= place < BINS and 0 < each < math.inf for place, each in known.weights.items())
    assert sum(known.weights.values()) <= 1 / (1 - 0.5 ** (1 / half_life)) + 1e-6
    assert known.count == len(spans)


@given(spans=st.lists(st.tuples(SECONDS, SECONDS).map(sorted), min_size=1, max_size=30))
def test_what_is_known_is_read_back_as_it_was_kept(spans):
    known = learn(Durations(), [Span(low=low, high=high) for low, high in spans], told=True)

    again = from_text(to_text(known))

    assert (again.count, set(again.weights) <= set(known.weights)) == (known.count, True)
    assert all(math.isclose(again.weights.get(place, 0), each, abs_tol=1e-4) for place, each in known.weights.items())


@given(text=st.text() | st.sampled_from(["{}", "[]", "null", '{"weights":{"9999":1},"count":1,"told":0}']))
def test_a_record_that_cannot_be_read_is_forgotten(text):
    assert from_text(text) == Durations()


def test_a_provider_that_slows_is_followed_within_some_tens_of_images():
    chance = random.Random(1)
    fast = learn(Durations(), exactly(*(chance.uniform(5, 20) for _ in range(500))))

    slow = learn(fast, exactly(*(chance.uniform(30, 60) for _ in range(70))))

    assert part_within(slow, 29, 63) > 0.75


def test_durations_nobody_tells_are_learnt_from_the_polls_around_their_ends():
    chance = random.Random(2)
    known = Durations()
    for _ in range(400):
        duration, last = chance.uniform(5, 20), chance.uniform(1, 3)
        while last + 3 < duration:
            last += chance.uniform(2, 3)
        known = learn(known, [Span(low=min(last, duration), high=max(last, duration) + chance.uniform(0, 2))])

    assert part_within(known, 4, 23) > 0.9
    assert 0.3 < part_within(known, 12.5, 23) < 0.7


def test_a_span_without_any_knowledge_is_spread_over_all_of_it():
    known = learn(Durations(), [Span(low=2.0, high=8.0)])

    assert 0.3 < part_within(known, 2.0, 4.0) < 0.7
