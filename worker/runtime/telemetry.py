"""Logs are events: a constant name and fields, ids and not objects. Text is made here and nowhere else."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Container, MutableMapping
from typing import Any

import structlog
from structlog.typing import Processor

from jobs.formatting import plain
from jobs.log_events import Level


def emit(event: str, *, level: Level = "info", **fields: object) -> None:
    """Says that something happened: `emit("image_lost", level="warning", image_id=7)`.

    The event stands in `jobs/log_events.py`, with this level and these fields.
    """
    # A terminal that is gone ends no work: whoever records what was paid must not fail over a line of its log.
    with contextlib.suppress(OSError, ValueError):
        getattr(structlog.get_logger("lightfast"), level)(event, **fields)


def _head_first(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """When, how bad and what, then the rest: a line of JSON is read by people, too."""
    return {**{name: event[name] for name in ("timestamp", "level", "event")}, **event}


def is_telling(times: int) -> bool:
    """Whether a trouble that has come `times` times without an end is worth a line: at 1, 2, 4, 8 and so on."""
    return times & (times - 1) == 0


_CONSOLE = structlog.dev.ConsoleRenderer(colors=False, sort_keys=False)


def _as_text(logger: object, method: str, event: MutableMapping[str, Any]) -> str:
    """A line of text; what comes from a provider or a manifest holds nothing that a terminal obeys."""
    return plain(str(_CONSOLE(logger, method, event)))


def configure(
    log: str = "text",
    *,
    level: Level = "info",
    told: Processor | None = None,
    untold: Container[str] = (),
    always: Container[str] = (),
) -> None:
    """Events go to stderr, as text or as JSON lines, with times in UTC.

    `told`: makes the line of an event instead. `untold`, `always`: names of events that are left out, and that are told
    at "info" too, whatever `level` is.
    """
    least = getattr(logging, level.upper())

    def chosen(_logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        is_loud = getattr(logging, method.upper()) >= least or event["event"] in always
        if event["event"] in untold or not is_loud:
            raise structlog.DropEvent
        return event

    json: Processor = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            chosen,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _head_first,
            told or (json if log == "json" else _as_text),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(min(least, logging.INFO)),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
