"""Logs are events: a constant name and fields, ids and not objects. Text is made here and nowhere else."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Container, MutableMapping
from typing import Any, Literal

import structlog
from structlog.typing import Processor

#: Nothing is said of a single image at info: a million of them would cost more than they tell.
Level = Literal["debug", "info", "warning", "error"]


def emit(event: str, *, level: Level = "info", **fields: object) -> None:
    """Says that something happened: `emit("submit_unclear", attempt_id=7, code="outcome_unknown")`."""
    # A terminal that is gone ends no work: whoever records what was paid must not fail over a line of its log.
    with contextlib.suppress(OSError, ValueError):
        getattr(structlog.get_logger("lightfast"), level)(event, **fields)


def configure(
    log: str = "text", *, level: Level = "info", told: Processor | None = None, untold: Container[str] = ()
) -> None:
    """Events go to stderr, as text or as JSON lines, with times in UTC.

    `told`: makes the line of an event instead. `untold`: names of events that are left out.
    """

    def chosen(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if event["event"] in untold:
            raise structlog.DropEvent
        return event

    plain = structlog.processors.JSONRenderer() if log == "json" else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            chosen,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            told or plain,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
