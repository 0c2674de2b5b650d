"""Limits that nobody declares are found, used, and followed when they change; virtual time."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.policy import adaptive_limits, rate, retry
from jobs.policy.adaptive_limits import AdaptiveLimits, Bound

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

    def takes_one(self, now: float, rng: random.Random) -> float | None:
        """When the task ends; None: 429."""
        while self.ends and self.ends[0] <= now:
            heapq.heappop(self.ends)
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate(now))
        self.at = now
        if self.tokens < 1 or len(self.ends) >= self.places:
            return None
        self.tokens -= 1
        heapq.heappush(self.ends, now + rng.uniform(*self.takes))
        return self.ends[-1]


@dataclass
class Account:
    """An account with endless work, as the ledger's claims treat one: permits ahead, a cooldown for all, then a probe.

    `stall`: seconds that the machine may be busy with other things, every two seconds; what should leave then leaves
    at the end of it, together. `claims_take`: seconds of each claim, while none other is made.
    """

    provider: Provider
    rng: random.Random
    known: AdaptiveLimits
    stall: float = 0.0
    claims_take: float = 0.0
    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    flying: int = 0
    air: int = 0
    tat: float = 0.0
    cooldown_until: float = 0.0
    troubles: int = 0
    bound: Bound = Bound.WORK
    _events: list[tuple[float, int, Callable[[float], None]]] = field(default_factory=list)
    _made: int = 0

    def work(self, seconds: float) -> Found:
        self._at(0.0, self._claim)
        while self._events[0][0] <= seconds:
            now, _, event = heapq.heappop(self._events)
            event(now)
        return Found(self.accepted, self.refused, self.known)

    def _at(self, when: float, event: Callable[[float], None]) -> None:
        self._made += 1
        heapq.heappush(self._events, (when, self._made, event))

    def _not_stalled(self, when: float) -> float:
        began = when - when % 2.0
        return max(when, began + self.stall)

    def _claim(self, now: float) -> None:
        again = now + 0.05
        room = int(self.known.in_flight) - self.flying
        horizon = rate.horizon_of(self.claims_take)
        permits = rate.permits(
            tat=self.tat, now=now, per_second=self.known.rate, horizon=horizon, most=self._may_start(now, room)
        )
        if room <= 0 and not self.troubles:
            self.bound = Bound.IN_FLIGHT
        elif permits.count:
            self._note_bound(permits, room)
            for at in permits.times:
                self._at(self._not_stalled(max(at, now + self.claims_take)) + self.rng.random() * 0.004, self._send)
            self.flying, self.air = self.flying + permits.count, self.air + permits.count
            self.tat = permits.tat(permits.count)
            again = max(now + max(0.01, self.claims_take), permits.next_at(permits.count))
        self._at(self._not_stalled(again), self._claim)

    def _may_start(self, now: float, room: int) -> int:
        allowed = min(room, 1 - self.air) if self.troubles else room
        return 0 if now < self.cooldown_until else max(0, allowed)

    def _note_bound(self, permits: rate.Permits, room: int) -> None:
        if not self.troubles:
            ready = permits.start <= permits.now
            by_places = permits.count >= room and (permits.short or ready)
            self.bound = Bound.IN_FLIGHT if by_places else Bound.WORK if ready else Bound.RATE

    def _send(self, now: float) -> None:
        end = self.provider.takes_one(now, self.rng)
        (self.refused if end is None else self.accepted).append(now)
        answered = self._not_stalled(now + self.provider.answers_in(len(self.provider.ends)))
        self._at(answered, lambda at: self._hear(now, end, at))

    def _hear(self, sent: float, end: float | None, now: float) -> None:
        self.air -= 1
        if end is not None:
            self._at(max(now, end + self.rng.random()), self._find)
            self.known = adaptive_limits.accepted(self.known, 1, bound=self.bound, took=now - sent, now=now)
            self.troubles = self.troubles if now < self.cooldown_until else 0
            return
        self.flying -= 1
        if now >= self.cooldown_until:
            self.troubles += 1
            rest = retry.throttled_cooldown(self.troubles, self.provider.retry_after)
            blamed = adaptive_limits.blamed(self.known, self.bound, self.flying)
            self.known = adaptive_limits.too_much(
                self.known, bound=blamed, flying=self.flying, sent_at=sent, now=now, cooldown=rest
            )
            self.cooldown_until = now + rest

    def _find(self, _now: float) -> None:
        self.flying -= 1


@dataclass
class Found:
    """Times of what was accepted and of what was refused, and what was learnt."""

    accepted: list[float]
    refused: list[float]
    known: AdaptiveLimits

    def a_second(self, since: float, until: float) -> float:
        return sum(since <= at < until for at in self.accepted) / (until - since)

    def refused_part(self, since: float, until: float) -> float:
        refused = sum(since <= at < until for at in self.refused)
        return refused / max(1, refused + sum(since <= at < until for at in self.accepted))


def meet(
    provider: Provider, seconds: float, *, seed: int = 1, known: AdaptiveLimits | None = None, **machine: float
) -> Found:
    account = Account(provider=provider, rng=random.Random(seed), known=known or AdaptiveLimits(), **machine)
    return account.work(seconds)


@pytest.mark.parametrize(("burst", "retry_after"), [(12, None), (21, None), (12, 2.0), (21, 2.0)])
def test_a_rate_nobody_declared_is_found_within_a_minute_and_used_with_few_429s(burst, retry_after):
    found = meet(Provider(burst=burst, retry_after=retry_after), 120)

    assert found.a_second(60, 120) >= 0.9 * 12
    assert found.refused_part(60, 120) < 0.01


@pytest.mark.parametrize("seed", range(5))
def test_a_busy_machine_whose_submits_leave_late_and_together_is_refused_no_more_often(seed):
    found = meet(Provider(), 180, seed=seed, stall=0.35)

    assert found.a_second(60, 180) >= 0.9 * 12
    assert found.refused_part(60, 180) < 0.005


def test_a_machine_too_slow_for_the_limit_does_not_take_it_for_higher():
    found = meet(Provider(), 300, stall=1.4)

    assert found.known.rate < 2 * 12


@pytest.mark.parametrize("seed", range(3))
def test_where_a_claim_takes_long_it_takes_more_and_the_limit_is_used_all_the_same(seed):
    found = meet(Provider(), 120, seed=seed, claims_take=0.3)

    assert found.a_second(60, 120) >= 0.9 * 12
    assert found.refused_part(60, 120) < 0.02


def test_a_provider_that_wants_its_submits_spaced_is_used_for_the_most_part():
    found = meet(Provider(burst=2), 120)

    assert found.a_second(60, 120) >= 0.85 * 12
    assert found.refused_part(60, 120) < 0.01


def test_a_first_refusal_by_bad_luck_is_soon_forgotten():
    unlucky = adaptive_limits.too_much(AdaptiveLimits(), bound=Bound.RATE, flying=1, sent_at=-2, now=-1, cooldown=0.5)

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


@pytest.mark.parametrize("places", [2, 3, 5])
def test_of_few_places_none_stays_empty(places):
    found = meet(Provider(places=places, takes=(5.0, 5.0)), 400)

    assert found.a_second(100, 400) >= 0.95 * places / 5.5  # a task is found half a second after it ended
    assert found.refused_part(100, 400) < 0.05


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
    known = adaptive_limits.too_much(
        AdaptiveLimits(rate=10), bound=Bound.RATE, flying=5, sent_at=99, now=100, cooldown=0.5
    )

    again = adaptive_limits.too_much(known, bound=Bound.RATE, flying=5, sent_at=99.5, now=101, cooldown=0.5)

    assert again == known
    assert known.rate < 10


def test_a_cut_by_a_clock_that_was_set_back_since_hides_no_refusal():
    ahead = adaptive_limits.too_much(
        AdaptiveLimits(rate=10), bound=Bound.RATE, flying=5, sent_at=9e5, now=9e5, cooldown=0.5
    )

    again = adaptive_limits.too_much(ahead, bound=Bound.RATE, flying=5, sent_at=100, now=101, cooldown=0.5)

    assert again.rate < ahead.rate
    assert again.cut_at < 200


def test_a_429_with_fewer_in_flight_than_were_let_through_speaks_of_the_rate():
    known = AdaptiveLimits(rate=15, in_flight=19.4, in_flight_top=20, cut_at=0.0, since_cut=30)

    assert adaptive_limits.blamed(known, Bound.IN_FLIGHT, 12) is Bound.RATE
    assert adaptive_limits.blamed(known, Bound.IN_FLIGHT, 19) is Bound.IN_FLIGHT


numbers = st.floats(0.2, 400, allow_nan=False)
facts = st.lists(st.tuples(st.booleans(), st.sampled_from(Bound), st.integers(0, 600), st.floats(0, 30)), max_size=60)


@given(numbers, numbers, facts)
def test_limits_stay_within_their_bounds_and_a_cut_never_raises_one(rate, in_flight, history):
    known, now = AdaptiveLimits(rate=rate, in_flight=max(1.0, in_flight)), 0.0
    for taken, bound, count, seconds in history:
        now += seconds
        before = known
        if taken:
            known = adaptive_limits.accepted(known, count % 20, bound=bound, took=seconds, now=now)
        else:
            known = adaptive_limits.too_much(known, bound=bound, flying=count, sent_at=now, now=now, cooldown=seconds)
            assert known.rate <= max(before.rate, adaptive_limits.LEAST_SUBMITS_PER_SECOND)
            assert known.in_flight <= max(before.in_flight, adaptive_limits.LEAST_IN_FLIGHT)
        assert (
            adaptive_limits.LEAST_SUBMITS_PER_SECOND <= known.rate <= max(rate, adaptive_limits.MOST_SUBMITS_PER_SECOND)
        )
        assert adaptive_limits.LEAST_IN_FLIGHT <= known.in_flight <= max(in_flight, adaptive_limits.MOST_IN_FLIGHT)
