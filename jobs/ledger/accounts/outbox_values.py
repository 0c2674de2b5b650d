"""Messages to people and programs, on their way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """One message, and what each channel gets of it. Channels are names; no address and no secret is on record."""

    type: str  # "batch.finished"
    payloads: Mapping[str, str]  # by channel


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message for one channel, taken to be sent."""

    id: int
    webhook_id: str  # the same at each try, and for each channel
    channel: str
    type: str
    payload: str
    tries: int  # this one included
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Untold:
    """What one channel has not been told."""

    channel: str
    waiting: int  # that have failed, and are tried again; or that nobody has tried for an hour
    given_up: int
    problem: str | None  # the last one
    works_again: bool  # something was sent since the last of them was given up
    since: float  # when the oldest of them was written
