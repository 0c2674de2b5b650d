"""Batches of OpenAI's API on record: what was asked for, which of our batches makes it, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Select, and_, or_, select, update

from jobs.ledger.access.holds import goes_on
from jobs.ledger.database.schema import batches, openai_batches
from jobs.ledger.database.statements import INSERT
from jobs.ledger.openai import files
from jobs.ledger.openai.values import (
    OVER,
    LineError,
    NewRemoteBatch,
    NotWantedError,
    RemoteBatch,
    RemoteEnding,
    RemoteState,
)
from jobs.states import BatchState
from providers.types import clean

_ASKED = openai_batches.c
#: What a batch becomes of which nothing new is to be sent.
_CUT_SHORT = (RemoteState.CANCELLED.value, RemoteState.EXPIRED.value)
#: Errors of an input file that are kept.
MOST_ERRORS = 100


def ask(tx: Connection, new: NewRemoteBatch, now: float) -> RemoteBatch:
    """Puts what is asked for on record; the batch there is, where the same was asked for before."""
    values = {
        "name": new.name,
        "token_id": new.token_id,
        "fingerprint": new.fingerprint,
        "endpoint": new.endpoint,
        "input_file": new.input_file,
        "completion_window": new.window,
        "metadata": json.dumps({clean(name): clean(text) for name, text in new.metadata.items()}),
        "expires_at": new.expires_at,
        "state": RemoteState.VALIDATING.value,
        "created_at": now,
        "times": "{}",
        "output_seconds": new.output_seconds,
        "errors": "[]",
    }
    tx.execute(INSERT[tx.dialect.name](openai_batches).values(**values).on_conflict_do_nothing())
    found = same(tx, new.token_id, new.fingerprint)
    if found is None:
        raise LookupError(new.name)
    return found


def find(tx: Connection, name: str, of_token: int | None) -> RemoteBatch | None:
    """A batch by its name; `of_token`: as that token sees it."""
    wanted = _known().where(_ASKED.name == name)
    row = tx.execute(wanted if of_token is None else wanted.where(_ASKED.token_id == of_token)).first()
    return None if row is None else _as_batch(row)


def same(tx: Connection, token_id: int, fingerprint: str) -> RemoteBatch | None:
    """The batch that such a request of the token is answered with."""
    asked = (_ASKED.token_id == token_id, _ASKED.fingerprint == fingerprint)
    row = tx.execute(_known().where(*asked)).first()
    return None if row is None else _as_batch(row)


def page(tx: Connection, most: int, *, after: int | None, of_token: int | None) -> list[RemoteBatch]:
    """The newest first; `after`: those that are older than the one of that number."""
    wanted = _known().order_by(_ASKED.id.desc()).limit(most)
    if after is not None:
        wanted = wanted.where(_ASKED.id < after)
    if of_token is not None:
        wanted = wanted.where(_ASKED.token_id == of_token)
    return [_as_batch(row) for row in tx.execute(wanted)]


# -- work on them --------------------------------------------------------------------------------------------------


def due(tx: Connection, now: float, most: int, besides: Collection[int] = ()) -> list[RemoteBatch]:
    """Batches that somebody has to do something for, and that nobody is at.

    They are to be read, or their time is over, or nothing of them is on its way any more. Held rows wait for a person,
    and keep a batch from nothing. `besides`: tokens whose turn it is not.
    """
    over = or_(_ASKED.expires_at <= now, batches.c.state == BatchState.CANCELLED.value)
    wanted = or_(
        _ASKED.state == RemoteState.VALIDATING.value,
        and_(_ASKED.state == RemoteState.IN_PROGRESS.value, over),
        and_(_ASKED.ends_as.in_(_CUT_SHORT), batches.c.state != BatchState.CANCELLED.value),
        and_(_ASKED.batch_id.is_not(None), ~goes_on(_ASKED.batch_id)),
    )
    open_ = _ASKED.state.not_in([state.value for state in OVER]) & _ASKED.token_id.not_in(besides)
    rows = tx.execute(_known().where(open_, _is_free(now), wanted).order_by(_ASKED.id).limit(most))
    return [_as_batch(row) for row in rows]


def taken(tx: Connection) -> list[RemoteBatch]:
    """Batches that are not over, and that a process is at, or was."""
    open_ = (_ASKED.state.not_in([state.value for state in OVER]), _ASKED.taken_by.is_not(None))
    return [_as_batch(row) for row in tx.execute(_known().where(*open_).order_by(_ASKED.id))]


def in_progress(tx: Connection) -> list[RemoteBatch]:
    """Batches of which something is still to be sent or on its way."""
    rows = tx.execute(_known().where(_ASKED.state == RemoteState.IN_PROGRESS.value).order_by(_ASKED.id))
    return [_as_batch(row) for row in rows]


def take(tx: Connection, number: int, holder: str, now: float, until: float) -> RemoteBatch | None:
    """The batch is the holder's until then; None: it is over, or somebody is at it."""
    mine = (_ASKED.id == number, _ASKED.state.not_in([state.value for state in OVER]), _is_free(now))
    if not tx.execute(update(openai_batches).where(*mine).values(taken_by=holder, taken_until=until)).rowcount:
        return None
    return _as_batch(tx.execute(_known().where(_ASKED.id == number)).one())


def _is_free(now: float) -> Any:
    return or_(_ASKED.taken_until.is_(None), _ASKED.taken_until <= now)


def keep(tx: Connection, number: int, holder: str, until: float) -> bool:
    """The holder goes on; False: the batch is somebody else's by now, or was cancelled before it was on record."""
    mine = (_ASKED.id == number, _ASKED.taken_by == holder, _ASKED.state.not_in([state.value for state in OVER]))
    return tx.execute(update(openai_batches).where(*mine).values(taken_until=until)).rowcount > 0


def leave(tx: Connection, number: int, holder: str, until: float, *, failed: bool = False) -> None:
    """The holder is done with it for now; nobody takes it before `until`. `failed`: it is to be tried again."""
    mine = (_ASKED.id == number, _ASKED.taken_by == holder)
    tries = _ASKED.tries + 1 if failed else _ASKED.tries
    tx.execute(update(openai_batches).where(*mine).values(taken_until=until, taken_by=None, tries=tries))


def attach(tx: Connection, number: int, batch_id: int, now: float) -> None:
    """Our batch is what makes it; in the transaction that records the batch.

    Raises:
        NotWantedError: It was cancelled, or was recorded before.
    """
    wanted = (_ASKED.id == number, _ASKED.state == RemoteState.VALIDATING.value, _ASKED.batch_id.is_(None))
    if not tx.execute(update(openai_batches).where(*wanted).values(batch_id=batch_id)).rowcount:
        raise NotWantedError
    _become(tx, number, RemoteState.IN_PROGRESS, now)


def fail(tx: Connection, number: int, errors: Sequence[LineError], now: float) -> None:
    """Nothing is made of it."""
    told = json.dumps([{**each.to_json(), "message": clean(each.message)} for each in errors[:MOST_ERRORS]])
    still = (_ASKED.id == number, _ASKED.state == RemoteState.VALIDATING.value)
    if tx.execute(update(openai_batches).where(*still).values(errors=told)).rowcount:
        _become(tx, number, RemoteState.FAILED, now)


def cancel(tx: Connection, number: int, now: float) -> None:
    """Nothing new is sent for it; the caller cancels our batch. What is not on record yet ends here."""
    row = tx.execute(select(openai_batches).where(_ASKED.id == number).with_for_update()).one()
    if row.state == RemoteState.VALIDATING:
        _become(tx, number, RemoteState.CANCELLED, now)
    elif row.state == RemoteState.IN_PROGRESS:
        end(tx, number, RemoteState.CANCELLED, now)


def end(tx: Connection, number: int, state: RemoteState, now: float) -> None:
    """It ends as `state` when nothing is on its way any more."""
    becoming = RemoteState.CANCELLING if state is RemoteState.CANCELLED else RemoteState.FINALIZING
    tx.execute(update(openai_batches).where(_ASKED.id == number).values(ends_as=state.value))
    _become(tx, number, becoming, now)


def is_going_on(tx: Connection, number: int) -> bool:
    """Whether something of its batch may still be sent by itself, or is on its way."""
    of_it = select(batches.c.id).where(batches.c.id == _ASKED.batch_id, goes_on(batches.c.id))
    return tx.execute(select(_ASKED.id).where(_ASKED.id == number, of_it.exists())).first() is not None


def finish(tx: Connection, number: int, holder: str, ending: RemoteEnding, now: float) -> bool:
    """Its files are written, and it is over. False: somebody else was at it."""
    row = tx.execute(select(openai_batches).where(_ASKED.id == number).with_for_update()).one()
    if row.taken_by != holder or RemoteState(row.state) in OVER:
        return False
    names = [None if file is None else files.add(tx, file, now).name for file in (ending.output, ending.errors)]
    total, completed, failed = ending.counts
    tx.execute(
        update(openai_batches)
        .where(_ASKED.id == number)
        .values(
            output_file=names[0],
            error_file=names[1],
            rows_total=total,
            rows_completed=completed,
            rows_failed=failed,
            taken_by=None,
        )
    )
    _become(tx, number, ending.state, now)
    return True


def _become(tx: Connection, number: int, state: RemoteState, now: float) -> None:
    times = json.loads(tx.execute(select(_ASKED.times).where(_ASKED.id == number)).scalar_one())
    told = json.dumps({**times, state.value: now})
    tx.execute(update(openai_batches).where(_ASKED.id == number).values(state=state.value, times=told))


def _known() -> Select[Any]:
    return select(openai_batches, batches.c.name.label("of_batch")).select_from(
        openai_batches.outerjoin(batches, batches.c.id == _ASKED.batch_id)
    )


def _as_batch(row: Any) -> RemoteBatch:
    counted = row.rows_total is not None
    return RemoteBatch(
        id=row.id,
        name=row.name,
        token_id=row.token_id,
        fingerprint=row.fingerprint,
        endpoint=row.endpoint,
        input_file=row.input_file,
        window=row.completion_window,
        metadata=json.loads(row.metadata),
        expires_at=row.expires_at,
        output_seconds=row.output_seconds,
        batch=row.of_batch,
        state=RemoteState(row.state),
        ends_as=None if row.ends_as is None else RemoteState(row.ends_as),
        errors=json.loads(row.errors),
        created_at=row.created_at,
        times=json.loads(row.times),
        output_file=row.output_file,
        error_file=row.error_file,
        counts=(row.rows_total, row.rows_completed, row.rows_failed) if counted else None,
        tries=row.tries,
        taken_by=row.taken_by,
    )
