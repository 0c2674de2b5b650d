"""Log events as a person at a terminal reads them, between the lines of the screen."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import structlog

from jobs.formatting import plain
from jobs.log_events import EVENTS, NEWS

#: Told although they go well: whoever looks at a run waits for them.
GOOD_NEWS = frozenset({"copies_keep_up_again", "destination_takes_again"})
#: Told by the panel of a terminal itself, with what helps, for as long as it lasts; or by the summary at its end.
SHOWN = (
    frozenset({*NEWS, "ledger_at_risk", "ledger_is_read_only", "ledger_takes_no_writes", "nothing_can_be_stored"})
    - GOOD_NEWS
)
#: The same of plain lines, which say each only once: a log of them also names what holds up a destination.
SHOWN_IN_LINES = frozenset(NEWS) - GOOD_NEWS - {"copies_fall_behind", "destination_refuses"}

_PLAIN = structlog.dev.ConsoleRenderer(colors=False, sort_keys=False)


def said(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """A line like "02:14:07Z warning: the ledger cannot be reached, and is tried again: connection refused"."""
    at, level, name = str(event.pop("timestamp", "")), event.pop("level", "info"), event.pop("event")
    traceback = event.pop("exception", None) if os.environ.get("LIGHTFAST_DEBUG") else None
    event.pop("exception", None)
    why = event.pop("problem", None) or event.pop("message", None)
    rest = ", ".join(_rest(event))
    line = f"{at[11:19]}Z {level}: {EVENTS[name].means if name in EVENTS else name.replace('_', ' ')}"
    line += f": {why}" if why else ""
    line += f" ({rest})" if rest else ""
    return plain(f"{line}\n{traceback}" if traceback else line)


def logged(logger: object, method: str, event: MutableMapping[str, Any]) -> str:
    """The line of a log that is read later: the event with its fields, and what it means if no problem is told."""
    if "problem" not in event and event["event"] in EVENTS:
        event["problem"] = EVENTS[event["event"]].means
    return plain(str(_PLAIN(logger, method, event)))


def _rest(fields: Mapping[str, Any]) -> Iterator[str]:
    for name, value in fields.items():
        if value is not None and not name.endswith("_id"):
            yield f"{name.replace('_', ' ')} {value}"
