"""The destination's mark: `DEST/.lightfast/BATCH.json` says which ledger fills it, so that no second one pays again."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import orjson

from jobs.errors import BadInput
from jobs.formatting import utc
from worker.storage.base import OWN, PutResult, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnershipMark:
    """Who works on a batch at a destination."""

    ledger: str
    host: str
    at: str  # UTC, ISO 8601
    path: str = ""  # the batch's path template; "": an older mark, which does not tell
    moved_from: str = ""  # the destination that the batch is being moved from, whose mark is removed last


def look(store: Store, batch: str) -> OwnershipMark | None:
    """The batch's mark; None when nobody has left one. An unreadable one counts as another's."""
    content = store.read(_path(batch))
    if content is None:
        return None
    try:
        values = orjson.loads(content)
        named = {name: str(values[name]) for name in ("ledger", "host", "at")}
        more = {name: str(values.get(name, "")) for name in ("path", "moved_from")}
        return OwnershipMark(**named, **more)
    except (ValueError, KeyError, TypeError):
        return OwnershipMark(ledger="?", host="?", at="?")


def claim_destination(  # noqa: PLR0913  the mark, and how it is left
    store: Store,
    batch: str,
    ledger_id: str,
    now: float,
    *,
    new_ledger: bool = False,
    path: str = "",
    moved_from: str = "",
) -> None:
    """Leaves our mark before money is spent. `new_ledger`: takes the destination over from another ledger.

    `moved_from`: where the batch is moved from; `is_moved` ends that.

    Raises:
        BadInput: Another ledger's mark is there.
    """
    mark = _mark(ledger_id, now, path, moved_from)
    if store.put_new(_path(batch), mark, content_type="application/json") is PutResult.STORED:
        return
    found = look(store, batch)
    if found is not None and found.ledger == ledger_id and moved_from in ("", found.moved_from):
        return
    if found is not None and found.ledger != ledger_id and not new_ledger:
        raise BadInput(another(store, batch, found))
    store.put(_path(batch), mark, content_type="application/json")


def is_moved(store: Store, batch: str, ledger_id: str, now: float, *, path: str) -> None:
    """Notes that the batch's move to this destination is finished."""
    store.put(_path(batch), _mark(ledger_id, now, path, ""), content_type="application/json")


def _mark(ledger_id: str, now: float, path: str, moved_from: str) -> bytes:
    told = {"ledger": ledger_id, "host": socket.gethostname(), "at": utc(now), "path": path}
    return orjson.dumps({**told, "moved_from": moved_from} if moved_from else told)


def release(store: Store, batch: str, ledger_id: str) -> None:
    """Takes our mark away, if it is ours. Raises `StoreError`."""
    found = look(store, batch)
    if found is not None and found.ledger == ledger_id:
        store.delete(_path(batch))


def another(store: Store, batch: str, found: OwnershipMark) -> str:
    """What a user is told who would pay for a batch a second time."""
    return (
        f"{store.url_of(_path(batch))}: the batch {batch} was begun on {found.host} at {found.at} with another ledger "
        f"({found.ledger[:12]}). This one knows nothing of what is paid there and would pay again. "
        "Run where that ledger is (database_url; a rehearsal with --sandbox has its own), name another --batch, or pay "
        "again with --new-ledger. If that ledger is lost,  lightfast adopt DEST  rebuilds it from the stored images."
    )


def _path(batch: str) -> str:
    return f"{OWN}/{batch}.json"
