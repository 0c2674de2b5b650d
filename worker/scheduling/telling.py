"""What was decided of a schedule's time, for the log."""

from __future__ import annotations

from jobs.formatting import utc
from jobs.ledger.schedules.values import Decided
from jobs.states import FiringState
from worker.runtime.telemetry import emit


def tell(one: Decided) -> None:
    """One line of the log."""
    schedule, at = one.schedule, utc(one.at)
    if one.state is None:
        emit("schedule_put_right", level="warning", schedule=schedule, at=at)
    elif one.state is FiringState.SKIPPED:
        emit("schedule_skipped", level="warning", schedule=schedule, at=at, problem=one.message)
    elif one.state is FiringState.MISSED:
        emit("schedule_missed", level="warning", schedule=schedule, at=at, problem=one.message)
    elif one.state is FiringState.QUEUED:
        emit("schedule_queued", schedule=schedule, at=at)
    else:
        emit("schedule_fired", schedule=schedule, at=at)
