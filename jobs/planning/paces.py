"""How fast a plan's images would come: by the limits that are declared, else by what the ledger has learnt. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from jobs.ledger.accounts.values import AccountLimits, LearntLimits
from jobs.ledger.reports.values import LearntFigures
from jobs.policy.adaptive_limits import FIRST_IN_FLIGHT, FIRST_SUBMITS_PER_SECOND
from jobs.policy.poll_schedule import mean
from providers.types import Route

#: Tasks of a kind that must have ended for their durations to be believed more than the catalogue's.
ENOUGH = 3


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of all accounts of a provider together."""

    value: float = 0.0
    source: str = ""  # "" where all declare it, else "learnt" or "to begin with"
    grows: bool = False  # no account has met its end: more may be allowed

    def __add__(self, other: Limit) -> Limit:
        source = max(self.source, other.source, key=("", "learnt", "to begin with").index)
        return Limit(self.value + other.value, source, self.grows or other.grows)

    def __str__(self) -> str:
        return f"{round(self.value, 2):g}{self.source and f', {self.source}'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What all accounts of one provider allow together."""

    submits_per_second: Limit = Limit()
    in_flight: Limit = Limit()
    lateness: float = 0.0  # seconds from a task's end to our finding it, on average: its place is taken until then

    def seconds(self, tasks: int, work: float) -> float:
        """For this many tasks that take `work` seconds all together."""
        busy = work + tasks * self.lateness
        by_rate, by_places = tasks / self.submits_per_second.value, busy / self.in_flight.value
        return max(by_rate, by_places, busy / max(tasks, 1))

    def bound_by(self, tasks: int, work: float) -> str:
        """The limit that decides: "max_in_flight 83, learnt"."""
        return f"{'submits_per_second' if self._by_rate(tasks, work) else 'max_in_flight'} {self._decides(tasks, work)}"

    def may_be_less(self, tasks: int, work: float) -> bool:
        """Whether the limit that decides still grows, so that the time is the longest it may be."""
        return tasks > self.in_flight.value and self._decides(tasks, work).grows

    def _decides(self, tasks: int, work: float) -> Limit:
        return self.submits_per_second if self._by_rate(tasks, work) else self.in_flight

    def _by_rate(self, tasks: int, work: float) -> bool:
        return tasks / self.submits_per_second.value > (work + tasks * self.lateness) / self.in_flight.value


@dataclass(slots=True, kw_only=True)
class Paces:
    """The pace of each provider, and how long its tasks take."""

    declared: Iterable[AccountLimits]
    learnt: LearntFigures = field(default_factory=LearntFigures)
    _by_provider: dict[str, Pace] = field(init=False)

    def __post_init__(self) -> None:
        self._by_provider = {}
        for account in self.declared:
            before = self._by_provider.get(account.provider, Pace())
            known = self.learnt.limits.get(account.name)
            self._by_provider[account.provider] = _with(before, account, known if _is_its(known, account) else None)

    def of(self, provider: str) -> Pace:
        """A provider's pace; without an account, that of one whose limits are not declared."""
        nobody = AccountLimits(name="", provider=provider)
        return self._by_provider.get(provider) or _with(Pace(), nobody, None)

    def task_seconds(self, route: Route) -> float:
        """How long one of the route's tasks takes: as they took lately, else as the catalogue says."""
        learnt = self.learnt_seconds(route)
        return route.typical_seconds if learnt is None else learnt

    def learnt_seconds(self, route: Route) -> float | None:
        """How long the route's tasks took lately; None: too few have ended to tell."""
        names = {name for name, known in self.learnt.limits.items() if known.provider == route.provider}
        kinds = [
            known
            for kind, known in self.learnt.durations.items()
            if kind.account in names
            and (kind.provider_model, kind.resolution) == (route.provider_model, route.resolution or "")
        ]
        count = sum(known.count for known in kinds)
        if count < ENOUGH:
            return None
        return sum(mean(known) * known.count for known in kinds) / count


def _is_its(known: LearntLimits | None, account: AccountLimits) -> bool:
    """Whether it was learnt of this account: its name may have been another provider's."""
    return known is not None and known.provider == account.provider


def _with(pace: Pace, account: AccountLimits, known: LearntLimits | None) -> Pace:
    """The pace with one more account."""
    if known is None:
        rate = _limit(account.submits_per_second, FIRST_SUBMITS_PER_SECOND, FIRST_SUBMITS_PER_SECOND, is_met=False)
        places = _limit(account.max_in_flight, FIRST_IN_FLIGHT, FIRST_IN_FLIGHT, is_met=False)
        return replace(pace, submits_per_second=pace.submits_per_second + rate, in_flight=pace.in_flight + places)
    rate = _limit(
        account.submits_per_second, known.submits_per_second, FIRST_SUBMITS_PER_SECOND, is_met=known.rate_is_met
    )
    places = _limit(account.max_in_flight, known.max_in_flight, FIRST_IN_FLIGHT, is_met=known.in_flight_is_met)
    return Pace(
        submits_per_second=pace.submits_per_second + rate,
        in_flight=pace.in_flight + places,
        lateness=max(pace.lateness, known.lateness),
    )


def _limit(declared: float | None, learnt: float, first: float, *, is_met: bool) -> Limit:
    if declared is not None:
        return Limit(declared)
    source = "to begin with" if learnt == first and not is_met else "learnt"
    return Limit(learnt, source, grows=not is_met)
