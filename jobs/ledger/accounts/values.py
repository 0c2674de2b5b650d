"""Accounts: what the settings declare of them, how they stand, and what a day may cost."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.policy import retry
from jobs.policy.adaptive_limits import Bound
from providers.codes import ACCOUNT_CODES


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountLimits:
    """What the settings declare of an account; unset means that it is learnt."""

    name: str
    provider: str
    submits_per_second: float | None = None
    polls_per_second: float | None = None
    max_in_flight: int | None = None
    daily_budget: int | None = None  # a UTC day
    key_mark: str | None = None  # tells one API key from another


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranded:
    """An account that paid work still needs, and the settings no longer have."""

    account: str
    provider: str  # where that work is
    tasks: int
    money: int
    now_at: str | None  # the provider the settings give that name to; None: to none


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodLimit:
    """The budget of a UTC day or month, and what that has cost so far."""

    budget: int
    spent: int  # reserved and charged, by the moment of the intent
    again_at: float  # when the next day or month begins

    @property
    def left(self) -> int:
        """What may still be spent in it."""
        return max(0, self.budget - self.spent)

    def allows(self, price: int | None) -> bool:
        """Whether an image of this price may be bought; what has no price fits no budget."""
        return price is not None and price <= self.left


@dataclass(frozen=True, slots=True, kw_only=True)
class DayLimit(PeriodLimit):
    """A daily budget."""

    account: str | None  # None: that of all accounts together


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account as it stands, for `lightfast accounts` and for the lanes."""

    name: str
    provider: str
    submits_per_second: float
    polls_per_second: float
    max_in_flight: int
    in_flight: int
    paused_until: float | None  # infinity: until a person or a probe helps
    paused_code: str | None
    paused_message: str | None
    throttled: int  # answers of 429 so far
    polls_made: int = 0  # requests that asked about provider tasks; a batch request is one
    tasks_found: int = 0  # provider tasks that were found done
    lateness_sum: float = 0.0  # seconds in all from their ends to our finding them
    troubled_since: float | None = None  # None: its last submit was taken

    def cooldown_until(self, now: float) -> float | None:
        """When it sends again by itself (infinity: when a person helps); None: it does now."""
        return retry.cooldown_until(self.paused_until, now)

    @property
    def needs_a_person(self) -> bool:
        """Whether its last submit was refused for its key, its balance or its rights, and none was accepted since."""
        return self.paused_code in ACCOUNT_CODES

    @property
    def polls_per_task(self) -> float | None:
        """Requests a provider task took until it was found done; None before any was."""
        return self.polls_made / self.tasks_found if self.tasks_found else None

    @property
    def mean_lateness(self) -> float | None:
        """Seconds from a task's end to our finding it, on average; None before any was."""
        return self.lateness_sum / self.tasks_found if self.tasks_found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountMinute:
    """How an account stood at the end of a minute in which something of it changed."""

    at: float  # when the minute began
    attempts_made: int  # submits in all until then
    throttled: int  # answers of 429 in all until then
    in_flight: int
    submits_per_second: float  # that were allowed: declared, or learnt by then
    max_in_flight: int  # the same


@dataclass(frozen=True, slots=True, kw_only=True)
class LearntLimits:
    """What was learnt of an account, whatever is declared now."""

    provider: str
    submits_per_second: float
    max_in_flight: float
    rate_is_met: bool  # a 429 has shown where it ends
    in_flight_is_met: bool
    lateness: float  # seconds from a task's end to our finding it, on average


@dataclass(frozen=True, slots=True, kw_only=True)
class PollRoom:
    """What an account's polls may take, and what they are worth."""

    per_second: float  # requests, declared or learnt so far
    is_learnt: bool  # more may turn out to be allowed
    in_flight: int  # provider tasks that run
    is_full: bool  # the last claim of submits could take no more, since every place was taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How far an account uses what it may."""

    sent: int  # submits in the last minute
    waiting: int  # rows that could be sent to its provider
    bound_by: Bound  # what kept the last claim from starting more
    rate_top: float | None  # submits a second at which the last 429 was met; None: none yet, or declared
    in_flight_top: float | None  # the same of provider tasks at once
    called_back_at: float | None  # when a callback last told the truth, give or take a minute
