"""Files and batches of OpenAI's API, as values. Times are Unix seconds."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class FilePurpose(enum.StrEnum):
    """What a file is for; OpenAI's words."""

    BATCH = "batch"  # sent by a program, to be the input of a batch
    BATCH_OUTPUT = "batch_output"  # the results of a batch, or its errors


class RemoteState(enum.StrEnum):
    """How far a batch of OpenAI's API is; OpenAI's words."""

    VALIDATING = "validating"  # its file is being read; nothing is on record
    FAILED = "failed"  # its file is wrong, or may not be made; nothing was spent
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"  # nothing is sent any more; its files are being written
    COMPLETED = "completed"
    EXPIRED = "expired"  # its time was over; what was paid is in its files
    CANCELLING = "cancelling"  # nothing new is sent; what was paid is still stored
    CANCELLED = "cancelled"


#: Nothing more happens to it.
OVER = (RemoteState.FAILED, RemoteState.COMPLETED, RemoteState.EXPIRED, RemoteState.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A file that is to be put on record; its bytes lie at `place` already."""

    name: str  # "file-…": what programs know it by
    token_id: int
    purpose: FilePurpose
    filename: str
    bytes: int
    place: str  # below where such files are kept
    parts: int = 0  # of how many objects it consists; 0: it is one
    expires_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile(NewFile):
    """A file on record."""

    id: int
    created_at: float
    deleted_at: float | None  # its bytes are gone, or are going


@dataclass(frozen=True, slots=True, kw_only=True)
class LineError:
    """What is wrong with the input file, in OpenAI's form."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As the API tells it, and the ledger keeps it."""
        return {"code": self.code, "line": self.line, "message": self.message, "param": self.param}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRemoteBatch:
    """A batch that a program asks for."""

    name: str  # "batch_…"
    token_id: int
    fingerprint: str  # the same for requests that are answered with the same batch
    endpoint: str
    input_file: str
    window: str
    metadata: Mapping[str, str]
    expires_at: float
    output_seconds: float  # for which its files are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteBatch(NewRemoteBatch):
    """A batch of OpenAI's API on record. `times`: when it came into each state."""

    id: int
    batch: str | None  # the batch that makes it; None: it is not on record yet
    state: RemoteState
    ends_as: RemoteState | None  # what it becomes when nothing is on its way any more
    errors: Sequence[Mapping[str, Any]]
    created_at: float
    times: Mapping[str, float] = field(default_factory=dict)
    output_file: str | None = None
    error_file: str | None = None
    counts: tuple[int, int, int] | None = None  # all, completed, failed; None: not known or still counted
    tries: int = 0
    taken_by: str | None = None  # the process that is at it: HOST:PID:…


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteEnding:
    """How a batch of OpenAI's API has ended."""

    state: RemoteState
    counts: tuple[int, int, int]
    output: NewFile | None
    errors: NewFile | None


class NotWantedError(Exception):
    """The request was cancelled, or is at another process by now: nothing was recorded for it."""
