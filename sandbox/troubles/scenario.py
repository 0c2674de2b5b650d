"""A scenario: how the stand-in behaves. A JSON or TOML file, or the body of POST /_control/scenario."""

from __future__ import annotations

import itertools
import json
import random
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sandbox.troubles.words import Trouble, read_trouble

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

ALL = "default"
Value = TypeVar("Value")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LogNormal(_Part):
    """Most are near the median, a few take very long."""

    median: float = Field(gt=0)
    sigma: float = Field(default=0.5, ge=0)


class Humps(_Part):
    """Two or more kinds of task, equally many of each; a pair is from..to."""

    humps: tuple[tuple[float, float], ...] = Field(min_length=1)


Span = Annotated[tuple[float, float] | LogNormal | Humps, "seconds: [from, to], a log-normal, or humps"]


class Limits(_Part):
    """What a key may do; unset is unlimited."""

    submits_per_second: float | None = Field(default=None, gt=0)
    burst: float = Field(default=1, ge=1)
    polls_per_second: float | None = Field(default=None, gt=0)
    in_flight: int | None = Field(default=None, ge=0)
    retry_after: str | float | None = None  # seconds, or "date 3" for a date 3 s ahead
    slower: float = Field(default=0.0, ge=0)  # seconds of answering time for each task in flight


class Pictures(_Part):
    """`tiny`: no drawing, plain images of the right pixels. `image_bytes`: padded to that size."""

    tiny: bool = False
    image_bytes: int = Field(default=0, ge=0, le=100_000_000)


class Rule(_Part):
    """A trouble, and when it strikes. All that is named has to fit."""

    trouble: str  # as in a prompt, without the brackets: "poll 503 x2"
    provider: str | None = None
    model: str | None = None
    prompt: str | None = None  # part of it
    key: str | None = None
    chance: float = Field(default=1.0, ge=0, le=1)
    after: int = Field(default=0, ge=0)  # let that many pass first
    times: int | None = Field(default=None, ge=0)  # at most so often in all
    since: float = Field(default=0.0, ge=0)  # seconds after the scenario was set
    until: float | None = None

    @field_validator("trouble")
    @classmethod
    def _known(cls, text: str) -> str:
        if read_trouble(text) is None:
            raise ValueError(f"{text!r} is no trouble; docs/reference/sandbox.md lists them")
        return text

    def parsed(self) -> Trouble:
        """The trouble as a value."""
        found = read_trouble(self.trouble)
        assert found is not None  # noqa: S101  checked when the rule was read
        return found


class Scenario(_Part):
    """Everything that can be arranged. Tables are by provider or model, with `default`."""

    seed: int = 0
    takes: dict[str, Span] = Field(default_factory=dict)  # how long a task takes
    answer_seconds: dict[str, Span] = Field(default_factory=dict)  # how long a submit's answer takes
    limits: dict[str, Limits] = Field(default_factory=dict)
    balances: dict[str, float] = Field(default_factory=dict)  # USD, by provider or "provider/key"
    revoked: frozenset[str] = frozenset()
    link_seconds: dict[str, float] = Field(default_factory=dict)
    fresh_links: bool = True  # a poll gives a new link when the old one is dead
    pictures: Pictures = Pictures()
    webhooks: bool = True
    webhook_hosts: frozenset[str] = frozenset()  # beside 127.0.0.1 and localhost
    apimaster_sync: bool = False  # POST /v1/images/generations answers with the image
    apimaster_batch: Literal["whole", "shuffled", "some", "404", "garbage"] = "whole"  # how batch queries are answered
    io_errors: Literal["status", "200"] = "status"  # the HTTP status of an error's body
    io_broke: Literal["points", "402"] = "points"  # no balance: the task fails, or the submit is refused
    rules: tuple[Rule, ...] = ()

    def seconds_of_task(self, provider: str, model: str, chance: random.Random) -> float:
        """How long this task takes."""
        span = self.takes.get(model) or self.takes.get(provider) or self.takes.get(ALL) or (0.6, 1.5)
        return _draw(span, chance)

    def seconds_of_answer(self, provider: str, chance: random.Random) -> float:
        """How long the answer to a submit takes."""
        span = self.answer_seconds.get(provider) or self.answer_seconds.get(ALL)
        return _draw(span, chance) if span else 0.0

    def limits_of(self, provider: str, key: str) -> Limits:
        """The limits of a key."""
        return _by_name(self.limits, provider, key) or Limits()

    def balance_of(self, provider: str, key: str) -> float | None:
        """The balance a key starts with in USD; None is without end."""
        return _by_name(self.balances, provider, key)

    def life_of_link(self, provider: str) -> float | None:
        """Seconds a link lives, where arranged."""
        return self.link_seconds.get(provider, self.link_seconds.get(ALL))


class BadScenario(Exception):
    """A file that is no scenario: one line a mistake, with its place and what is wrong there."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("; ".join(lines))


def read_scenario(path: Path) -> Scenario:
    """Reads a .toml or .json file; raises `BadScenario` with every mistake."""
    try:
        text = path.read_text(encoding="utf-8")
        return Scenario.model_validate(tomllib.loads(text) if path.suffix == ".toml" else json.loads(text))
    except OSError as trouble:
        raise BadScenario([(trouble.strerror or "it cannot be read").lower()]) from None
    except ValidationError as wrong:
        raise BadScenario(list(dict.fromkeys(map(_told, wrong.errors(include_url=False))))) from None
    except ValueError as broken:  # what the parsers raise, and text that is no UTF-8
        raise BadScenario([f"not {'TOML' if path.suffix == '.toml' else 'JSON'}: {broken}"]) from None


#: How pydantic calls the ways to tell a time.
_WAYS = ("tuple[", "LogNormal", "Humps")
_A_SPAN = "seconds as [from, to], as {median = …, sigma = …}, or as {humps = [[from, to], …]}"


def _told(error: ErrorDetails) -> str:
    """rules[2].trouble: 'explode' is no trouble; docs/reference/sandbox.md lists them."""
    names = list(itertools.takewhile(lambda name: not str(name).startswith(_WAYS), error["loc"]))
    place = "".join(f"[{name + 1}]" if isinstance(name, int) else f".{name}" for name in names).removeprefix(".")
    return f"{place or 'the file'}: {_what(error, is_span=len(names) < len(error['loc']))}"


def _what(error: ErrorDetails, *, is_span: bool) -> str:
    said = error["msg"].removeprefix("Value error, ")
    if is_span:
        return f"expected {_A_SPAN}"
    if error["type"] == "extra_forbidden":
        return "there is no such setting"
    if error["type"] in ("missing", "value_error"):
        return said
    expected = said.replace("Input should be", "expected").partition(", unable")[0].partition(" or instance")[0]
    return f"{json.dumps(error['input'], default=str)[:60]}: {expected}"


def _by_name(table: dict[str, Value], provider: str, key: str) -> Value | None:
    names = (f"{provider}/{key}", provider, ALL)
    return next((table[name] for name in names if name in table), None)


def _draw(span: Span, chance: random.Random) -> float:
    if isinstance(span, LogNormal):
        return span.median * chance.lognormvariate(0.0, span.sigma)
    first, last = chance.choice(span.humps) if isinstance(span, Humps) else span
    return chance.uniform(first, last)
