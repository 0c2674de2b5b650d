"""The frozen values that go into and come out of the ledger. Times: Unix seconds (UTC); money: micro-dollars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jobs.endings import OF_KIND, Ending
from jobs.failover import Failover
from jobs.learning import Bound
from jobs.states import Batch as BatchState
from jobs.states import DestTrouble
from jobs.states import Job as JobState
from providers.dialect import Kind, Link, Request

# -- a manifest on its way in --------------------------------------------------------------------------------------


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the newest manifest, checked and planned."""

    position: int  # 0, 1, 2 … in the manifest's order, bad and skipped rows included
    line: int  # physical line in the file, from 1
    key: str
    carried: bytes  # the row's own columns, JSON object of strings, in order
    state: JobState = JobState.READY  # READY, SKIPPED or INVALID
    error_code: str | None = None
    message: str | None = None
    # The rest is set for READY rows only.
    request: Request | None = None
    request_hash: str | None = None
    path: str | None = None  # object path below DEST with `{index}` and `{ext}` left open, other braces doubled
    provider: str | None = None
    provider_model: str | None = None
    price: int | None = None  # an image
    pixels: tuple[int, int] | None = None
    max_n: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
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

    def fits(self, request_hash: str | None) -> bool:
        """Whether a row of this request asks for what is there. Where nothing tells, the key has to do."""
        return self.request_hash == request_hash or (self.adopted and self.request_hash is None)

    def lacking(self, n: int) -> int:
        """Slots of a row that asks for `n` images for which money is still to be paid."""
        return self.free + (max(0, n - self.slots) if self.adopted else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedImage:
    """An object that a lost ledger had stored, read again."""

    slot: int
    revision: int
    surplus: bool
    path: str  # below DEST
    sha256: str
    bytes: int
    width: int
    height: int
    format: str
    stored_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedRow:
    """A row as its objects tell of it."""

    key: str
    request_hash: str | None  # None: nothing tells
    revision: int
    path: str  # as in Row.path, as far as an object's own tells
    images: tuple[AdoptedImage, ...]


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


# -- destinations --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why nothing new is sent for a destination, as one process says it."""

    dest: str
    kind: DestTrouble
    since: float
    code: str
    message: str
    said_by: str = ""  # set when it is heard


# -- accounts ------------------------------------------------------------------------------------------------------


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
class DayLimit:
    """A daily budget, and what the UTC day has cost so far."""

    account: str | None  # None: that of all accounts together
    budget: int
    spent: int  # reserved and charged, by the day of the intent
    again_at: float  # when the next day begins

    @property
    def left(self) -> int:
        """What may still be spent today."""
        return max(0, self.budget - self.spent)

    def allows(self, price: int | None) -> bool:
        """Whether an image of this price may be bought; what has no price fits no budget."""
        return price is not None and price <= self.left


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

    @property
    def polls_per_task(self) -> float | None:
        """Requests a provider task took until it was found done; None before any was."""
        return self.polls_made / self.tasks_found if self.tasks_found else None

    @property
    def mean_lateness(self) -> float | None:
        """Seconds from a task's end to our finding it, on average; None before any was."""
        return self.lateness_sum / self.tasks_found if self.tasks_found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How far an account uses what it may."""

    sent: int  # submits in the last minute
    waiting: int  # rows that could be sent to its provider
    bound_by: Bound  # what kept the last claim from starting more
    rate_top: float | None  # submits a second at which the last 429 was met; None: none yet, or declared
    in_flight_top: float | None  # the same of provider tasks at once
    called_back_at: float | None  # when a callback last told the truth, give or take a minute


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker process, as it last told of itself."""

    name: str
    seen_at: float
    looked_at: float | None  # when the laziest of its lanes last looked for work


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskKind:
    """Provider tasks that take alike long."""

    account: str
    provider_model: str
    resolution: str  # as the request asks for it; empty: it does not


# -- work that is claimed ------------------------------------------------------------------------------------------


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
    lease_until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Claimed submits, and when to ask again (None: when a bell rings)."""

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


# -- facts ---------------------------------------------------------------------------------------------------------
# A fact is recorded by id, whatever the lease or the state says by then. Recording one twice changes nothing.


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitAccepted:
    """The provider named its task."""

    attempt_id: int
    at: float
    task_id: str
    poll_path: str | None
    next_poll_at: float
    took: float | None = None  # seconds from the first byte that left to the answer; None: not known

    @property
    def ending(self) -> Ending:
        """The class of this ending of a submit."""
        return Ending.ACCEPTED


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitRefused:
    """Certainly not accepted; `code` "not_sent" when it never left. What happens to the job follows from `kind`."""

    attempt_id: int
    at: float
    kind: Kind
    code: str
    message: str
    raw: str = ""
    retry_after: float | None = None  # seconds
    took: float | None = None  # seconds from the first byte that left to the answer; None: none came

    @property
    def ending(self) -> Ending:
        """The class of this ending of a submit."""
        return OF_KIND[self.kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitUnclear:
    """Sent, and no readable answer."""

    attempt_id: int
    at: float
    code: str
    message: str
    raw: str = ""

    @property
    def ending(self) -> Ending:
        """The class of this ending of a submit."""
        return Ending.AMBIGUOUS


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One image of a finished provider task."""

    link: Link  # its `b64` is never recorded: the bytes are in `spool` by then
    spool: str | None
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSucceeded:
    """The provider's task has images; from a poll, or from a submit answered at once (`task_id` may be None then)."""

    attempt_id: int
    at: float
    images: tuple[Made, ...]
    task_id: str | None = None
    at_once: bool = False  # the submit itself was answered so
    took: tuple[float, float] | None = None  # seconds at least and at most, where the provider tells


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailed:
    """The provider's task ended without images, or is forgotten (`forgotten`: its money may be gone)."""

    attempt_id: int
    at: float
    kind: Kind
    code: str
    message: str
    raw: str = ""
    forgotten: bool = False
    charged: bool = False  # it counts as paid although nothing came


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStillRunning:
    """A poll that ended nothing. `code` is set when the answer was an error or not understood."""

    attempt_id: int
    at: float
    next_poll_at: float
    code: str | None = None
    message: str | None = None
    raw: str = ""
    not_found: bool = False
    rest: float | None = None  # seconds for which no poll of the account should follow: 429


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageChecked:
    """The bytes are checked; recorded *before* they are put."""

    image_id: int
    object_path: str  # below DEST
    sha256: str
    bytes: int
    width: int
    height: int
    format: str  # "png", "jpeg", "webp"
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageStored:
    """The object is at its path, with the recorded hash."""

    image_id: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDelayed:
    """A copy that did not work now. `url`: a fresh link, where the provider gave one."""

    image_id: int
    at: float
    next_copy_at: float
    code: str
    message: str
    url: str | None = None
    expires_at: float | None = None
    spool: str | None = None  # the bytes are in this local file from now on
    forget_object: bool = False  # the recorded path is taken by other bytes: choose another


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLost:
    """The link is dead and the provider has no other."""

    image_id: int
    at: float
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountPaused:
    """An account rests until `until` (infinity: until a person or a probe helps)."""

    account: str
    at: float
    until: float
    code: str
    message: str


#: Facts that end a submit or a provider task.
AttemptFact = SubmitAccepted | SubmitRefused | SubmitUnclear | TaskSucceeded | TaskFailed

Fact = (
    SubmitAccepted
    | SubmitRefused
    | SubmitUnclear
    | TaskSucceeded
    | TaskFailed
    | TaskStillRunning
    | ImageChecked
    | ImageStored
    | ImageDelayed
    | ImageLost
    | AccountPaused
)


# -- reports -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A batch, counted."""

    batch: Batch
    jobs: Mapping[JobState, int]
    images_total: int
    images_stored: int
    images_generated: int  # waiting to be copied
    images_in_flight: int
    images_unknown: int
    images_lost: int
    bytes_stored: int  # as the images before it: of what the newest manifest asks for
    unknown_money: int
    lost_money: int
    remaining_money: int  # estimate for free slots of ready jobs, at the planned price
    in_flight_money: int
    errors: Mapping[str, int]  # jobs that ended badly, by error code
    least_expiry: float | None  # the earliest death of a link that is not yet copied
    next_at: float | None  # the earliest time a waiting job may go again, where none may go now
    stored_at: tuple[float, ...] = ()  # when the last images were stored, for the pace
    day_limits: tuple[DayLimit, ...] = ()  # daily budgets that hold up the next row, where asked for
    images_ready: int = 0  # slots that nobody was paid for yet
    copy_errors: Mapping[str, int] = field(default_factory=dict)  # images not copied yet, by the last try's code
    images_aside: int = 0  # stored too: replaced by a redo, more than was asked for, or of rows taken out
    moved: bool = False  # the database was restored or failed over: submits wait for a word
    troubles: tuple[Trouble, ...] = ()  # of its destination, where asked for: submits wait
    wrong_pixels: int = 0  # stored images with other pixels than asked for


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


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """One image of a result line."""

    slot: int
    revision: int
    state: str
    path: str | None  # below DEST
    sha256: str | None
    bytes: int | None
    width: int | None
    height: int | None
    format: str | None
    flags: tuple[str, ...]
    stored_at: float | None
    provider: str | None
    provider_model: str | None
    cost: int | None  # list price; None: not known
    error_code: str | None
    message: str | None
    link_expires_at: float | None
    tries: int = 0  # of its copy; `message` is what the last one ended with
    next_copy_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One manifest row and what became of it."""

    position: int
    line: int
    key: str
    carried: Mapping[str, str]
    state: JobState
    revision: int
    request: Request | None
    provider: str | None
    provider_model: str | None
    images: tuple[StoredImage, ...]  # of the current revision, by slot
    error_code: str | None
    message: str | None
    done_at: float | None
    cost: int | None  # charged for this job's attempts so far; None: not known
    kept: bool = False  # as it was, although its row in the manifest has changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something worth telling in a job's history."""

    at: float
    name: str  # constant, snake_case
    attempt_id: int | None
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStory:
    """One attempt of a job's history."""

    attempt_id: int
    account: str
    provider: str
    provider_model: str
    state: str
    slots: tuple[int, ...]
    revision: int
    task_id: str | None
    created_at: float
    accepted_at: float | None
    finished_at: float | None
    polls: int
    reserved: int
    charged: int
    price_known: bool
    code: str | None
    message: str | None
    raw: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A job's whole history."""

    result: Result
    attempts: tuple[AttemptStory, ...]
    events: tuple[Event, ...]
    next_try_at: float | None
    older: tuple[StoredImage, ...] = ()  # of earlier revisions
