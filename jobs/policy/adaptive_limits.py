"""What an account's provider takes, learnt from its answers: limits that grow while they bind, and are cut at a 429.

No provider publishes its limits (providers.md, 0.1), so both start low. Only the limit that holds us up grows: what has
not been tried is not known. Far below the last known top it grows fast, near it slowly, since each try beyond it costs
a 429, and fast again where it is well above it, for the provider allows more than it did. Pure: no clock, no database.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from jobs.policy.retry import LONGEST_REST

#: What an account starts with: as carefully as providers.md asks (2 to 4 at once) and quick to grow.
FIRST_SUBMITS_PER_SECOND = 1.0
FIRST_IN_FLIGHT = 4.0
#: What a limit never falls below: one row in ten seconds, one at a time.
LEAST_SUBMITS_PER_SECOND = 0.1
LEAST_IN_FLIGHT = 1.0
#: And what it never grows beyond by itself: a provider that refuses nothing may still only queue what it cannot do.
#: Whoever is allowed more declares it.
MOST_SUBMITS_PER_SECOND = 100.0
MOST_IN_FLIGHT = 500.0

#: What an acceptance adds where no top is known: 0.2/s to the rate, so 1/s becomes 12/s in 14 seconds; and a place,
#: since it shows by itself that the provider takes one more.
STEEP_RATE, STEEP_PLACES = 0.2, 1.0
#: Below NEAR of the top, and where the top has proven too low, a limit grows by this part of itself with each
#: acceptance, or by half a steep step where it is small.
BRISK, NEAR = 0.005, 0.95
#: Part of the top that is used from a cut until the next try: what is left fills the provider's bucket, so that a few
#: submits that leave late and together find it full.
KEPT = 0.97
#: Fewer places than these are used to the last.
FEW = 6.0
#: How far beyond the top a try goes, and seconds' worth of acceptances there that prove the top too low. A bucket that
#: holds a second of the rate is empty before; and so near the top few are in the air that the 429 did not save.
TRIED, PROOF = 1.12, 10.0
#: Acceptances from a cut to the next try beyond the top. First few, for a first 429 may be bad luck; twice as many each
#: time the top turns out the same, up to so many.
FIRST_PATIENCE, USUAL_PATIENCE = 20, 240
#: But no less than these seconds' worth, first and then, and so many that the rests which 429s bring take so small a
#: part of the time.
FIRST_SECONDS, USUAL_SECONDS, RESTING_PART = 15.0, 30.0, 0.03
#: The top is the same when it differs by no more than this part.
SAME = 0.15

#: What a try makes of a top that it finds again: one that was taken for too low would else never be found out.
LIFTED = 1.01
#: Part of a limit that is taken for the top where nothing else tells: growth was steep, or the last cut a moment ago.
FIRST_GUESS = 0.8
#: A cut takes no more than half at once.
DEEPEST = 0.5
#: Submits accepted between two cuts that tell the true rate, for the provider's bucket was empty at both ends; fewer
#: are chance.
TELLING = 10

#: Polls a second to begin with, and at most; they cost nothing. Each that was wanted wins a tenth of a poll a second,
#: but for so many seconds after a 429, which takes three tenths of the rate.
FIRST_POLLS_PER_SECOND, MOST_POLLS_PER_SECOND = 10.0, 100.0
LEAST_POLLS_PER_SECOND = 0.5
A_POLL, POLLS_CUT, POLLS_CALM = 0.1, 0.7, 60.0
#: Seconds that a 429 to a poll keeps all polls of the account back, where it does not say, and at most: a rate's state
#: that lies further ahead is taken for a clock that was set back.
POLL_REST, LONGEST_POLL_REST = 1.0, 50.0

#: Answers that take so many times the quickest, and so many seconds more, are a sign of load: nothing grows.
SLOW, SLOW_BY = 2.0, 1.0
#: And when they take so much longer, the limits are cut, once in so many seconds.
FAR_TOO_SLOW, FAR_TOO_SLOW_BY = 4.0, 3.0
SLOW_CUT, SLOW_CUT_EVERY = 0.9, 10.0
#: Weight of the newest answers in the usual time, and the part by which the quickest is forgotten each time.
NEWEST, FORGOTTEN = 0.1, 0.001


class Bound(enum.StrEnum):
    """What kept the last claim from starting more."""

    RATE = "rate"
    IN_FLIGHT = "in_flight"
    WORK = "work"  # there was no more to do, or we were late to ask


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveLimits:
    """What is known of an account's limits. A top is where the last 429 was met; None: there was none yet."""

    rate: float = FIRST_SUBMITS_PER_SECOND  # submits a second
    in_flight: float = FIRST_IN_FLIGHT
    rate_top: float | None = None
    in_flight_top: float | None = None
    cut_at: float | None = None  # Unix seconds
    since_cut: int = 0  # submits accepted since then
    patience: int = FIRST_PATIENCE  # acceptances from that cut until the top is tried again
    quickest: float | None = None  # seconds of an answer to a submit
    usual: float | None = None  # seconds, the newest weighing most

    def slower_than(self, times: float, more: float) -> bool:
        """Whether answers usually take so many times the quickest, and `more` seconds."""
        return self.usual is not None and self.quickest is not None and self.usual > times * self.quickest + more


def accepted(known: AdaptiveLimits, count: int, *, bound: Bound, took: float | None, now: float) -> AdaptiveLimits:
    """After `count` submits were taken, whose answers came after `took` seconds (None: not known)."""
    known = replace(_timed(known, took), since_cut=known.since_cut + count)
    if known.slower_than(FAR_TOO_SLOW, FAR_TOO_SLOW_BY):
        return _slowed(known, now)
    if bound is Bound.WORK or known.slower_than(SLOW, SLOW_BY):
        return known
    return _more_a_second(known, count) if bound is Bound.RATE else _more_in_flight(known, count)


def too_much(
    known: AdaptiveLimits, *, bound: Bound, flying: int, sent_at: float, now: float, rest: float
) -> AdaptiveLimits:
    """After a 429 to a submit that left at `sent_at`, with `flying` others in flight; the account rests so long.

    One that left before the last cut was in the air with what caused it, and tells nothing new. A cut that lies further
    ahead than any rest was said by a clock that has been set back.
    """
    if known.cut_at is not None and sent_at < known.cut_at <= now + LONGEST_REST:
        return known
    cut = _fewer_in_flight(known, flying) if bound is Bound.IN_FLIGHT else _less_a_second(known, now)
    patience = _patience(known, cut, rest)
    # Half of the rest counts as time in which the provider's bucket filled: how deep it is, nobody says.
    return replace(cut, cut_at=now + rest / 2, since_cut=0, patience=patience)


def _patience(known: AdaptiveLimits, cut: AdaptiveLimits, rest: float) -> int:
    tops = ((known.rate_top, cut.rate_top), (known.in_flight_top, cut.in_flight_top))
    same = all(old is not None and new is not None and abs(new - old) <= SAME * old for old, new in tops if old != new)
    seconds = max(USUAL_SECONDS if same else FIRST_SECONDS, rest / RESTING_PART)
    count = min(USUAL_PATIENCE, 2 * known.patience) if same else FIRST_PATIENCE
    return max(count, math.ceil(seconds * cut.rate))


def blamed(known: AdaptiveLimits, bound: Bound, flying: int) -> Bound:
    """Which limit a 429 speaks of, with `flying` others in flight: the one that held us up, since only that one grew.

    But fewer than were let through before do not speak of places; and a probe that is refused although the rate has
    rested speaks of nothing else.
    """
    if known.cut_at is not None and known.since_cut == 0 and flying > 1:
        return Bound.IN_FLIGHT
    fewer = known.in_flight_top is not None and flying + 2 < NEAR * known.in_flight_top
    return Bound.IN_FLIGHT if bound is Bound.IN_FLIGHT and not fewer else Bound.RATE


def more_polls(rate: float, used: int) -> float:
    """The learnt polls a second after all that were allowed were used."""
    return min(MOST_POLLS_PER_SECOND, rate + A_POLL * used)


def fewer_polls(rate: float) -> float:
    """The same after a 429 to one of them."""
    return max(LEAST_POLLS_PER_SECOND, POLLS_CUT * rate)


# -- growing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a limit grows, and how much of its top is used until the next try."""

    steep: float
    used: Callable[[float], float]


_A_SECOND = _Kind(STEEP_RATE, lambda top: KEPT * top)
#: Of few places none stays empty: of three it would be a third. Of many some do, for a rate may be taken for them.
_IN_FLIGHT = _Kind(STEEP_PLACES, lambda top: max(KEPT * top, math.floor(top)) if top < FEW else KEPT * top)


def _more_a_second(known: AdaptiveLimits, count: int) -> AdaptiveLimits:
    rate = min(MOST_SUBMITS_PER_SECOND, _grown(known, known.rate, known.rate_top, count, _A_SECOND))
    return replace(known, rate=rate)


def _more_in_flight(known: AdaptiveLimits, count: int) -> AdaptiveLimits:
    most = min(MOST_IN_FLIGHT, _grown(known, known.in_flight, known.in_flight_top, count, _IN_FLIGHT))
    return replace(known, in_flight=most)


def _grown(known: AdaptiveLimits, limit: float, top: float | None, count: int, kind: _Kind) -> float:
    if top is None:
        return limit + kind.steep * count
    brisk = limit + max(BRISK * limit, kind.steep / 2) * count
    return max(limit, min(brisk, _ceiling(known, top, kind)))


def _ceiling(known: AdaptiveLimits, top: float, kind: _Kind) -> float:
    """How far a limit grows for now: nearly to the top, then somewhat beyond it, then as far as it is let."""
    if known.since_cut < known.patience:
        return kind.used(top)
    return TRIED * top if known.since_cut < known.patience + PROOF * known.rate else math.inf


# -- cutting -------------------------------------------------------------------------------------------------------


def _less_a_second(known: AdaptiveLimits, now: float) -> AdaptiveLimits:
    top = min(known.rate, max(DEEPEST * known.rate, _let_through(known, now)))
    return replace(known, rate_top=top, rate=max(LEAST_SUBMITS_PER_SECOND, KEPT * top))


def _let_through(known: AdaptiveLimits, now: float) -> float:
    """Submits a second that the provider takes, as far as this 429 and the time since the last one tell."""
    if known.rate_top is None or known.cut_at is None or known.since_cut < TELLING:
        return FIRST_GUESS * known.rate
    counted = known.since_cut / max(now - known.cut_at, 1e-3)
    if known.since_cut < known.patience:
        return counted
    # Since then the bucket has run over for a while, so the count tells too little.
    within_try = known.rate <= TRIED * known.rate_top * (1 + 1e-6)
    return max(counted, LIFTED * known.rate_top if within_try else FIRST_GUESS * known.rate)


def _fewer_in_flight(known: AdaptiveLimits, flying: int) -> AdaptiveLimits:
    top = max(DEEPEST * known.in_flight, min(known.in_flight, float(flying)), LEAST_IN_FLIGHT)
    return replace(known, in_flight_top=top, in_flight=max(LEAST_IN_FLIGHT, _IN_FLIGHT.used(top)))


# -- answering times -----------------------------------------------------------------------------------------------


def _timed(known: AdaptiveLimits, took: float | None) -> AdaptiveLimits:
    if took is None:
        return known
    usual = took if known.usual is None else known.usual + NEWEST * (took - known.usual)
    quickest = took if known.quickest is None else min(took, known.quickest * (1 + FORGOTTEN))
    return replace(known, usual=usual, quickest=quickest)


def _slowed(known: AdaptiveLimits, now: float) -> AdaptiveLimits:
    if known.cut_at is not None and -LONGEST_REST <= now - known.cut_at < SLOW_CUT_EVERY:
        return known
    return replace(
        known,
        rate=max(LEAST_SUBMITS_PER_SECOND, SLOW_CUT * known.rate),
        in_flight=max(LEAST_IN_FLIGHT, SLOW_CUT * known.in_flight),
        cut_at=now,
        since_cut=0,
    )
