"""A condition that the log tells of, and how it changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Something that holds for a while, and that people are told of when it begins, changes or ends."""

    name: str  # its kind: "account", "batch"
    subject: str  # what it is about; "" where there is only one
    state: str  # a change of it is told
    since: float = 0.0  # when it was told first
    detail: Mapping[str, Any] = field(default_factory=dict)  # plain JSON values, for what is told of it


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionChange:
    """What was told, and what holds now. None: nothing."""

    before: Condition | None
    after: Condition | None

    @property
    def name(self) -> str:
        """The kind of condition."""
        return self._either.name

    @property
    def subject(self) -> str:
        """What it is about."""
        return self._either.subject

    @property
    def _either(self) -> Condition:
        either = self.after or self.before
        assert either is not None  # noqa: S101  a change from nothing to nothing is none
        return either
