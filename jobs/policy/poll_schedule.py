"""How long provider tasks take, learnt from those that ended, and when to ask about those that run. Pure.

Durations are kept as weights in bins of equal ratio; each new one lets the older ones fade, so what is known is bounded
and follows a provider that changes. A task nobody told the duration of is known to have ended between two polls: its
weight is spread over that span as the others are.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import orjson

# -- the table of tuned figures; docs/explanation/polling.md shows what they come to ----------------------------------

# How durations are kept.

#: Ratio of the ends of two bins that follow each other: finer than any lateness that is aimed at.
RATIO = 1.02
#: Seconds where the first bin ends.
FIRST_EDGE = 0.1
#: Number of bins: the last ends after a day.
BINS = 692
#: Tasks after which what was known weighs half: some tens, so that a provider that slows is followed within as many.
HALF_LIFE = 32.0
#: How much longer the usual durations are remembered than the recent ones, as a multiple of the half-life.
LONGER = 16.0
#: How far the usual and the recent may be apart before only the recent are believed: the difference between the parts
#: of all tasks that end by some moment, at its largest. Chance alone takes some tens of tasks that far once in a
#: thousand times.
APART = 0.25
#: Part of all weight below which a weight is dropped: it no longer says anything.
NOTHING = 1e-4
#: Part of a span's weight that is spread evenly, so that a bin in which no task has ended yet can be learnt.
EVENLY = 0.3
#: Bins of a span that are told apart at most: what lies below a twentieth of its end is no likelier than the rest.
WIDEST = 150
#: Seconds by which a duration that the provider told may exceed the time until the task was found: the answer to the
#: submit took its way. Beyond that the provider's clock speaks of something else.
MAY_EXCEED = 3.0
#: The same as a part of that time, for long tasks.
MAY_EXCEED_PART = 0.2

# When they are believed.

#: Half-lives of tasks after which what was learnt is believed; before that the catalogue's cadence is kept.
ENOUGH = 0.25
#: Half-lives of tasks for which those that still run are counted in (`with_running`): as many tasks as run at the same
#: time, and more, since those that end first are the quickest of them.
YOUNG = 4.0
#: How much longer than it has run, at most, a task may be that has outlived all that ended; a multiple.
STRETCHED = 1.5
#: Part of the polls after the first that is held back after one half-life of tasks, and less the more is learnt: few
#: tasks promise more than they keep.
DOUBT = 0.12
#: Bins that a weight may be spread over to each side, for what was learnt shows no finer: that one of these is taken
#: which makes each task the likeliest by what all the others took.
SPREADS = (1, 2, 4)

# How a plan is made.

#: Steps of time that a plan has at most: wider distributions are planned more coarsely, so that planning stays cheap.
STEPS = 160
#: Parts of a bin that a plan tells apart where it has few bins: a poll comes at one of their ends.
FINER = 2
#: Part of the mean duration that tasks are found late at best, on average: what more polls save is not worth them.
SOON = 0.04
#: What a poll may cost, in parts of the mean duration: the most and the least that are tried.
COSTS = (2.0, 2e-5)
#: How often that span is halved: to within a hundredth.
HALVINGS = 10
#: Part by which a task's polls may all come earlier or later than planned, so that tasks submitted together do not poll
#: in step. It is one factor for all polls of a task: they keep their distances, so nothing of the plan is lost.
JITTER = 0.03
#: Seconds between two polls of a task at least.
LEAST_WAIT = 0.25

#: Polls a task where no place waits for it, by the setting `polling`. Measured in docs/explanation/polling.md.
FEW = {"prompt": 2.4, "thrifty": 1.55}
#: The same where one request asks about many tasks, and a poll is a twentieth of one.
TOGETHER = 4.0

# When a plan is made anew.

#: How far what is known may move, measured as `APART` is.
MOVED = 0.04
#: How many times as many tasks may be known.
MORE = 1.5

_LOG_RATIO = math.log(RATIO)
#: The golden section: its multiples fill a span evenly, however many there are.
_GOLDEN = (math.sqrt(5) - 1) / 2
#: The same for another choice, which has nothing to do with the first.
_SILVER = math.sqrt(2) - 1


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

    recent: Mapping[int, float] = field(default_factory=dict)  # by bin; they sum up to the number that still counts
    usual: Mapping[int, float] = field(default_factory=dict)  # the same, with a longer memory
    count: int = 0  # tasks ever learnt from
    told: float = 0.0  # part of the recent ones whose duration the provider told
    half_life: float = HALF_LIFE  # tasks after which the recent ones weigh half


def bin_of(seconds: float) -> int:
    """The bin a duration belongs to."""
    if seconds <= FIRST_EDGE:
        return 0
    return min(BINS - 1, math.ceil(math.log(seconds / FIRST_EDGE) / _LOG_RATIO - 1e-9))


def end_of(place: float) -> float:
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
    spans = list(spans)
    stays = 0.5 ** (len(spans) / half_life)
    return Durations(
        recent=_with(known.recent, spans, half_life),
        usual=_with(known.usual, spans, half_life * LONGER),
        count=known.count + len(spans),
        told=known.told * stays + (1 - stays) * told,
        half_life=half_life,
    )


def _with(known: Mapping[int, float], spans: Sequence[Span], half_life: float) -> dict[int, float]:
    weights, keep = dict(known), 0.5 ** (1.0 / half_life)
    scale = 1.0  # a new one weighs 1 / scale: cheaper than to shrink all others each time
    for span in spans:
        scale *= keep
        for place, part in _parts(weights, span):
            weights[place] = weights.get(place, 0.0) + part / scale
    least = sum(weights.values()) * NOTHING
    return {place: each * scale for place, each in weights.items() if each > least}


def _parts(weights: Mapping[int, float], span: Span) -> list[tuple[int, float]]:
    """One task's weight, over the bins it may belong to: mostly as others were, and a part of it evenly."""
    first, last = bin_of(span.low), bin_of(span.high)
    if last - first <= 1:
        return [(last, 1.0)]
    places = range(max(first + 1, last - WIDEST), last + 1)
    inside = sum(weights.get(place, 0.0) for place in places)
    evenly = (EVENLY if inside else 1.0) / len(places)
    return [(place, evenly + (1 - EVENLY) * weights.get(place, 0.0) / (inside or 1.0)) for place in places]


def is_young(known: Durations) -> bool:
    """Whether too few have ended for those that still run to be left out."""
    return known.count < YOUNG * known.half_life


def with_running(known: Durations, ran: Iterable[float]) -> Durations:
    """The same with tasks that were seen running, `ran` seconds after their acceptance: they last longer than that.

    Without them the first that end, the quickest of all, would stand for all. They are counted in for a plan only.
    """
    longest = end_of(max(known.usual, default=0))
    spans = [Span(low=seconds, high=max(longest, STRETCHED * seconds)) for seconds in sorted(ran) if seconds > 0]
    return replace(known, recent=_and_more(known.recent, spans), usual=_and_more(known.usual, spans))


def _and_more(known: Mapping[int, float], spans: Sequence[Span]) -> dict[int, float]:
    weights = dict(known)
    for span in spans:  # from the shortest on, so that what one adds counts for those that ran longer
        for place, part in _parts(weights, span):
            weights[place] = weights.get(place, 0.0) + part
    return weights


# -- on record -----------------------------------------------------------------------------------------------------


def to_text(known: Durations) -> str:
    """As it is kept: a few kilobytes at most."""
    values = {
        "recent": _to_list(known.recent),
        "usual": _to_list(known.usual),
        "count": known.count,
        "told": round(known.told, 4),
        "half_life": known.half_life,
    }
    return orjson.dumps(values).decode()


def _to_list(weights: Mapping[int, float]) -> list[float]:
    """The first bin, and the weights from there on: read and written with every group of images."""
    if not weights:
        return []
    first, last = min(weights), max(weights)
    return [first, *(round(weights.get(place, 0.0), 4) for place in range(first, last + 1))]


def from_text(text: str) -> Durations:
    """The inverse of `to_text`; what cannot be read is forgotten, since it can be learnt anew."""
    try:
        values = orjson.loads(text)
        recent, usual = _from_list(values["recent"]), _from_list(values["usual"])
        count, told, half_life = int(values["count"]), float(values["told"]), float(values["half_life"])
    except (ValueError, LookupError, TypeError, AttributeError):
        return Durations()
    sound = count >= 0 and 0 <= told <= 1 and 1 <= half_life < math.inf
    return Durations(recent=recent, usual=usual, count=count, told=told, half_life=half_life) if sound else Durations()


def _from_list(values: Sequence[float]) -> dict[int, float]:
    if not values:
        return {}
    first, *weights = values
    if not 0 <= first <= first + len(weights) <= BINS or min(weights, default=0.0) < 0:
        raise ValueError(values)
    return {place: weight for place, weight in enumerate(weights, start=int(first)) if weight}


def believed(known: Durations) -> Mapping[int, float]:
    """The weights to plan by: the usual ones, unless the recent tasks speak against them."""
    return known.recent if _distance(known.recent, known.usual) > APART else known.usual


def mean(known: Durations) -> float:
    """The mean duration in seconds; 0.0 where nothing is known."""
    weights = believed(known)
    return sum(end_of(place) * weight for place, weight in weights.items()) / (sum(weights.values()) or 1.0)


def _distance(some: Mapping[int, float], others: Mapping[int, float]) -> float:
    """The greatest difference between the parts that lie below any duration."""
    totals = sum(some.values()) or 1.0, sum(others.values()) or 1.0
    apart = most = 0.0
    for place in sorted({*some, *others}):
        apart += some.get(place, 0.0) / totals[0] - others.get(place, 0.0) / totals[1]
        most = max(most, abs(apart))
    return most


# -- the plan ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """When to ask: for each age at which a task is known to run, the age of its next poll.

    A part of the tasks goes by `others`: between two schedules that are next to each other there is no third, and only
    both together come to just the polls that may be spent.
    """

    edges: tuple[float, ...]  # seconds after acceptance, growing
    nexts: tuple[int, ...]  # of each edge but the last, the edge of the next poll
    others: tuple[int, ...] = ()
    part: float = 0.0  # of the tasks that goes by `others`
    polls: float  # expected, a task
    late: float  # expected seconds from a task's end to the poll that finds it, on average
    most: float  # polls a task that it was made for
    weights: Mapping[int, float]  # what it was made for
    count: int

    def after(self, age: float, number: int = 0) -> float | None:
        """The age of the next poll of a task that runs at `age`; None where it has outlived all that is known."""
        place = max(0, bisect.bisect_right(self.edges, age * math.sqrt(RATIO)) - 1)
        nexts = self.others if number * _SILVER % 1 < self.part else self.nexts
        return self.edges[nexts[place]] if place < len(nexts) else None

    def fits(self, known: Durations, most: float) -> bool:
        """Whether it is still the plan to make, or so near it that making it anew is not worth the while."""
        is_known = known.count < self.count * MORE and _distance(believed(known), self.weights) <= MOVED
        return is_known and abs(most - self.most) <= MOVED * self.most


def factor_of(number: int) -> float:
    """By how much a task's polls are shifted: evenly spread over consecutive numbers."""
    return 1 + JITTER * (2 * (number * _GOLDEN % 1) - 1)


def plan(known: Durations, most: float) -> Plan | None:
    """The poll times that find tasks soonest, by at most that many polls a task; None while too little is known.

    Each finished task that was not found yet holds a place at its provider, so it is the mean of that time which is
    made least. For whatever a poll costs in such seconds, dynamic programming finds the times at which both together
    cost least; the cost is the one that comes to `most` polls, or to tasks found `SOON`, where that takes fewer.
    """
    if known.count < ENOUGH * known.half_life or not known.recent:
        return None
    chances = _Chances.of(known)
    polls = 1 + (most - 1) * (1 - DOUBT * known.half_life / known.count)
    dear, cheap = (chances.mean * each for each in COSTS)
    few, many = chances.plan(dear, most), chances.plan(cheap, most)
    for _ in range(HALVINGS):
        cost = math.sqrt(dear * cheap)
        found = chances.plan(cost, most)
        is_enough = found.polls > polls or found.late < SOON * chances.mean
        dear, cheap = (dear, cost) if is_enough else (cost, cheap)
        few, many = (few, found) if is_enough else (found, many)
    return _mixed(few, many, polls)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chances:
    """The distribution on a grid: `below` and `sums` are running totals of chance, and of chance times duration."""

    edges: list[float]
    below: list[float]
    sums: list[float]
    known: Durations

    @classmethod
    def of(cls, known: Durations) -> _Chances:
        """Smoothed a little, and no finer than a plan can be."""
        weights = believed(known)
        spread = {width: _spread(weights, width) for width in SPREADS}
        smooth = spread[max(SPREADS, key=lambda width: _likelihood(weights, spread[width], width))]
        first, last, total = min(smooth), max(smooth), sum(smooth.values())
        reached = [0.0, *accumulate(smooth.get(place, 0.0) / total for place in range(first, last + 1))]
        steps = min(STEPS, (last - first + 1) * FINER)
        edges, below, sums = [end_of(first - 1) if first else 0.0], [0.0], [0.0]
        for number in range(1, steps + 1):
            whole, part = divmod(number * (last - first + 1) / steps, 1)
            place = int(whole)
            after = reached[min(place + 1, last - first + 1)]
            below.append(reached[place] + part * (after - reached[place]))
            edges.append(end_of(first - 1 + whole + part))
            sums.append(sums[-1] + (below[-1] - below[-2]) * (edges[-1] + edges[-2]) / 2)
        return cls(edges=edges, below=below, sums=sums, known=known)

    @property
    def mean(self) -> float:
        """The mean duration in seconds."""
        return self.sums[-1]

    def plan(self, cost: float, most: float) -> Plan:
        """The plan where a poll costs that many seconds: from the last edge back, a poll, places held, what follows."""
        edges, below, sums = self.edges, self.below, self.sums
        last = len(edges) - 1
        costs, nexts = [0.0] * (last + 1), [last] * last
        polls, late = [0.0] * (last + 1), [0.0] * (last + 1)
        for here in range(last - 1, -1, -1):
            ended, spent = below[here], sums[here]
            best, chosen, held = math.inf, last, 0.0
            for then in range(here + 1, last + 1):
                waits = edges[then] * (below[then] - ended) - sums[then] + spent
                if waits >= best:
                    break  # a later poll comes later for all, and what follows it never costs less than nothing
                if waits + costs[then] < best:
                    best, chosen, held = waits + costs[then], then, waits
            nexts[here] = chosen
            costs[here] = best + cost * (1.0 - ended)
            polls[here] = 1.0 - ended + polls[chosen]
            late[here] = held + late[chosen]
        return Plan(
            edges=tuple(edges),
            nexts=tuple(nexts),
            polls=polls[0],
            late=late[0],
            most=most,
            weights=believed(self.known),
            count=self.known.count,
        )


def _mixed(few: Plan, many: Plan, polls: float) -> Plan:
    """Some tasks by the one plan and some by the other, so that both come to just these polls."""
    gap = many.polls - few.polls
    part = min(1.0, max(0.0, (polls - few.polls) / gap)) if gap > 0 else 0.0
    return replace(
        few,
        others=many.nexts,
        part=part,
        polls=few.polls + part * gap,
        late=few.late + part * (many.late - few.late),
    )


def _likelihood(weights: Mapping[int, float], smooth: Mapping[int, float], width: int) -> float:
    """How likely each task is by all the others, as a logarithm."""
    others = ((each, smooth[place] - min(1.0, each) / (width + 1)) for place, each in weights.items())
    return sum(each * math.log(max(rest, NOTHING)) for each, rest in others)


def _spread(weights: Mapping[int, float], width: int) -> dict[int, float]:
    kernel = {step: (width + 1 - abs(step)) / (width + 1) ** 2 for step in range(-width, width + 1)}
    smooth: dict[int, float] = {}
    for place, each in weights.items():
        for step, part in kernel.items():
            where = min(BINS - 1, max(0, place + step))
            smooth[where] = smooth.get(where, 0.0) + each * part
    return smooth
