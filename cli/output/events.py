"""Log events as a person at a terminal reads them, between the lines of the screen."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import structlog

#: Told by the screen itself, with what helps, for as long as it lasts.
SHOWN = frozenset(
    {
        "batch_paused_itself",
        "copies_fall_behind",
        "destination_refuses",
        "ledger_at_risk",
        "ledger_is_read_only",
        "ledger_takes_no_writes",
        "nothing_can_be_stored",
    }
)
#: The event in words; of one that is not here, its name.
WORDS = {
    "claim_failed": "the ledger could not be asked for work, and is asked again",
    "copy_failed": "a copy failed by a fault of Lightfast, and is tried again",
    "copies_keep_up_again": "copies are fast enough again, and submits go on",
    "daily_budget_changes": "a daily budget changes",
    "destination_fails_verification": "the destination kept other bytes than it was given",
    "destination_takes_again": "the destination takes writes again",
    "fact_set_aside": "an answer could not be recorded, and is kept in the rescue file",
    "group_not_recorded": "answers could not be recorded together, and are recorded one by one",
    "image_kept": "an image is kept on this disk until it can be stored",
    "image_lost": "a paid image is lost",
    "image_needs_a_person": "a paid image cannot be stored without you",
    "image_not_kept": "an image could not be kept on this disk",
    "images_are_stored_again": "images can be stored again",
    "ledger_at_risk": "a setting of the database server puts what is paid at risk",
    "ledger_is_away": "the ledger cannot be reached, and is tried again",
    "ledger_is_locked": (
        "another program writes to the ledger, perhaps a backup or a database shell: nothing new is sent until it has "
        "finished, and answers that come meanwhile are recorded then"
    ),
    "ledger_takes_writes_again": "the ledger takes writes again",
    "path_conflict": "another object has an image's path; the image is stored beside it",
    "poll_failed": "a poll failed by a fault of Lightfast, and is tried again",
    "poll_refused": "a provider refuses polls",
    "polls_together_off": "a provider refuses to be asked about many tasks at once; each is asked about alone",
    "recorder_failed": "the recorder failed by a fault of Lightfast",
    "rescue_replayed": "answers that were kept in a file are recorded now",
    "rows_moved": "rows go to another provider",
    "submit_failed": "a submit failed by a fault of Lightfast",
    "submits_became_unknown": "submits were cut off before their answers: their outcomes are unknown",
    "unknown_paid_again": "attempts whose outcomes are unknown are made again, as on_unknown says",
}

_PLAIN = structlog.dev.ConsoleRenderer(colors=False)


def said(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """A line like "02:14:07Z warning: the ledger cannot be reached, and is tried again: connection refused"."""
    at, level, name = str(event.pop("timestamp", "")), event.pop("level", "info"), event.pop("event")
    traceback = event.pop("exception", None) if os.environ.get("LIGHTFAST_DEBUG") else None
    event.pop("exception", None)
    why = event.pop("problem", None) or event.pop("message", None)
    rest = ", ".join(_rest(event))
    line = f"{at[11:19]}Z {level}: {WORDS.get(name, name.replace('_', ' '))}"
    line += f": {why}" if why else ""
    line += f" ({rest})" if rest else ""
    return f"{line}\n{traceback}" if traceback else line


def logged(logger: object, method: str, event: MutableMapping[str, Any]) -> str:
    """The line of a log that is read later: the event with its fields, and what it means if no problem is told."""
    if "problem" not in event and event["event"] in WORDS:
        event["problem"] = WORDS[event["event"]]
    return _PLAIN(logger, method, event)


def _rest(fields: Mapping[str, Any]) -> Iterator[str]:
    for name, value in fields.items():
        if value is not None and not name.endswith("_id"):
            yield f"{name.replace('_', ' ')} {value}"
