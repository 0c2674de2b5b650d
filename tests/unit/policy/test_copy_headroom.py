"""Submits stop before paid images are lost, and go on by themselves: the arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.policy import copy_headroom
from jobs.policy.copy_headroom import Backlog, HeadroomState, judge, least_slack, load, pace

NOW = 1_800_000_000.0
lives = st.lists(st.floats(1, 1e6), min_size=copy_headroom.ENOUGH_WAITING, max_size=80)
paces = st.floats(0.01, 100)


def backlog(seconds, **more):
    return Backlog(deaths=tuple((k, NOW + life) for k, life in enumerate(sorted(seconds), start=1)), **more)


def copied_in_time(seconds, a_second):
    """Earliest deadline first, one after the other: how many seconds the tightest had to spare."""
    return min(life - k / a_second for k, life in enumerate(sorted(seconds), start=1))


@given(lives, paces)
def test_the_least_slack_is_that_of_copying_them_one_after_the_other(seconds, a_second):
    told = least_slack(backlog(seconds), a_second, NOW)

    assert told == pytest.approx(copied_in_time(seconds, a_second), abs=1e-3)


@given(lives, paces)
def test_what_is_judged_safe_is_saved_at_that_pace(seconds, a_second):
    """All but the first few, which are copied before everything else whatever is paid for."""
    if load(backlog(seconds), a_second, NOW) < 1:
        few = copy_headroom.ENOUGH_WAITING - 1
        assert all(life >= k / a_second for k, life in enumerate(sorted(seconds), start=1) if k > few)


@given(lives, paces, st.integers(1, 1000))
def test_more_that_waits_is_never_less_load(seconds, a_second, more):
    before = load(backlog(seconds), a_second, NOW)

    assert load(backlog([*seconds, max(seconds)]), a_second, NOW) >= before
    assert load(backlog(seconds, coming=more), a_second, NOW) >= before


def test_a_few_nearly_dead_links_beside_a_good_pace_pause_nothing():
    nearly_dead = backlog([0.5] * (copy_headroom.ENOUGH_WAITING - 1) + [3600.0] * 100)

    assert load(nearly_dead, 10.0, NOW) < copy_headroom.RESUME_BELOW


def test_a_pace_is_told_by_enough_images_or_by_a_long_look_at_too_few():
    assert pace(Backlog(stored_short=30, stored_long=60), 0.0) == 3.0
    assert pace(Backlog(stored_short=0, stored_long=60), 0.0) == 1.0
    assert pace(Backlog(stored_short=1, stored_long=2), 30.0) is None
    assert pace(Backlog(), copy_headroom.LONG_LOOK) == pytest.approx(1 / 60)


def test_a_pause_takes_two_looks_and_a_pace_that_wavers_changes_nothing():
    once = judge(HeadroomState(), 0.9)
    twice = judge(once, 1.5)

    assert (once.paused, twice.paused) == (False, True)
    assert judge(judge(once, 0.7), 0.9).paused is False
    assert judge(twice, 0.7).paused
    assert judge(twice, None).paused
    assert judge(twice, 0.4) == HeadroomState()
