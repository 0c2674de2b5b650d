"""Work that is claimed: submits to be sent, provider tasks to be asked about, images to be copied."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.facts import ImageChecked
from jobs.ledger.accounts.durations import TaskKind
from jobs.policy.doubts import NOT_DOUBTED, Doubted
from providers.types import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A claimed submit: it is on record as `submitting`, and may be sent at `send_at` while the lease lives."""

    attempt_id: int
    account: str
    batch_id: int
    job_id: int
    key: str
    request: Request
    provider_model: str
    slots: tuple[int, ...]
    n: int
    send_at: float
    interval: float  # seconds from one submit of the account to the next, at the rate that the claim knew
    lease_until: float
    mode: str | None = None  # the provider's own route, where it has several
    price: int | None = None  # micro-dollars set aside for an image


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Claimed submits, and when to ask again (None: when a wakeup comes)."""

    intents: tuple[Intent, ...]
    next_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DuePoll:
    """A running attempt whose provider task is to be asked about now."""

    attempt_id: int
    account: str
    job_id: int
    provider_model: str
    task_id: str
    poll_path: str | None
    n: int
    accepted_at: float
    polls: int  # polls made before this one
    not_found_since: float | None  # with the same key, again and again
    doubted: Doubted = NOT_DOUBTED
    came: int = 0  # images of it that are on record, while it is asked about for more
    mode: str | None = None  # the provider's own route, where it has several
    price: int | None = None  # micro-dollars set aside for an image
    answered_at: float | None = None  # when another task of the account was last told to have ended
    resolution: str = ""  # as the request asks for it
    request: int = 0  # of those the claim allows; tasks with the same one are asked about together

    @property
    def kind(self) -> TaskKind:
        """What it has in common with tasks that take alike long."""
        return TaskKind(account=self.account, provider_model=self.provider_model, resolution=self.resolution)


@dataclass(frozen=True, slots=True, kw_only=True)
class DueHint:
    """A provider task that a callback named for an attempt; to be asked about, and bound only when it is ours."""

    attempt_id: int
    account: str
    task_id: str
    provider_model: str
    request: Request
    n: int
    intended_at: float
    price: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReuseOrigin:
    """An image that another one is copied from, for nothing."""

    dest: str
    path: str | None  # None: it is not stored
    sha256: str | None
    is_coming: bool  # it may still be stored
    # What it was found to be when it was stored.
    bytes: int | None = None
    width: int | None = None  # pixels
    height: int | None = None
    format: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DueCopy:
    """An image to be copied now; leased to this process until `lease_until`."""

    image_id: int
    attempt_id: int
    job_id: int
    batch: str
    dest: str
    key: str
    slot: int
    revision: int
    surplus: bool
    path: str  # as in Row.path
    request_hash: str
    pixels: tuple[int, int] | None  # what was asked for, where known
    provider: str
    provider_model: str
    account: str
    task_id: str | None
    poll_path: str | None
    nth: int  # its place among the images of its provider task, from 0
    url: str | None  # None: the bytes are in `spool`
    spool: str | None  # a local file that holds the bytes of a b64 result
    expires_at: float
    tries: int
    recorded_path: str | None  # object path recorded before an earlier put
    recorded_sha256: str | None
    recorded: ImageChecked | None = None  # all that was recorded then
    request: bytes = b""
    price: int | None = None  # an image; None: not known
    generated_at: float | None = None
    strict_size: bool = False
    decode: bool = False
    sidecar: bool = False
    reused: bool = False  # it is no provider's: it is taken from `origin`
    origin: ReuseOrigin | None = None  # None with `reused`: it is on record no more
    linked: bool = False  # it stays where `origin` is, and is not copied


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenFrom:
    """The row that an image was taken from, or was to be."""

    batch: str
    key: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """Why nothing more is bought somewhere: images that failed one after the other, with none stored between them.

    What they share: an account, with its provider; of it perhaps one provider model, and one destination; or only a
    destination.
    """

    account: str | None
    provider: str | None
    provider_model: str | None  # None: whatever it made
    dest: str | None  # None: wherever they go
    images: int
    money: int  # micro-dollars that these cost, where prices are known
    since: float
    code: str  # of the last of them, as its message
    message: str
    batch: str | None = None  # with an image of it that waits to be copied; the newest of these. Going on with it helps
    next_try_at: float | None = None  # when the next single submit may try it; None: as soon as a row is there
