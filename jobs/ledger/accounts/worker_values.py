"""What worker processes tell of themselves and of the destinations they write to, and what a person tells them all."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.states import TroubleKind


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerProcess:
    """A worker process, as it last told of itself."""

    name: str
    seen_at: float
    looked_at: float | None  # when the laziest of its lanes last looked for work


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationTrouble:
    """Why nothing new is sent for a destination, as one process says it."""

    dest: str
    kind: TroubleKind
    since: float
    code: str
    message: str
    said_by: str = ""  # set when it is heard


@dataclass(frozen=True, slots=True, kw_only=True)
class EmergencyStop:
    """`pause --all`: nobody claims a submit."""

    since: float
    by: str  # USER@HOST
