"""What becomes of a schedule's times: each is decided once, and acted on at one moment for everybody."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.policy.cron import times
from jobs.policy.firing import (
    LATE_AFTER,
    MISSED_KEPT,
    CatchUp,
    OverlapPolicy,
    at_its_time,
    fallen_due,
    has_shrunk,
    moment_of,
)
from jobs.states import FIRING_OVER, FiringState

NOON = 1_800_014_400.0  # 2027-01-15 12:00 UTC
crons = st.sampled_from(["* * * * *", "*/7 * * * *", "0 * * * *", "0 3 * * *", "0 0 * * 1", "0 0 29 2 *"])


def every(cron, begin, end):
    return list(itertools.takewhile(lambda at: at <= end, times(cron, "UTC", begin)))


@given(crons, st.sampled_from(CatchUp), st.lists(st.floats(0, 4 * 3600), min_size=1, max_size=12))
def test_however_often_it_is_looked_at_each_time_is_decided_once(cron, catch_up, waits):
    """As many as are kept on record: of those that nobody saw for long, the newest."""
    (first,) = itertools.islice(times(cron, "UTC", NOON), 1)
    now, next_at, decided, looked = NOON, first, [], []
    for wait in waits:
        now += wait
        due = fallen_due(cron, "UTC", next_at, now, catch_up)
        fires = [] if due.fires is None else [due.fires]
        decided += [*due.missed, *due.overtaken, *fires]
        looked.append((due, now))
        next_at = due.next_at
        assert next_at > now

    came = every(cron, NOON, now)
    assert decided == sorted(set(decided))
    assert set(decided) <= set(came)
    if all(len(due.missed) + len(due.overtaken) < MISSED_KEPT for due, _ in looked):
        assert decided == came
    for due, at in looked:
        if catch_up is CatchUp.NONE and due.fires is not None:
            assert at - due.fires <= LATE_AFTER
        if catch_up is CatchUp.LAST and due.missed:
            assert due.fires is not None
            assert due.fires > max(due.missed)


def test_after_a_year_away_the_newest_fires_and_few_are_named():
    due = fallen_due("* * * * *", "UTC", NOON, NOON + 365 * 86_400, CatchUp.LAST)

    assert (due.fires, len(due.missed) + len(due.overtaken)) == (NOON + 365 * 86_400, MISSED_KEPT)


def test_a_time_of_a_moment_ago_is_not_missed_where_a_later_one_fires_in_its_place():
    due = fallen_due("*/2 * * * *", "UTC", NOON, NOON + 9 * 60 + 30, CatchUp.LAST)

    minutes = [[(at - NOON) / 60 for at in found] for found in (due.missed, due.overtaken, [due.fires])]
    assert minutes == [[0, 2, 4], [6], [8]]


@given(st.text(min_size=1, max_size=20), st.floats(0, 2e9), st.floats(0, 7200))
def test_jitter_is_within_its_bound_and_the_same_for_every_worker(name, at, jitter):
    moment = moment_of(name, at, jitter)

    assert at <= moment <= at + jitter
    assert moment == moment_of(name, at, jitter)


def test_jitter_spreads_schedules_of_one_hour():
    moments = {moment_of(f"shop-{number}", NOON, 300.0) for number in range(100)}
    assert max(moments) - min(moments) > 200


@pytest.mark.parametrize("overlap", OverlapPolicy)
def test_a_time_begins_unless_one_is_in_its_way(overlap):
    assert at_its_time([], overlap) is FiringState.DUE
    assert at_its_time(FIRING_OVER, overlap) is FiringState.DUE
    waits = FiringState.QUEUED if overlap is OverlapPolicy.QUEUE else FiringState.SKIPPED
    assert at_its_time([FiringState.WORKING], overlap) is waits
    assert at_its_time([FiringState.STOPPED, FiringState.READING], overlap) is waits
    assert at_its_time([FiringState.STOPPED], overlap) is FiringState.SKIPPED


@pytest.mark.parametrize(
    ("rows", "before", "expected"),
    [
        (16, 60, True),
        (29, 60, True),
        (30, 60, True),
        (31, 60, False),
        (0, 9, False),
        (2, 11, False),
        (10, 20, True),
        (1, 11, True),
        (60, 16, False),
    ],
)
def test_a_manifest_has_shrunk_when_it_lacks_ten_rows_and_half_of_them(rows, before, expected):
    assert has_shrunk({"rows": rows, "rows_before": before}) is expected
    assert not has_shrunk({"rows": rows})
    assert not has_shrunk({})
