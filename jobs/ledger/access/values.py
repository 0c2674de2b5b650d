"""Tokens, what they hold of their daily budgets, and what was done with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.policy.access import Role

#: The id of whoever acts without a token: at this machine, while there is none. No token on record has it.
NO_TOKEN = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token that is to be put on record."""

    name: str
    role: Role
    prefix: str
    digest: str
    daily_budget: int | None = None  # micro-dollars that its batches of one UTC day may hold; a producer has one
    writes_to: str | None = None  # the destination below which a producer's batches lie
    reads: tuple[str, ...] = ()  # prefixes of objects that its manifests and references may name


#: Seconds within which a token's use is not noted again.
NOTED_EVERY = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token on record; the secret itself is not kept."""

    id: int
    name: str
    role: Role
    prefix: str
    digest: str
    daily_budget: int | None
    writes_to: str | None
    reads: tuple[str, ...]
    created_at: float
    used_at: float | None  # give or take a minute
    revoked_at: float | None

    def is_use_noted(self, now: float) -> bool:
        """Whether nothing has to be written for a use of it now."""
        return self.used_at is not None and self.used_at >= now - NOTED_EVERY


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """By whose token a batch is accepted, and what it holds of that token's day."""

    token_id: int
    amount: int | None  # micro-dollars; None: nothing is held, as for an operator
    request_id: int | None = None  # of the batch of OpenAI's API that it makes


class OverDailyBudget(Exception):
    """The day's budget of a token leaves less than a batch asks for. Nothing was recorded."""

    def __init__(self, asked: int, left: int) -> None:
        super().__init__(f"{asked} micro-dollars asked, {left} left")
        self.asked, self.left = asked, left


class RevokedError(Exception):
    """The token was revoked before the batch was on record. Nothing was recorded."""


class NotItsOwnError(Exception):
    """The batch belongs to somebody else. Nothing was recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLogEntry:
    """What somebody did."""

    who: str  # the token's name; USER@HOST for a person at a terminal
    action: str  # "token create", "batch cancel", …
    token_id: int | None = None
    subject: str | None = None  # the batch, the token, … it was done to
    detail: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """What somebody did, on record."""

    id: int
    at: float
    who: str
    action: str
    subject: str | None
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """What a request that may come again was answered."""

    fingerprint: str  # of the request
    status: int
    body: str  # JSON
