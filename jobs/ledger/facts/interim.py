"""Facts that end nothing: a task still runs, bytes are checked, a copy waits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Integer, Text, bindparam, case, func, literal_column, select, update

from jobs.facts import ImageChecked, ImageDelayed, TaskStillRunning
from jobs.ledger.database.events import event_row, write_or_count
from jobs.ledger.database.many import update_many
from jobs.ledger.database.schema import attempts, images, state_of_found
from jobs.states import ImageState
from providers.types import RAW_LIMIT, clean

#: The code of a poll whose answer names a state nobody documents: the task is there. Any other code says nothing of it.
UNKNOWN_STATUS = "status_not_known"

#: A provider may call back before its own answers know. Within `HINT_LASTS` seconds of a callback, a task that is said
#: to run is asked about again after `AGAIN` seconds.
HINT_LASTS, AGAIN = 10.0, 2.0

_SAID_AGAIN = attempts.c.doubt == bindparam("new_doubt", type_=Text)

_STILL_RUNNING = (
    update(attempts)
    .where(attempts.c.id == bindparam("of_attempt"), attempts.c.next_poll_at.is_not(None))
    .values(
        ran_at=case((bindparam("runs") == 1, bindparam("seen_at")), else_=attempts.c.ran_at),
        # A claim has put it off by its lease: where it is due now, a callback came meanwhile, and this answer is old.
        next_poll_at=case(
            (attempts.c.next_poll_at <= bindparam("seen_at"), attempts.c.next_poll_at),
            ((bindparam("runs") == 1) & (attempts.c.hinted_at > bindparam("hinted_since")), bindparam("soon")),
            else_=bindparam("then"),
        ),
        not_found_since=case(
            (bindparam("missed") == 1, func.coalesce(attempts.c.not_found_since, bindparam("seen_at"))),
            (bindparam("told") == 0, attempts.c.not_found_since),
            else_=None,
        ),
        # A poll that tells nothing of the task leaves its doubt as it is; one that says it runs takes it back.
        doubt=case(
            (bindparam("new_doubt", type_=Text).is_not(None), bindparam("new_doubt", type_=Text)),
            (bindparam("told") == 1, None),
            else_=attempts.c.doubt,
        ),
        doubted_since=case(
            (_SAID_AGAIN, attempts.c.doubted_since),
            (bindparam("new_doubt", type_=Text).is_not(None), bindparam("seen_at")),
            (bindparam("told") == 1, None),
            else_=attempts.c.doubted_since,
        ),
        doubts=case(
            # Not one more: a fact whose commit was not confirmed is recorded once more, and is still one answer.
            (_SAID_AGAIN & (attempts.c.doubts >= bindparam("answers")), attempts.c.doubts),
            (_SAID_AGAIN, bindparam("answers")),
            (bindparam("new_doubt", type_=Text).is_not(None), 1),
            (bindparam("told") == 1, 0),
            else_=attempts.c.doubts,
        ),
    )
)


def keep_running(tx: Connection, facts: Sequence[TaskStillRunning]) -> None:
    """When each is to be asked about next; what an answer had odd about it is kept as an event."""
    if not facts:
        return
    values = [
        {
            "of_attempt": f.attempt_id,
            "then": f.next_poll_at,
            "missed": int(f.not_found),
            "told": int(f.code in (None, UNKNOWN_STATUS) or f.doubt is not None),
            "new_doubt": f.doubt,
            "answers": f.answers,
            "runs": int(f.code is None),
            "seen_at": f.at,
            "hinted_since": f.at - HINT_LASTS,
            "soon": min(f.next_poll_at, f.at + AGAIN),
        }
        for f in facts
    ]
    update_many(tx, _STILL_RUNNING, values)
    odd = [f for f in facts if f.code is not None]
    if odd:
        wanted = select(attempts).where(attempts.c.id.in_({f.attempt_id for f in odd}))
        known = {row.id: row for row in tx.execute(wanted)}
        told = [event_row(_ODD_POLL, f.at, known[f.attempt_id], _said(f)) for f in odd if f.attempt_id in known]
        write_or_count(tx, told)


_ODD_POLL = "poll_not_understood"


def _said(fact: TaskStillRunning) -> dict[str, Any]:
    return {"code": fact.code, "message": clean(fact.message or ""), "raw": clean(fact.raw, RAW_LIMIT)}


#: Literal, as many are written with one statement. An image that was given up too: its copy may be under way.
_NOT_STORED: list[Any] = [literal_column(f"'{state.value}'") for state in (ImageState.GENERATED, ImageState.LOST)]
_CHECKED = (
    update(images)
    .where(images.c.id == bindparam("of_image"), state_of_found.in_(_NOT_STORED))
    .values({name: bindparam(f"new_{name}") for name in (
        "object_path", "sha256", "bytes", "width", "height", "format", "flags")})
)  # fmt: skip


def keep_checks(tx: Connection, facts: Sequence[ImageChecked]) -> None:
    """What the bytes are, before they are put."""
    values = [
        {
            "of_image": f.image_id,
            "new_object_path": f.object_path,
            "new_sha256": f.sha256,
            "new_bytes": f.bytes,
            "new_width": f.width,
            "new_height": f.height,
            "new_format": f.format,
            "new_flags": json.dumps(f.flags) if f.flags else None,
        }
        for f in facts
    ]
    if values:
        update_many(tx, _CHECKED, values)


_DELAYED = (
    update(images)
    .where(images.c.id == bindparam("of_image"), literal_column("'generated'") == state_of_found)
    .values(
        next_copy_at=bindparam("then"),
        lease_until=None,
        error_code=bindparam("code"),
        message=bindparam("said"),
        url=func.coalesce(bindparam("fresh_url"), images.c.url),
        spool=func.coalesce(bindparam("kept_in"), images.c.spool),
        expires_at=func.coalesce(bindparam("fresh_expiry"), images.c.expires_at),
        object_path=case((bindparam("forget", type_=Integer) == 1, None), else_=images.c.object_path),
    )
)


def keep_delays(tx: Connection, facts: Sequence[ImageDelayed]) -> None:
    """When each copy is tried again, with a fresh link where there is one."""
    values = [
        {
            "of_image": f.image_id,
            "then": f.next_copy_at,
            "code": f.code,
            "said": clean(f.message),
            "fresh_url": f.url,
            "kept_in": f.spool,
            "fresh_expiry": f.expires_at,
            "forget": int(f.forget_object),
        }
        for f in facts
    ]
    if values:
        update_many(tx, _DELAYED, values)
