"""What people are told: a batch counted, its result lines, and the history of a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jobs.ledger.accounts.durations import TaskKind
from jobs.ledger.accounts.values import DayLimit, LearntLimits, PeriodLimit
from jobs.ledger.accounts.worker_values import DestinationTrouble, EmergencyStop
from jobs.ledger.batches.values import Batch
from jobs.ledger.claims.values import Failing, TakenFrom
from jobs.manifest.nested import TemplateColumns
from jobs.policy.poll_schedule import Durations
from jobs.policy.token_costs import CostKind, TokenCost
from jobs.states import JobState
from providers.types import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckImage:
    """A paid image that only a person can help: it is not copied again by itself."""

    key: str
    slot: int
    code: str
    message: str
    money: int  # micro-dollars; 0 where the price is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSchedule:
    """The schedule whose times pay for a batch."""

    name: str
    month: PeriodLimit | None  # its monthly budget; None: it has none
    month_allows: bool  # whether that leaves enough for an image of the batch's next row
    waiting_money: int  # as `remaining_money`, of all of its batches; 0 without a monthly budget
    goes_on_at: float | None  # when its next time buys what a budget left out (--partial); None: no time does


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A batch, counted."""

    batch: Batch
    jobs: Mapping[JobState, int]
    images_total: int
    images_stored: int
    images_generated: int  # waiting to be copied, without those that are stuck
    images_in_flight: int
    images_unknown: int
    images_lost: int
    bytes_stored: int  # as the images before it: replaced and surplus ones are not in it
    unknown_money: int
    lost_money: int  # for images whose link died, and for tasks that brought none
    remaining_money: int  # at most, for free slots of ready jobs: what is set aside for them
    in_flight_money: int
    errors: Mapping[str, int]  # jobs that ended badly, by error code
    least_expiry: float | None  # the earliest death of a link that is not yet copied
    next_at: float | None  # the earliest time a waiting job may go again, where none may go now
    stored_at: tuple[float, ...] = ()  # when the last images were stored, for the pace
    day_limits: tuple[DayLimit, ...] = ()  # daily budgets that hold up the next row, where asked for
    schedule: BatchSchedule | None = None  # where asked for
    images_ready: int = 0  # slots that nobody was paid for yet
    copy_errors: Mapping[str, int] = field(default_factory=dict)  # images not copied yet, by the last try's code
    copy_words: Mapping[str, str] = field(default_factory=dict)  # what one of them was told, by the same code
    images_stuck: int = 0  # paid, and copied again only on a person's word
    stuck_money: int = 0
    stuck: tuple[StuckImage, ...] = ()  # the first of them
    lost_image_money: int = 0  # of `lost_money`, what the images cost that `images_lost` counts
    images_aside: int = 0  # stored too: replaced by a redo, or more than was asked for
    rows_out: int = 0  # of the rows that are done: in the newest manifest no more
    images_out: int = 0  # of the stored images: of rows that are in the newest manifest no more
    fails_alike: str | None = None  # the code that most rows fail with: reason to call `pause_failing`
    moved: bool = False  # the database was restored or failed over: submits wait for a word
    troubles: tuple[DestinationTrouble, ...] = ()  # of its destination, where asked for: submits wait
    failing: tuple[Failing, ...] = ()  # where asked for: submits wait, since nothing can be stored
    wrong_pixels: int = 0  # stored images with other pixels than asked for
    waits_at: frozenset[str] | None = None  # providers that its ready rows are to go to; None: nobody has looked
    unwritable: str | None = None  # why the ledger takes no writes, where somebody has looked; follows "the ledger"
    has_unpriced: bool = False  # a row that waits has no price, and fits no budget; one of $0 fits any
    budget_allows: bool | None = None  # whether an image of its next row fits its budget; None: nobody looked
    stop: EmergencyStop | None = None  # `pause --all`: nobody claims a submit
    has_adopted: bool = False  # images of a lost ledger: what they cost is not on record


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
    reused: bool = False  # taken from another row, for nothing
    dest: str | None = None  # where it lies, when it is another batch's object
    image_id: int | None = None  # in the ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One manifest row and what became of it."""

    position: int
    line: int
    key: str
    carried: Mapping[str, object]  # own columns: text, or of JSONL what was there
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
    mode: str | None = None  # the provider's own route, where it has several
    estimated: bool = False  # a part of the cost is what was set aside: the provider told no usage
    #: Of the newest revision before it that has any: stored, and what the row has while it has none of its own.
    before: tuple[StoredImage, ...] = ()
    #: Of the newest revision that an image of the current one has taken the place of: stored, and still there.
    replaced: tuple[StoredImage, ...] = ()

    @property
    def texts(self) -> Mapping[str, str]:
        """The own columns as templates see them, and what dotted names lead to in them."""
        return TemplateColumns(self.carried)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFilter:
    """Which rows are wanted; without anything, all that are in the newest manifest."""

    states: tuple[JobState, ...] = ()
    error: str = ""  # the stable code that a row ended with
    is_held_code: bool = False  # whether held rows without a code of their own are said to have `error`
    prefix: str = ""  # what the key begins with: of rows that stand for a job


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPage:
    """Some rows. There may be more although the page is not full, or empty."""

    rows: list[Result]
    next: str | None  # what the next page is asked for with; None: there is no more


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
    taken_from: Mapping[tuple[int, int], TakenFrom] = field(default_factory=dict)  # by revision and slot: not bought


@dataclass(frozen=True, slots=True, kw_only=True)
class LearntFigures:
    """What a ledger knows of its accounts: limits by account, durations and costs by kind of task."""

    limits: Mapping[str, LearntLimits] = field(default_factory=dict)
    durations: Mapping[TaskKind, Durations] = field(default_factory=dict)
    costs: Mapping[CostKind, TokenCost] = field(default_factory=dict)  # of images that are billed by tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class DyingLinks:
    """Paid images of a batch that have waited long for their copy, and whose links die soon."""

    batch: str
    dest: str
    images: int
    money: int
    first_dies_at: float
    notify: tuple[str, ...] = ()  # as of the batch
