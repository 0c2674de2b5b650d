"""What is learnt of durations, and the polls that follow from it."""

from __future__ import annotations

import itertools
import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.policy.poll_schedule import (
    BINS,
    ENOUGH,
    FEW,
    HALF_LIFE,
    JITTER,
    LONGER,
    SOON,
    Durations,
    Plan,
    Span,
    believed,
    bin_of,
    end_of,
    factor_of,
    from_text,
    learn,
    observed,
    plan,
    to_text,
    with_running,
)

FEWEST = int(ENOUGH * HALF_LIFE)
SECONDS = st.floats(0, 90_000, allow_nan=False)


def exactly(*seconds: float) -> list[Span]:
    return [Span(low=each, high=each) for each in seconds]


def part_within(known: Durations, low: float, high: float) -> float:
    """The part of what is known that lies between two durations."""
    weights = believed(known)
    return sum(each for place, each in weights.items() if low <= end_of(place) <= high) / sum(weights.values())


# -- learning ------------------------------------------------------------------------------------------------------


@given(seconds=st.floats(0.11, 80_000))
def test_a_bin_holds_what_is_at_most_two_hundredths_below_its_end(seconds):
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

    assert all(0 <= place < BINS and 0 < each < math.inf for place, each in known.usual.items())
    assert sum(known.recent.values()) <= 1 / (1 - 0.5 ** (1 / half_life)) + 1e-6
    assert sum(known.usual.values()) <= 1 / (1 - 0.5 ** (1 / half_life / LONGER)) + 1e-6
    assert known.count == len(spans)


@given(spans=st.lists(st.tuples(SECONDS, SECONDS).map(sorted), min_size=1, max_size=30))
def test_what_is_known_is_read_back_as_it_was_kept(spans):
    known = learn(Durations(), [Span(low=low, high=high) for low, high in spans], told=True)

    again = from_text(to_text(known))

    assert again.count == known.count
    for kept, was in ((again.recent, known.recent), (again.usual, known.usual)):
        assert all(math.isclose(kept.get(place, 0), each, abs_tol=1e-4) for place, each in was.items())


BROKEN = [
    "{}",
    "[]",
    "null",
    '{"recent":[9999,1],"usual":[],"count":1,"told":0,"half_life":32}',
    '{"recent":[5,-1],"usual":[],"count":1,"told":0,"half_life":32}',
    '{"recent":["a"],"usual":[],"count":1,"told":0,"half_life":32}',
    '{"recent":[5,1],"usual":[],"count":1,"told":7,"half_life":32}',
]


@given(text=st.text() | st.sampled_from(BROKEN))
def test_a_record_that_cannot_be_read_is_forgotten(text):
    assert from_text(text) == Durations()


def test_the_first_that_end_do_not_stand_for_those_that_still_run():
    quickest = learn(Durations(), exactly(*[5.0 + number / 3 for number in range(10)]), told=True)

    known = with_running(quickest, [8.5] * 40)

    assert part_within(quickest, 5, 8.2) == 1
    assert part_within(known, 0, 8.2) < 0.3
    assert known.count == quickest.count
    assert made(known).edges[-1] > 12


def test_a_provider_that_slows_is_followed_within_some_tens_of_images():
    rng = random.Random(1)
    fast = learn(Durations(), exactly(*(rng.uniform(5, 20) for _ in range(500))))

    slow = learn(fast, exactly(*(rng.uniform(30, 60) for _ in range(70))))

    assert part_within(slow, 29, 63) > 0.75


def test_durations_nobody_tells_are_learnt_from_the_polls_around_their_ends():
    rng = random.Random(2)
    known = Durations()
    for _ in range(400):
        duration, last = rng.uniform(5, 20), rng.uniform(1, 3)
        while last + 3 < duration:
            last += rng.uniform(2, 3)
        known = learn(known, [Span(low=min(last, duration), high=max(last, duration) + rng.uniform(0, 2))])

    assert part_within(known, 4, 23) > 0.9
    assert 0.3 < part_within(known, 12.5, 23) < 0.7


def test_a_span_without_any_knowledge_is_spread_over_all_of_it():
    known = learn(Durations(), [Span(low=2.0, high=8.0)])

    assert 0.3 < part_within(known, 2.0, 4.0) < 0.7


# -- the plan ------------------------------------------------------------------------------------------------------


def made(known: Durations, most: float = FEW["prompt"]) -> Plan:
    """The plan, which there is."""
    found = plan(known, most)
    assert found is not None
    return found


def asked(by: Plan, duration: float, number: int = 0) -> list[float]:
    """The ages at which a task is asked about, the last one after its end."""
    factor, times = factor_of(number), [0.0]
    while times[-1] < duration:
        age = by.after(times[-1] / factor, number)
        times.append(times[-1] * 1.15 if age is None else age * factor)
    return times[1:]


def of_many(by: Plan, durations: list[float]) -> tuple[float, float]:
    """Polls a task, and the lateness of all of them as a part of their durations."""
    times = [asked(by, duration, number) for number, duration in enumerate(durations)]
    late = sum(each[-1] - duration for each, duration in zip(times, durations, strict=True))
    return sum(map(len, times)) / len(times), late / sum(durations)


@settings(deadline=None, max_examples=12)  # a hard one takes a tenth of a second
@given(
    spans=st.lists(st.tuples(SECONDS, SECONDS).map(sorted), min_size=FEWEST, max_size=60),
    most=st.floats(1, 100),
    ages=st.lists(st.floats(0, 100_000), min_size=1, max_size=9),
)
def test_a_plan_always_looks_ahead(spans, most, ages):
    by = made(learn(Durations(), [Span(low=low, high=high) for low, high in spans]), most)

    assert list(by.edges) == sorted(by.edges)
    assert all(here < then for here, then in enumerate(by.nexts))
    assert by.polls >= 1 - 1e-9
    for age in ages:
        then = by.after(age)
        assert then is None or then > age


def test_what_is_too_little_makes_no_plan():
    assert plan(learn(Durations(), exactly(*[9.0] * (FEWEST - 1))), FEW["prompt"]) is None


def test_tasks_that_all_take_the_same_time_are_asked_about_once():
    by = made(learn(Durations(), exactly(*[12.0] * 60)))

    assert of_many(by, [12.0] * 300)[0] < 1.6  # with their polls spread apart, some come too early
    assert by.polls < 1.2


def test_tasks_are_found_about_as_early_as_so_many_polls_can():
    rng = random.Random(5)
    known = learn(Durations(), exactly(*(rng.uniform(5, 20) for _ in range(2_000))))
    durations = [rng.uniform(5, 20) for _ in range(4_000)]

    least = {1.6: 0.248, 2.4: 0.140, 5.0: 0.058}  # of the duration: no schedule does better on average
    found = {most: of_many(made(known, most), durations) for most in least}

    assert all(polls <= most * 1.03 for most, (polls, _) in found.items())
    assert all(late <= 1.1 * least[most] + 0.005 for most, (_, late) in found.items())


def test_more_polls_than_find_tasks_soon_are_not_spent():
    rng = random.Random(5)
    known = learn(Durations(), exactly(*(rng.uniform(5, 20) for _ in range(2_000))))

    by = made(known, 1_000.0)

    assert by.polls < 15
    assert math.isclose(by.late, SOON * 12.5, rel_tol=0.1)


def test_two_kinds_of_task_are_asked_about_at_their_ends_and_not_between():
    rng = random.Random(6)
    both = [rng.uniform(5, 6) if rng.random() < 0.5 else rng.uniform(30, 36) for _ in range(1_000)]
    by = made(learn(Durations(), exactly(*both)))

    times = asked(by, 36.0)

    assert not [at for at in times if 8 < at < 27]
    assert of_many(by, both)[1] < 0.1


def test_a_plan_is_kept_while_nothing_much_changes_and_made_anew_when_the_provider_slows():
    rng = random.Random(7)
    known = learn(Durations(), exactly(*(rng.uniform(5, 20) for _ in range(600))))
    by = made(known)

    assert by.fits(learn(known, exactly(*(rng.uniform(5, 20) for _ in range(20)))), by.most)
    assert not by.fits(learn(known, exactly(*(rng.uniform(20, 40) for _ in range(40)))), by.most)
    assert not by.fits(known, 2 * by.most)


def test_tasks_submitted_together_are_not_asked_about_in_step():
    runs = sorted(factor_of(number) for number in range(70_000, 70_300))

    assert 1 - JITTER <= runs[0] < runs[-1] <= 1 + JITTER
    gaps = [after - before for before, after in itertools.pairwise(runs)]
    assert max(gaps) < 3 * 2 * JITTER / 300
