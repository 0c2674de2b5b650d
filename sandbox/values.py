"""The values all APIs share: an order, a task, a refusal, an answer."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

MICROS: Final = 1_000_000  # micro-dollars in a dollar
#: Micro-dollars for a million tokens: text and image in, image out (seed 002).
TOKEN_PRICES: Final = (350_000, 350_000, 700_000)
JSON: Final = "application/json"

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a submit asks for, after all checks."""

    model: str
    prompt: str
    n: int
    pixels: tuple[int, int]
    price: int  # micro-dollars an image; where it is billed by tokens, about
    echo: Json  # the request's own fields, as `GET /_control/tasks` tells them (`params`)
    format: str = "png"
    callback: str | None = None
    place: str = "generations"  # or "edits"; where maxapi.dev polls it
    waits: bool = False  # whoever asks waits: the submit is answered with the finished images, not with a task
    b64: bool = False  # the images come as base64, not as links
    tokens: tuple[int, int, int] | None = None  # of one image: text and image in, image out; None: billed by the image

    def cost(self, images: int, times: float = 1.0) -> int:
        """Micro-dollars of so many images, rounded up once. `times`: as many tokens."""
        if self.tokens is None:
            return self.price * images
        exact: float = images * times * sum(map(operator.mul, self.tokens, TOKEN_PRICES))
        return math.ceil(exact / MICROS)


@dataclass(slots=True, kw_only=True)
class Task:
    """One accepted order. It ends by the clock: `ends_at` decides, not an event."""

    id: str
    provider: str
    key: str
    order: Order
    created_at: float
    ends_at: float  # infinite: stuck
    outcome: str = "success"  # or fail, timeout, cancelled
    reason: str | None = None  # of a failure
    delivered: int = 0  # images it will make
    pixels: tuple[int, int] = (0, 0)
    format: str = "png"
    blank: str = ""  # the one colour of its images
    like: str = ""  # the prompt whose images they are nearly like
    link_life: float  # seconds
    b64: bool = False
    garbled: bool = False  # its base64 is none
    answered: bool = False  # the whole answer to the submit was written
    lost: bool = False
    settled: bool = False
    charged: int = 0  # micro-dollars
    usage: str = ""  # what its usage says instead: "absent", "zero", "garbage"
    times: float = 1.0  # as many tokens as usual
    hashes: dict[int, str] = field(default_factory=dict)  # index -> sha256 of what was made, once drawn

    @property
    def cost(self) -> int:
        """Micro-dollars, once it has succeeded."""
        return self.order.cost(self.delivered, self.times)

    def is_over(self, now: float) -> bool:
        """Whether it has ended."""
        return now >= self.ends_at

    def progress(self, now: float) -> float:
        """0 to 1 of its time."""
        if math.isinf(self.ends_at):
            return min((now - self.created_at) / 10.0, 0.9)
        took = self.ends_at - self.created_at
        return min((now - self.created_at) / took, 1.0) if took > 0 else 1.0


class Refusal(Exception):
    """The order is not taken. Each API says it in its own words."""

    def __init__(
        self, kind: str, message: str, *, param: str | None = None, status: int | None = None, after: str | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind  # invalid, key, balance, moderation, model, throttled, not_found, server
        self.message = message
        self.param = param
        self.status = status or STATUS_OF.get(kind, 400)
        self.is_told = status is not None  # by a word or a check; else the provider's own table may have another
        self.after = after  # Retry-After


#: Texts that hurt: a word in a prompt stands for them.
TEXTS: Final = {"nul": "bro\x00ken", "surrogate": "bro\ud800ken"}
HUGE: Final = 10_000_000  # letters of the text that `huge` stands for
STATUS_OF: Final = {"key": 401, "balance": 402, "model": 404, "not_found": 404, "throttled": 429, "server": 503}


def spoken(reason: str | None, words: Mapping[str, str]) -> str | None:
    """A failure's reason in a provider's words."""
    if reason == "huge":
        return "x" * HUGE
    return words.get(reason, TEXTS.get(reason, reason)) if reason else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer, and the trouble in giving it."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
        """Some JSON; orjson has no words for a lone surrogate."""
        try:
            body = orjson.dumps(content)
        except TypeError:
            body = json.dumps(content).encode()
        return cls(status=status, body=body, headers=headers or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Where a task's images are, at one poll."""

    urls: tuple[str, ...]
    expires_at: float
    bytes_of: tuple[str, ...] = ()  # base64, when the task gives bytes
