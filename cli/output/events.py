"""Log events as a person reads them, between the lines of the screen."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from jobs.formatting import plain
from jobs.log_events import EVENTS, NEWS

#: Told although they go well: whoever looks at a run waits for them.
GOOD_NEWS = frozenset({"copies_keep_up_again", "destination_takes_again"})
#: Told by the screen itself, with what helps, when it begins or for as long as it lasts; or by the summary at its end.
SHOWN = (
    frozenset({*NEWS, "ledger_at_risk", "ledger_is_read_only", "ledger_takes_no_writes", "nothing_can_be_stored"})
    - GOOD_NEWS
)


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


def _rest(fields: Mapping[str, Any]) -> Iterator[str]:
    for name, value in fields.items():
        if value is not None and not name.endswith("_id"):
            yield f"{name.replace('_', ' ')} {value}"
