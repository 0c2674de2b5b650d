"""Facts, each recorded by id, whatever the lease or the state says by then. Recording one twice changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.policy.doubts import Doubt
from jobs.policy.endings import OF_KIND, Ending
from providers.types import Kind, Link


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
class MadeImage:
    """One image of a finished provider task."""

    link: Link  # its `b64` is never recorded: the bytes are in `spool` by then
    spool: str | None  # with neither this nor a link it is on record already
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSucceeded:
    """The provider's task has images; from a poll, or from a submit answered at once (`task_id` may be None then)."""

    attempt_id: int
    at: float
    images: tuple[MadeImage, ...]
    task_id: str | None = None
    at_once: bool = False  # the submit itself was answered so
    cost: int | None = None  # micro-dollars of the task, by its usage; None: its images' price on record
    no_usage: str | None = None  # why a task that is billed by its usage is charged at what was set aside
    took: tuple[float, float] | None = None  # seconds at least and at most, where the provider tells


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDelivered:
    """The provider's task is called done with fewer images than were asked for; it is asked about on for the others."""

    attempt_id: int
    at: float
    images: tuple[MadeImage, ...]  # all that the answer names
    next_poll_at: float


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
    since: float | None = None  # when it was first said; None: now


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
    doubt: Doubt | None = None  # it is said to have ended, and not yet believed
    answers: int = 1  # that have said so without a break, this one included
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
    format: str  # "png", "jpeg", "webp", or another that came
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
    next_copy_at: float | None  # None: not by itself; it waits for a person's word
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
class ReuseGone:
    """An image that was to be taken from another row is not there as it was. Nothing was paid, nothing is lost."""

    image_id: int
    at: float
    code: str
    message: str


#: Facts that end a submit or a provider task.
AttemptFact = SubmitAccepted | SubmitRefused | SubmitUnclear | TaskSucceeded | PartDelivered | TaskFailed

Fact = (
    SubmitAccepted
    | SubmitRefused
    | SubmitUnclear
    | TaskSucceeded
    | PartDelivered
    | TaskFailed
    | TaskStillRunning
    | ImageChecked
    | ImageStored
    | ImageDelayed
    | ImageLost
    | ReuseGone
)


#: The code of an attempt that is billed by its usage, and whose answer told none: charged at what was set aside.
CHARGE_ESTIMATED = "charge_estimated"
