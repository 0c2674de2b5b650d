"""Limits that nobody declares are found, used, and followed when they change; virtual time."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import learning, retry
from jobs.learning import Bound, Learnt

STEP = 0.002  # seconds
ANSWER = 0.03  # seconds


@dataclass
class Provider:
    """A token bucket and a number of places; neither is told."""

    rate: Callable[[float], float] = lambda _now: 12.0
    burst: float = 12.0
    places: int = 40
    takes: tuple[float, float] = (0.6, 1.5)
    retry_after: float | None = None
    answers_in: Callable[[int], float] = lambda _flying: ANSWER
    tokens: float = 1e9  # full
    at: float = 0.0
    ends: list[float] = field(default_factory=list)

    def takes_one(self, now: float, chance: random.Random) -> float | None:
        """When the task ends; None: 429."""
        while self.ends and self.ends[0] <= now:
            heapq.heappop(self.ends)
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate(now))
        self.at = now
        if self.tokens < 1 or len(self.ends) >= self.places:
            return None
        self.tokens -= 1
        heapq.heappush(self.ends, now + chance.uniform(*self.takes))
        return self.ends[-1]


@dataclass
class Found:
    """Times of what was accepted and of what was refused, and what was learnt."""

    accepted: list[float]
    refused: list[float]
    known: Learnt

    def a_second(self, since: float, until: float) -> float:
        return sum(since <= at < until for at in self.accepted) / (until - since)

    def refused_part(self, since: float, until: float) -> float:
        refused = sum(since <= at < until for at in self.refused)
        return refused / max(1, refused + sum(since <= at < until for at in self.accepted))


def meet(provider: Provider, seconds: float, *, seed: int = 1, known: Learnt | None = None) -> Found:
    """An account with endless work, as the ledger's claims treat one: a rest for all, then a probe."""
    chance, known = random.Random(seed), known or Learnt()
    accepted, refused, air, ours = [], [], [], []
    now = tat = rest = 0.0
    troubles, bound = 0, Bound.WORK
    while now < seconds:
        now += STEP
        while ours and ours[0] <= now:
            heapq.heappop(ours)
        while air and air[0][0] <= now:
            at, sent, taken = heapq.heappop(air)
            if taken:
                known, troubles = learning.accepted(known, 1, bound=bound, took=at - sent, now=now), 0
            elif rest <= now:
                troubles += 1
                length = retry.throttled_rest(troubles, provider.retry_after)
                flying = len(ours) + len(air)
                blamed = learning.blamed(known, bound, flying)
                known = learning.too_much(known, bound=blamed, flying=flying, sent_at=sent, now=now, rest=length)
                rest = now + length
        room = int(known.in_flight) - len(ours) - len(air)
        if now < rest or (troubles and (air or room <= 0)):
            continue
        if room <= 0:
            bound = Bound.IN_FLIGHT
        elif tat <= now:
            bound = bound if troubles else Bound.RATE
            tat = max(tat, now) + 1 / known.rate
            sent = now + chance.random() * 0.004
            end = provider.takes_one(sent, chance)
            (refused if end is None else accepted).append(sent)
            heapq.heappush(air, (sent + provider.answers_in(len(provider.ends)), sent, end is not None))
            if end is not None:
                heapq.heappush(ours, end + chance.random())  # found somewhat later
    return Found(accepted, refused, known)


@pytest.mark.parametrize(("burst", "retry_after"), [(12, None), (21, None), (12, 2.0), (21, 2.0)])
def test_a_rate_nobody_declared_is_found_within_a_minute_and_used_with_few_429s(burst, retry_after):
    found = meet(Provider(burst=burst, retry_after=retry_after), 120)

    assert found.a_second(60, 120) >= 0.9 * 12
    assert found.refused_part(60, 120) < 0.01


def test_a_provider_that_wants_its_submits_spaced_is_used_for_the_most_part():
    found = meet(Provider(burst=2), 120)

    assert found.a_second(60, 120) >= 0.85 * 12
    assert found.refused_part(60, 120) < 0.01


def test_a_first_refusal_by_bad_luck_is_soon_forgotten():
    unlucky = learning.too_much(Learnt(), bound=Bound.RATE, flying=1, sent_at=-2, now=-1, rest=0.5)

    found = meet(Provider(), 130, known=unlucky)

    assert found.a_second(70, 130) >= 0.9 * 12


def test_a_slow_provider_is_not_tried_too_often():
    found = meet(Provider(rate=lambda _now: 1.0, burst=2), 600)

    assert found.a_second(300, 600) >= 0.9
    assert found.refused_part(300, 600) < 0.02


def test_places_nobody_declared_are_found_and_used_with_few_429s():
    found = meet(Provider(takes=(9.5, 10.5)), 150)

    assert found.a_second(90, 150) >= 0.8 * 4.0  # 40 places of ten seconds, and half a second until they are found
    assert found.refused_part(90, 150) < 0.02
    assert found.known.in_flight <= 48


@pytest.mark.parametrize("retry_after", [None, 2.0])
def test_a_provider_that_takes_less_from_now_on_is_followed_within_fifteen_seconds(retry_after):
    found = meet(Provider(rate=lambda now: 12.0 if now < 90 else 6.0, retry_after=retry_after), 165)

    assert found.a_second(105, 165) >= 0.9 * 6
    assert found.refused_part(105, 165) < 0.02
    assert found.known.rate < 7


def test_a_provider_that_takes_more_from_now_on_is_followed():
    found = meet(Provider(rate=lambda now: 6.0 if now < 60 else 24.0, burst=24, places=400), 180)

    assert found.a_second(150, 180) >= 0.9 * 24


def test_the_next_run_starts_with_what_the_last_one_learnt():
    first = meet(Provider(), 120)

    again = meet(Provider(), 20, known=first.known)

    assert again.a_second(0, 20) >= 0.9 * 12


def test_answers_that_slow_down_with_load_stop_the_growth_before_anything_is_refused():
    loaded = Provider(
        rate=lambda _now: 1000.0, burst=1000, places=1000, takes=(5, 8), answers_in=lambda flying: 0.02 + 0.05 * flying
    )

    found = meet(loaded, 120)

    assert not found.refused
    assert found.known.in_flight < 80


def test_refusals_that_were_in_the_air_together_cut_once():
    known = learning.too_much(Learnt(rate=10), bound=Bound.RATE, flying=5, sent_at=99, now=100, rest=0.5)

    again = learning.too_much(known, bound=Bound.RATE, flying=5, sent_at=99.5, now=101, rest=0.5)

    assert again == known
    assert known.rate < 10


numbers = st.floats(0.2, 400, allow_nan=False)
facts = st.lists(st.tuples(st.booleans(), st.sampled_from(Bound), st.integers(0, 600), st.floats(0, 30)), max_size=60)


@given(numbers, numbers, facts)
def test_limits_stay_within_their_bounds_and_a_cut_never_raises_one(rate, in_flight, history):
    known, now = Learnt(rate=rate, in_flight=max(1.0, in_flight)), 0.0
    for taken, bound, count, seconds in history:
        now += seconds
        before = known
        if taken:
            known = learning.accepted(known, count % 20, bound=bound, took=seconds, now=now)
        else:
            known = learning.too_much(known, bound=bound, flying=count, sent_at=now, now=now, rest=seconds)
            assert known.rate <= max(before.rate, learning.LEAST_SUBMITS_PER_SECOND)
            assert known.in_flight <= max(before.in_flight, learning.LEAST_IN_FLIGHT)
        assert learning.LEAST_SUBMITS_PER_SECOND <= known.rate <= max(rate, learning.MOST_SUBMITS_PER_SECOND)
        assert learning.LEAST_IN_FLIGHT <= known.in_flight <= max(in_flight, learning.MOST_IN_FLIGHT)
