"""The values every dialect speaks in, and the shape of a dialect.

A dialect is pure: it builds a `Call` from a request, and reads a `Response` into an outcome. It never raises on what a
provider says: whatever does not fit is an outcome of its own (`Ambiguous`, `Unreadable`), never a success.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import orjson

from providers.references import ReferencesBy
from providers.token_prices import TokenPrices, Usage

MICROS = 1_000_000  # micro-dollars in a dollar; money is always an integer of these

#: Characters of a provider's answer that are kept with an attempt.
RAW_LIMIT = 4_000
#: Characters of a message that are kept and shown.
MESSAGE_LIMIT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What makes an image what it is. Route, price and carried columns are no part of it."""

    prompt: str
    model: str  # Lightfast's name (`gpt-image-2`), or a provider's own id when `provider` is set
    ratio: str | None = None  # "16:9"; None where the model takes none or the first reference decides
    resolution: str | None = None  # "1k", "2k", "4k"
    size: tuple[int, int] | None = None  # width, height in pixels; instead of ratio and resolution
    n: int = 1
    references: tuple[str, ...] = ()
    quality: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    provider: str | None = None  # pinned by the row
    _written: bytes | None = field(default=None, init=False, repr=False, compare=False)  # its JSON, once it was asked

    def to_json(self) -> bytes:
        """Canonical JSON: the same request is the same bytes; unset fields are left out."""
        if self._written is not None:
            return self._written
        values = {"prompt": self.prompt, **self._values_but_prompt()}
        written = orjson.dumps(values, option=orjson.OPT_SORT_KEYS)
        object.__setattr__(self, "_written", written)
        return written

    def _values_but_prompt(self) -> dict[str, object]:
        optional = {
            "model": self.model,
            "n": self.n,
            "ratio": self.ratio,
            "resolution": self.resolution,
            "size": f"{self.size[0]}x{self.size[1]}" if self.size else None,
            "references": list(self.references) or None,
            "quality": self.quality,
            "options": dict(self.options) or None,
            "provider": self.provider,
        }
        return {name: value for name, value in optional.items() if value is not None}

    def around_prompt(self) -> tuple[bytes, bytes]:
        """What stands before and after the prompt's own JSON in the canonical one, whatever the prompt is."""
        before, after = dict[str, object](), dict[str, object]()
        for name, value in self._values_but_prompt().items():
            (before if name < "prompt" else after)[name] = value
        head = orjson.dumps(before, option=orjson.OPT_SORT_KEYS)[:-1] + b',"prompt":'
        tail = b"," + orjson.dumps(after, option=orjson.OPT_SORT_KEYS)[1:] if after else b"}"
        return head, tail

    def with_prompt(self, prompt: str, around: tuple[bytes, bytes]) -> Request:
        """The same with another prompt. `around`: its `around_prompt`, so that a million are written cheaply."""
        made = Request(
            prompt=prompt,
            model=self.model,
            ratio=self.ratio,
            resolution=self.resolution,
            size=self.size,
            n=self.n,
            references=self.references,
            quality=self.quality,
            options=self.options,
            provider=self.provider,
        )
        object.__setattr__(made, "_written", around[0] + orjson.dumps(prompt) + around[1])
        return made

    @classmethod
    def from_json(cls, text: bytes | str) -> Request:
        """The inverse of `to_json`."""
        values = orjson.loads(text)
        width, _, height = values.pop("size", "").partition("x")
        references = tuple(values.pop("references", ()))
        size = (int(width), int(height)) if height else None
        return cls(size=size, references=references, **values)

    @classmethod
    def from_canonical(cls, written: bytes) -> Request:
        """As `from_json`, of what `to_json` has written: it is not written anew."""
        made = cls.from_json(written)
        object.__setattr__(made, "_written", written)
        return made

    def hash(self) -> str:
        """32 hex digits that stand for this request."""
        return request_hash(self.to_json())


def request_hash(canonical: bytes) -> str:
    """32 hex digits that stand for a request in its canonical JSON."""
    return hashlib.sha256(canonical).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A way to make a request's images. Made by `catalog.Catalog`."""

    provider: str  # "maxapi.io"
    model: str  # Lightfast's name of the model
    provider_model: str  # the provider's own id
    pixels: tuple[int, int] | None  # None: not known beforehand
    ratio: str | None = None  # as this provider is asked; None: it is not told
    resolution: str | None = None  # as this provider is asked, or its price tier
    edits: bool = False  # made from references
    references_by: ReferencesBy = ReferencesBy.LINK  # how it takes those that are no link
    max_n: int  # images one provider task can make
    price: int | None  # micro-dollars an image at list price; None: not known. By tokens: at most, without the prompt
    price_is_yours: bool = False  # from the settings, not the catalogue
    mode: str | None = None  # the provider's own route, where it has several: "official-cheap"
    tokens: TokenPrices | None = None  # billed by these; None: by the image
    estimate: int | None = None  # micro-dollars an image is likely to cost, where that is less than `price`
    assumed: str = ""  # what the estimate rests on
    link_life: float = 0.0  # seconds a result's link lives, counted from generation
    first_poll_after: float = 10.0  # seconds
    poll_every: float = 5.0  # seconds
    typical_seconds: float = 20.0  # an image's usual making, for estimates only
    submit_timeout: float = 60.0  # seconds a submit may take in all before its outcome is unclear

    def price_of(self, prompt: str) -> int | None:
        """Micro-dollars that are set aside for an image with this prompt."""
        return self.price if self.price is None or self.tokens is None else self.price + self.tokens.prompt(prompt)

    @property
    def expected(self) -> int | None:
        """Micro-dollars an image is likely to cost; None: not known."""
        return self.price if self.estimate is None else self.estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceFile:
    """A form field whose value is the bytes behind a reference; the worker fetches them before it sends."""

    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request to a provider. The key and the base URL are added by the worker."""

    method: str  # "GET" or "POST"
    path: str  # from the account's base URL on, with query: "/api/v1/task/submit"
    body: bytes = b""  # JSON; empty for GET and for a form
    form: tuple[tuple[str, str | ReferenceFile], ...] = ()  # multipart fields, in order


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A provider's whole answer: any status, header names in lower case, a body bounded by the worker."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One result image: a link, or the bytes themselves in base64."""

    url: str | None = None
    b64: str | None = None
    expires_at: float | None = None  # Unix seconds, where the provider says so


class Kind(enum.StrEnum):
    """What an error asks for."""

    PERMANENT = "permanent"  # the same request fails again
    MODERATION = "moderation"  # never again, never elsewhere by itself
    ACCOUNT = "account"  # balance, key, permission: the account is paused, jobs stay ready
    THROTTLED = "throttled"  # the account cools down
    TRANSIENT = "transient"  # a new attempt may do


# -- what a submit can end in --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The provider took it and named its task."""

    task_id: str
    poll_path: str | None = None  # where the provider says to ask, if on its own host


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The provider answered with finished images at once."""

    links: tuple[Link, ...]
    task_id: str | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Certainly not accepted, nothing charged."""

    kind: Kind
    code: str  # a stable code of docs/reference/errors.md
    message: str
    retry_after: float | None = None  # seconds, where the provider says so
    raw: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambiguous:
    """Nobody can know whether it was accepted."""

    code: str
    message: str
    raw: str = ""


SubmitOutcome = Accepted | Delivered | Refused | Ambiguous


# -- what a poll can end in ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Not finished. An unknown status counts as running, with `known` False."""

    status: str
    known: bool = True
    raw: str = ""  # kept when not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """Finished with at least one image, perhaps fewer than asked."""

    links: tuple[Link, ...]
    generated_at: float | None = None  # Unix seconds, where the provider says so
    took: tuple[float, float] | None = None  # seconds at least and at most, by the provider's own clock
    usage: Usage | None = None  # tokens, where the provider tells and bills them


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The provider's task ended without images."""

    kind: Kind
    code: str
    message: str
    raw: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Empty:
    """Called done, and no image is named. It is no verdict: the picture may be in the next (the worker decides)."""

    message: str
    raw: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFound:
    """The provider does not know the task now; forgotten only when it says so for long (the worker decides)."""

    message: str
    raw: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """No usable answer (429, 5xx, garbage, a key refused): ask again later; it says nothing about the task."""

    code: str
    message: str
    retry_after: float | None = None
    kind: Kind = Kind.TRANSIENT  # ACCOUNT where the key was refused, THROTTLED for 429
    raw: str = ""


PollOutcome = Running | Succeeded | Failed | Empty | NotFound | Unreadable


class Dialect(Protocol):
    """One provider's way of speaking: `providers/dialects/NAME.py` has one instance, `DIALECT`."""

    @property
    def provider(self) -> str:
        """The provider's name as users write it: "maxapi.io"."""

    @property
    def key_header(self) -> str:
        """The header in which the worker sends the key: in `Authorization` after "Bearer", in any other alone."""

    def submit(self, request: Request, route: Route, n: int, extras: Mapping[str, str]) -> Call:
        """The call that asks for `n` images. `extras`: the account's own `route_mode`, `callback_url`, where set."""

    def read_submit(self, response: Response, *, base_url: str, call: Call | None = None) -> SubmitOutcome:
        """Reads the answer to a submit. `call`: what was sent; it decides where some tasks are asked about."""

    def poll(self, task_id: str, route: Route, poll_path: str | None) -> Call:
        """The call that asks for a task's state."""

    def read_poll(self, response: Response) -> PollOutcome:
        """Reads the answer to a poll."""

    def task_of(self, response: Response) -> str | None:
        """The id of the task that a poll's answer is about; None where it names none.

        An answer about another task than was asked about is not believed (`answers.about`).
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyTold:
    """What one answer says of many tasks. Whoever is not among `tasks` is to be asked about alone."""

    tasks: Mapping[str, Running | Succeeded] = field(
        default_factory=dict
    )  # by task id; what is worse is confirmed alone
    trouble: Unreadable | None = None  # nothing was told, and perhaps will be later
    offered: bool = True  # False: there is no such question here, or nobody understands the answer


class ManyTasks(Protocol):
    """A dialect that can ask about many tasks in one request."""

    @property
    def most_together(self) -> int:
        """Tasks that one request asks about at most."""

    def poll_many(self, task_ids: Sequence[str]) -> Call:
        """The call that asks for these tasks' states."""

    def read_many(self, response: Response, task_ids: Sequence[str]) -> ManyTold:
        """Reads its answer, which may say nothing, or of others."""


def clean(text: object, limit: int = MESSAGE_LIMIT) -> str:
    """Text a database can hold and a person can read: no NUL, no lone surrogate, bounded."""
    value = text if isinstance(text, str) else str(text)
    value = value[: limit + 1].replace("\x00", "�").encode("utf-8", "replace").decode("utf-8")
    return value if len(value) <= limit else value[: limit - 1] + "…"
