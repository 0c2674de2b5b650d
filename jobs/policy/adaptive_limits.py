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

from jobs.policy.retry import LONGEST_COOLDOWN

# -- the table of tuned figures; benchmarks/limits.py measures what they come to ------------------------------------

# Where limits begin and end.

#: Submits a second at first: as careful as providers.md asks, and quick to grow.
FIRST_SUBMITS_PER_SECOND = 1.0
#: Tasks at once at first: providers.md asks for 2 to 4.
FIRST_IN_FLIGHT = 4.0
#: Submits a second at least: one row in ten seconds still makes headway, and finds out when more is allowed again.
LEAST_SUBMITS_PER_SECOND = 0.1
#: Tasks at once at least: with none nothing could be learnt.
LEAST_IN_FLIGHT = 1.0
#: Submits a second at most: a provider that refuses nothing may only queue what it cannot do. Who may do more says so.
MOST_SUBMITS_PER_SECOND = 100.0
#: Tasks at once at most, for the same reason.
MOST_IN_FLIGHT = 500.0

# How they grow.

#: Submits a second that each acceptance adds while no top is known: 1/s becomes 12/s in 14 seconds.
RATE_STEP = 0.2
#: Tasks at once that each acceptance adds while no top is known: it shows by itself that there is one more place.
PLACES_STEP = 1.0
#: Part of itself by which a limit grows with each acceptance far below its top, or where the top has proven too low; at
#: least half a step, or small limits would never grow.
GROWTH = 0.005
#: Part of the known top from which a number of submits in flight counts as near it.
NEAR_TOP = 0.95
#: Part of the top that is used from a cut until the next try: what is left fills the provider's bucket, so that a few
#: submits that leave late and together find room in it.
USED_PART = 0.97
#: Tasks at once below which all of the top is used: of three places one that stays empty would be a third.
FEW_PLACES = 6.0
#: How far beyond the top a try goes, as a multiple of it: far enough that a higher limit shows, near enough that few
#: submits are refused.
TRY_BEYOND = 1.12
#: Seconds' worth of acceptances beyond the top that prove it too low: a bucket that holds a second of the rate is empty
#: long before.
PROOF_SECONDS = 10.0

# How long a top is believed before more is tried.

#: Acceptances until the next try after a first cut: few, for a first 429 may be bad luck.
FIRST_PATIENCE = 20
#: Acceptances until the next try at most. It is doubled each time the top turns out the same.
MOST_PATIENCE = 240
#: Seconds' worth of acceptances until the next try at least, after a first cut.
FIRST_PATIENCE_SECONDS = 15.0
#: The same where the top turned out the same as before: it is known, and each try costs a 429.
USUAL_PATIENCE_SECONDS = 30.0
#: Part of the time that the cooldowns after tries may take: tries are as far apart as that asks for.
COOLDOWN_PART = 0.03
#: Part by which two tops may differ and count as the same.
SAME_TOP = 0.15

# How they are cut.

#: What a try makes of a top that it finds again, as a multiple: one that was taken for too low would else never be
#: found out.
LIFTED = 1.01
#: Part of a limit that is taken for the top where nothing else tells: growth was steep, or the last cut a moment ago.
FIRST_GUESS = 0.8
#: Part of a limit that a cut leaves at least: one odd 429 must not stop an account.
DEEPEST_CUT = 0.5
#: Submits accepted between two cuts that tell the true rate, for the provider's bucket was empty at both ends. Fewer
#: are chance.
TELLING = 10

# Polls: they cost nothing, so they begin fast and are cut deep.

#: Polls a second at first, at most, and at least.
FIRST_POLLS_PER_SECOND = 10.0
MOST_POLLS_PER_SECOND = 100.0
LEAST_POLLS_PER_SECOND = 0.5
#: Polls a second that each poll adds which was wanted and answered.
POLLS_STEP = 0.1
#: Part of the rate that a 429 to a poll leaves.
POLLS_CUT = 0.9
#: Seconds after such a 429 in which the rate does not grow.
POLLS_CALM = 60.0
#: Seconds for which a 429 to a poll holds up all polls of the account, where it does not say for how long.
POLL_COOLDOWN = 1.0
#: The same at most: a state of the rate that lies further ahead is taken for a clock that was set back.
LONGEST_POLL_COOLDOWN = 50.0

# Answers that become slow are a sign of load, before any 429.

#: Answers that take this many times the quickest, and this many seconds more, let nothing grow.
SLOW = 2.0
SLOW_BY = 1.0
#: Answers that take this many times the quickest, and this many seconds more, cut the limits.
FAR_TOO_SLOW = 4.0
FAR_TOO_SLOW_BY = 3.0
#: Part of a limit that such a cut leaves, and seconds between two of them: what it does shows only in later answers.
SLOW_CUT = 0.9
SLOW_CUT_EVERY = 10.0
#: Weight of the newest answers in the usual time: some ten answers are remembered.
NEWEST = 0.1
#: Part by which the quickest time grows with each answer, so that one lucky answer is forgotten.
QUICKEST_FORGOTTEN = 0.001


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
        """Whether answers usually take more than `times` the quickest and `more` seconds."""
        return self.usual is not None and self.quickest is not None and self.usual > times * self.quickest + more


def accepted(known: AdaptiveLimits, count: int, *, bound: Bound, took: float | None, now: float) -> AdaptiveLimits:
    """After `count` submits were taken, whose answers came after `took` seconds (None: not known)."""
    known = replace(_timed(known, took), since_cut=known.since_cut + count)
    if known.slower_than(FAR_TOO_SLOW, FAR_TOO_SLOW_BY):
        return _slowed(known, now)
    if bound is Bound.WORK or known.slower_than(SLOW, SLOW_BY):
        return known
    if bound is Bound.RATE:
        grown = _grown(known, known.rate, known.rate_top, count, _A_SECOND)
        return replace(known, rate=min(MOST_SUBMITS_PER_SECOND, grown))
    grown = _grown(known, known.in_flight, known.in_flight_top, count, _IN_FLIGHT)
    return replace(known, in_flight=min(MOST_IN_FLIGHT, grown))


def too_much(
    known: AdaptiveLimits, *, bound: Bound, flying: int, sent_at: float, now: float, cooldown: float
) -> AdaptiveLimits:
    """After a 429 to a submit that left at `sent_at`, with `flying` others in flight.

    `cooldown`: seconds for which the account sends nothing now.

    One that left before the last cut was on its way together with what caused it, and tells nothing new. A cut that
    lies further ahead than any cooldown was said by a clock that has been set back.
    """
    if known.cut_at is not None and sent_at < known.cut_at <= now + LONGEST_COOLDOWN:
        return known
    cut = _fewer_in_flight(known, flying) if bound is Bound.IN_FLIGHT else _less_a_second(known, now)
    patience = _patience(known, cut, cooldown)
    # Half of the cooldown counts as time in which the provider's bucket filled: how deep it is, nobody says.
    return replace(cut, cut_at=now + cooldown / 2, since_cut=0, patience=patience)


def _patience(known: AdaptiveLimits, cut: AdaptiveLimits, cooldown: float) -> int:
    tops = ((known.rate_top, cut.rate_top), (known.in_flight_top, cut.in_flight_top))
    same = all(
        old is not None and new is not None and abs(new - old) <= SAME_TOP * old for old, new in tops if old != new
    )
    seconds = max(USUAL_PATIENCE_SECONDS if same else FIRST_PATIENCE_SECONDS, cooldown / COOLDOWN_PART)
    count = min(MOST_PATIENCE, 2 * known.patience) if same else FIRST_PATIENCE
    return max(count, math.ceil(seconds * cut.rate))


def blamed(known: AdaptiveLimits, bound: Bound, flying: int) -> Bound:
    """Which limit a 429 speaks of, with `flying` others in flight: the one that held us up, since only that one grew.

    But fewer than were let through before do not speak of places; and a probe that is refused although the rate has
    cooled down speaks of nothing else.
    """
    if known.cut_at is not None and known.since_cut == 0 and flying > 1:
        return Bound.IN_FLIGHT
    fewer = known.in_flight_top is not None and flying + 2 < NEAR_TOP * known.in_flight_top
    return Bound.IN_FLIGHT if bound is Bound.IN_FLIGHT and not fewer else Bound.RATE


def more_polls(rate: float, used: int) -> float:
    """The learnt polls a second after all that were allowed were used."""
    return min(MOST_POLLS_PER_SECOND, rate + POLLS_STEP * used)


def fewer_polls(rate: float) -> float:
    """The same after a 429 to one of them."""
    return max(LEAST_POLLS_PER_SECOND, POLLS_CUT * rate)


# -- growing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a limit grows, and how much of its top is used until the next try."""

    steep: float
    used: Callable[[float], float]


_A_SECOND = _Kind(RATE_STEP, lambda top: USED_PART * top)
#: Of few places none stays empty: of three it would be a third. Of many some do, for a rate may be taken for them.
_IN_FLIGHT = _Kind(
    PLACES_STEP, lambda top: max(USED_PART * top, math.floor(top)) if top < FEW_PLACES else USED_PART * top
)


def _grown(known: AdaptiveLimits, limit: float, top: float | None, count: int, kind: _Kind) -> float:
    if top is None:
        return limit + kind.steep * count
    brisk = limit + max(GROWTH * limit, kind.steep / 2) * count
    return max(limit, min(brisk, _ceiling(known, top, kind)))


def _ceiling(known: AdaptiveLimits, top: float, kind: _Kind) -> float:
    """How far a limit grows for now: nearly to the top, then somewhat beyond it, then as far as it is let."""
    if known.since_cut < known.patience:
        return kind.used(top)
    return TRY_BEYOND * top if known.since_cut < known.patience + PROOF_SECONDS * known.rate else math.inf


# -- cutting -------------------------------------------------------------------------------------------------------


def _less_a_second(known: AdaptiveLimits, now: float) -> AdaptiveLimits:
    top = min(known.rate, max(DEEPEST_CUT * known.rate, _let_through(known, now)))
    return replace(known, rate_top=top, rate=max(LEAST_SUBMITS_PER_SECOND, USED_PART * top))


def _let_through(known: AdaptiveLimits, now: float) -> float:
    """Submits a second that the provider takes, as far as this 429 and the time since the last one tell."""
    if known.rate_top is None or known.cut_at is None or known.since_cut < TELLING:
        return FIRST_GUESS * known.rate
    counted = known.since_cut / max(now - known.cut_at, 1e-3)
    if known.since_cut < known.patience:
        return counted
    # Since then the bucket has run over for a while, so the count tells too little.
    within_try = known.rate <= TRY_BEYOND * known.rate_top * (1 + 1e-6)
    return max(counted, LIFTED * known.rate_top if within_try else FIRST_GUESS * known.rate)


def _fewer_in_flight(known: AdaptiveLimits, flying: int) -> AdaptiveLimits:
    top = max(DEEPEST_CUT * known.in_flight, min(known.in_flight, float(flying)), LEAST_IN_FLIGHT)
    return replace(known, in_flight_top=top, in_flight=max(LEAST_IN_FLIGHT, _IN_FLIGHT.used(top)))


# -- answering times -----------------------------------------------------------------------------------------------


def _timed(known: AdaptiveLimits, took: float | None) -> AdaptiveLimits:
    if took is None:
        return known
    usual = took if known.usual is None else known.usual + NEWEST * (took - known.usual)
    quickest = took if known.quickest is None else min(took, known.quickest * (1 + QUICKEST_FORGOTTEN))
    return replace(known, usual=usual, quickest=quickest)


def _slowed(known: AdaptiveLimits, now: float) -> AdaptiveLimits:
    if known.cut_at is not None and -LONGEST_COOLDOWN <= now - known.cut_at < SLOW_CUT_EVERY:
        return known
    return replace(
        known,
        rate=max(LEAST_SUBMITS_PER_SECOND, SLOW_CUT * known.rate),
        in_flight=max(LEAST_IN_FLIGHT, SLOW_CUT * known.in_flight),
        cut_at=now,
        since_cut=0,
    )
