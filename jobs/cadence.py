"""How long provider tasks take, learnt from those that ended, and when to ask about those that run. Pure.

Durations are kept as weights in bins of equal ratio; each new one lets the older ones fade, so what is known is bounded
and follows a provider that changes. A task nobody told the duration of is known to have ended between two polls: its
weight is spread over that span as the others are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

#: Each bin ends three hundredths later than the one before: finer than any lateness that is aimed at.
RATIO = 1.03
#: Seconds where the first bin ends, and the number of bins: the last ends after a day.
FIRST_EDGE = 0.1
BINS = 463
#: Tasks after which what was known weighs half: some tens, so that a provider that slows is followed within as many.
HALF_LIFE = 32.0
#: Weights below this part of all are dropped: they no longer say anything.
NOTHING = 1e-4
#: Part of a span's weight that is spread evenly, so that a bin nobody has seen yet can be learnt.
EVENLY = 0.1
#: Seconds, and part of the time until it was found, by which a told duration may exceed that time: the answer to the
#: submit took its way. Beyond it the provider's clock speaks of something else.
MAY_EXCEED = 3.0
MAY_EXCEED_PART = 0.2

_LOG_RATIO = math.log(RATIO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What is known of one task's duration: seconds from its acceptance, at least and at most."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """The duration as one number."""
        return (self.low + self.high) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """What is known of the durations of one kind of task."""

    weights: Mapping[int, float] = field(default_factory=dict)  # by bin; they sum up to the number that still counts
    count: int = 0  # tasks ever learnt from
    told: float = 0.0  # part of the recent ones whose duration the provider told


def bin_of(seconds: float) -> int:
    """The bin a duration belongs to."""
    if seconds <= FIRST_EDGE:
        return 0
    return min(BINS - 1, math.ceil(math.log(seconds / FIRST_EDGE) / _LOG_RATIO - 1e-9))


def end_of(place: int) -> float:
    """Seconds where a bin ends."""
    return float(FIRST_EDGE * RATIO**place)


# -- learning ------------------------------------------------------------------------------------------------------


def observed(*, ran: float, found: float, told: tuple[float, float] | None) -> Span:
    """A task that still ran `ran` seconds after its acceptance and was found done `found` seconds after it.

    `told`: what its provider says that it took. It counts as far as it agrees with what was seen.
    """
    found = max(found, 0.0)
    ran = min(max(ran, 0.0), found)
    if told is None or not 0 <= told[0] <= told[1] <= found + max(MAY_EXCEED, found * MAY_EXCEED_PART) + 1.0:
        return Span(low=ran, high=found)
    return Span(low=min(max(told[0], ran), found), high=min(max(told[1], ran), found))


def learn(known: Durations, spans: Iterable[Span], *, half_life: float = HALF_LIFE, told: bool = False) -> Durations:
    """What is known after these tasks too; `told`: their provider tells how long they took."""
    keep = 0.5 ** (1.0 / half_life)
    weights, count, share = dict(known.weights), known.count, known.told
    scale = 1.0  # a new one weighs 1 / scale: cheaper than to shrink all others each time
    for span in spans:
        scale *= keep
        for place, part in _parts(weights, span):
            weights[place] = weights.get(place, 0.0) + part / scale
        count += 1
        share = share * keep + (1 - keep) * told
    total = sum(weights.values())
    return Durations(
        weights={place: each * scale for place, each in sorted(weights.items()) if each > total * NOTHING},
        count=count,
        told=share,
    )


def _parts(weights: Mapping[int, float], span: Span) -> list[tuple[int, float]]:
    """One task's weight, over the bins it may belong to: mostly as others were, and a part of it evenly."""
    first, last = bin_of(span.low), bin_of(span.high)
    if last - first <= 1:
        return [(last, 1.0)]
    places = range(max(first + 1, last - 80), last + 1)
    inside = sum(weights.get(place, 0.0) for place in places)
    evenly = (EVENLY if inside else 1.0) / len(places)
    return [(place, evenly + (1 - EVENLY) * weights.get(place, 0.0) / (inside or 1.0)) for place in places]


# -- on record -----------------------------------------------------------------------------------------------------


def to_text(known: Durations) -> str:
    """As it is kept: a few hundred bytes, some thousand at most."""
    weights = {str(place): round(each, 4) for place, each in known.weights.items()}
    return json.dumps({"weights": weights, "count": known.count, "told": round(known.told, 4)}, separators=(",", ":"))


def from_text(text: str) -> Durations:
    """The inverse of `to_text`; what cannot be read is forgotten, since it can be learnt anew."""
    try:
        values = json.loads(text)
        weights = {int(place): float(each) for place, each in values["weights"].items()}
        count, told = int(values["count"]), float(values["told"])
    except (ValueError, LookupError, TypeError, AttributeError):
        return Durations()
    sound = all(0 <= place < BINS and 0 < each < math.inf for place, each in weights.items())
    return Durations(weights=weights, count=count, told=told) if sound and 0 <= told <= 1 else Durations()
