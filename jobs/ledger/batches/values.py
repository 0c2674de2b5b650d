"""Batches, and the rows of their manifests, on their way in and as they are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from jobs.policy.failover import Failover
from jobs.policy.reuse import Reuse
from jobs.states import BatchState, JobState
from providers.types import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBatch:
    """What a batch is bound to when it is first recorded, and what a later run may change."""

    name: str
    dest: str  # bound for good
    path: str  # path template, bound for good
    columns: tuple[str, ...]  # the newest manifest's own columns, in order
    source: str  # the manifest as the user named it
    budget: int | None = None
    allow_partial: bool = False  # --partial: work in manifest order until the budget is used
    sandbox: bool = False
    weight: float = 1.0
    agreed: int = 0  # money the user has agreed to in all
    retries: int = 2  # new attempts after failed provider tasks
    failover: Failover = Failover.OFF
    providers: tuple[str, ...] = ()  # those the user allows; empty: any
    strict_size: bool = False  # other pixels than asked for are a failure
    decode: bool = False  # every pixel is decoded before an image counts as whole
    sidecar: bool = False  # a JSON of provenance beside each image
    reuse: Reuse | None = None  # --reuse: images that were made already are taken, not bought
    delimiter: str | None = None  # of a CSV manifest
    notify: tuple[str, ...] = ()  # names of channels that hear of it, beside those that hear of everything


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch as it stands."""

    id: int
    name: str
    dest: str
    path: str
    columns: tuple[str, ...]
    source: str
    state: BatchState
    reason: str | None  # why it is paused
    budget: int | None
    allow_partial: bool
    reserved: int  # open and unknown attempts
    charged: int
    agreed: int
    sandbox: bool
    weight: float
    created_at: float
    retries: int = 2
    failover: Failover = Failover.OFF
    strict_size: bool = False
    decode: bool = False
    sidecar: bool = False
    reuse: Reuse | None = None  # also for rows that are made again, or that waited
    delimiter: str | None = None
    archive: str | None = None  # where the bulk of its rows lies; None: in the ledger
    archived_at: float | None = None  # Unix seconds
    notify: tuple[str, ...] = ()
    token_id: int | None = None  # by whose token it was made; None: at a terminal, or by a schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFlags:
    """What somebody who looked at a stored image found."""

    image_id: int
    sha256: str  # of the bytes that were looked at
    flags: frozenset[str]  # stable codes


@dataclass(slots=True, kw_only=True)
class Row:
    """One row of the newest manifest, checked and planned. Nobody changes it. Frozen, it would take twice the time."""

    position: int  # 0, 1, 2 … in the manifest's order, bad and skipped rows included
    line: int  # physical line in the file, from 1
    key: str
    carried: bytes  # the row's own columns, a JSON object in order: text, or of JSONL what was there
    state: JobState = JobState.READY  # READY, SKIPPED or INVALID
    error_code: str | None = None
    message: str | None = None
    # The rest is set for READY rows only.
    request: Request | None = None
    request_hash: str | None = None
    path: str | None = None  # object path below DEST with `{index}` and `{ext}` left open, other braces doubled
    provider: str | None = None
    provider_model: str | None = None
    price: int | None = None  # an image; what is set aside for it
    mode: str | None = None  # the provider's own route, where it has several
    pixels: tuple[int, int] | None = None
    max_n: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRow:
    """What the ledger already holds under a key of the batch."""

    key: str
    request_hash: str | None
    state: JobState
    touched: bool  # something runs, is unknown or is stored: a new request needs `--changed`
    free: int  # slots that still cost money
    stored: int
    path: str | None
    slots: int = 0
    adopted: bool = False  # known from its objects alone: a row's request is still to come
    tried: bool = False  # its images were to be taken from another row, which did not work
    own_prompt: bool = False  # made anew with another prompt than the manifest's: `redo --prompt`
    earlier: frozenset[str] = frozenset()  # requests that it had before, by hash, of which all images are there

    def fits(self, request_hash: str | None) -> bool:
        """Whether a row of this request asks for what is there. Where nothing tells, the key has to do."""
        return self.request_hash == request_hash or (self.adopted and self.request_hash is None)

    def lacking(self, n: int) -> int:
        """Slots of a row that asks for `n` images for which money is still to be paid."""
        return self.free + (max(0, n - self.slots) if self.adopted else 0)


class StoredTotal(NamedTuple):
    """What tells whether an image of a batch was stored since one looked."""

    images: int
    newest: float  # Unix seconds


class StillStoring(NamedTuple):
    """Why a batch cannot be moved now: its images may still be stored at the old destination."""

    moving: int = 0  # images in flight, waiting for their copy, or being copied
    waits: bool = False  # a worker would buy more at once
    stored: bool = False  # some were stored while the others were compared


class StoredPlace(NamedTuple):
    """Where an image of a row was stored."""

    image_id: int
    path: str  # below the destination
    key: str


class MadeBefore(NamedTuple):
    """Rows of another batch with one request, that were paid for or may have been."""

    request_hash: str
    batch_id: int
    rows: int
    apart: int  # of these: --reuse takes no image of theirs; some are missing, or they are of an earlier revision
    key: str  # of one of them


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRow:
    """A row of a batch as the ledger has it, whatever the newest manifest says."""

    id: int
    key: str
    request_hash: str | None
    state: JobState
    listed: bool  # in the newest manifest
    made: bool  # paid for, or being made, or perhaps
    usable: bool  # its images are those of its request, all there or to come: a new row may take them
    numbered: bool  # its key is its number in the newest manifest, as where that has no key column


class ImageHolder(NamedTuple):
    """A row of a batch that has the same images as another row, or is that row itself."""

    job_id: int  # the other row
    origin: int  # the first image of these, however often it was copied since
    holder_id: int
    holder_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownAttempt:
    """An attempt whose outcome nobody can know."""

    attempt_id: int
    batch: str
    key: str
    account: str
    provider: str
    provider_model: str
    slots: tuple[int, ...]
    money: int  # at most
    price_known: bool
    sent_at: float
    code: str | None
    message: str | None
    edits: bool = False  # made from references
