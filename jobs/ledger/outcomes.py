"""Facts become rows. Facts stand above leases: each is recorded by id, whatever the lease or the state says by then.

One transaction takes a group of facts. It locks accounts, then batches, each in order, and only then reads the
attempts and images, so two groups never wait for each other in a ring. A fact that the state does not allow any more
(told twice, or overtaken) changes nothing but is kept as an event. Recording the same group again is harmless.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import BindParameter, Connection, bindparam, case, func, insert, literal_column, select, update

from jobs import retry
from jobs.endings import OUR_OWN, REACTIONS, Ending, Silence
from jobs.endings import Row as RowEnding
from jobs.ledger import days, moves
from jobs.ledger.account_news import tell_account
from jobs.ledger.derived import derive_jobs
from jobs.ledger.events import event_row, write_events, write_or_count
from jobs.ledger.schema import ATTEMPTS_AN_ACCOUNT, accounts, attempts, batches, images, jobs
from jobs.ledger.server import FOR_NOBODY
from jobs.ledger.values import (
    AccountPaused,
    AttemptFact,
    Fact,
    ImageChecked,
    ImageDelayed,
    ImageLost,
    ImageStored,
    Made,
    SubmitAccepted,
    SubmitRefused,
    SubmitUnclear,
    TaskFailed,
    TaskStillRunning,
    TaskSucceeded,
)
from jobs.states import ATTEMPT_STEPS, Attempt, Image
from providers.dialect import MESSAGE_LIMIT, RAW_LIMIT, Kind, clean

ImageEnd = ImageStored | ImageLost
_F = TypeVar("_F")


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a job has to try again, or may not."""

    kind: Kind
    code: str
    message: str
    at: float
    revision: int  # of the attempt: what an older one met says nothing about a row that is made anew


@dataclass(slots=True)
class _Changes:
    """What a group of facts amounts to, gathered before it is written with one statement a kind."""

    attempts: list[dict[str, Any]] = field(default_factory=list)
    filled: list[dict[str, Any]] = field(default_factory=list)
    surplus: list[dict[str, Any]] = field(default_factory=list)
    twins: dict[int, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))  # by account
    freed: set[int] = field(default_factory=set)  # attempts whose missing slots are free again
    failures: dict[int, list[_Failure]] = field(default_factory=lambda: defaultdict(list))  # job -> what went wrong
    delays: dict[int, float] = field(default_factory=dict)  # job -> not before
    rebuffed: dict[int, float] = field(default_factory=dict)  # job -> when a provider would not take it just then
    reserved: Counter[int] = field(default_factory=Counter)  # batch -> micro-dollars more or less
    charged: Counter[int] = field(default_factory=Counter)
    days: days.Moved = field(default_factory=Counter)  # what the days of the intents have cost, more or less
    touched: set[int] = field(default_factory=set)  # jobs whose slots changed
    events: list[dict[str, Any]] = field(default_factory=list)
    bells: set[str] = field(default_factory=set)
    accounts: dict[int, list[AttemptFact]] = field(default_factory=lambda: defaultdict(list))
    routes: moves.Routes | None = None


def record(tx: Connection, facts: Sequence[Fact], routes: moves.Routes | None = None) -> set[str]:
    """Writes a group of facts; returns the lanes that may have work now. `routes`: where failed rows may go."""
    bells: set[str] = set()
    _keep_running(tx, _of(facts, TaskStillRunning))
    _keep_checks(tx, _of(facts, ImageChecked))
    _keep_delays(tx, _of(facts, ImageDelayed))
    for pause in _of(facts, AccountPaused):
        _pause(tx, pause)
    ends = [fact for fact in facts if isinstance(fact, AttemptFact)]
    copies = [fact for fact in facts if isinstance(fact, ImageEnd)]
    if ends or copies:
        bells |= _settle(tx, ends, copies, routes)
    return bells


def _of(facts: Iterable[Any], kind: type[_F]) -> list[_F]:
    return [fact for fact in facts if isinstance(fact, kind)]


# -- facts that end nothing ----------------------------------------------------------------------------------------

#: The code of a poll whose answer names a state nobody documents: the task is there. Any other code says nothing of it.
UNKNOWN_STATUS = "status_not_known"

_STILL_RUNNING = (
    update(attempts)
    .where(attempts.c.id == bindparam("of_attempt"), attempts.c.next_poll_at.is_not(None))
    .values(
        next_poll_at=bindparam("then"),
        not_found_since=case(
            (bindparam("missed") == 1, func.coalesce(attempts.c.not_found_since, bindparam("seen_at"))),
            (bindparam("told") == 0, attempts.c.not_found_since),
            else_=None,
        ),
    )
)


def _keep_running(tx: Connection, facts: Sequence[TaskStillRunning]) -> None:
    if not facts:
        return
    values = [
        {
            "of_attempt": f.attempt_id,
            "then": f.next_poll_at,
            "missed": int(f.not_found),
            "told": int(f.code in (None, UNKNOWN_STATUS)),
            "seen_at": f.at,
        }
        for f in facts
    ]
    tx.execute(_STILL_RUNNING, values)
    odd = [f for f in facts if f.code is not None]
    if odd:
        known = _attempts(tx, [f.attempt_id for f in odd])
        told = [event_row(_ODD_POLL, f.at, known[f.attempt_id], _said(f)) for f in odd if f.attempt_id in known]
        write_or_count(tx, told)


_ODD_POLL = "poll_not_understood"


def _said(fact: TaskStillRunning) -> dict[str, Any]:
    return {"code": fact.code, "message": clean(fact.message or ""), "raw": clean(fact.raw, RAW_LIMIT)}


_CHECKED = (
    update(images)
    .where(images.c.id == bindparam("of_image"), images.c.state == literal_column("'generated'"))
    .values({name: bindparam(f"new_{name}") for name in (
        "object_path", "sha256", "bytes", "width", "height", "format", "flags")})
)  # fmt: skip


def _keep_checks(tx: Connection, facts: Sequence[ImageChecked]) -> None:
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
        tx.execute(_CHECKED, values)


_DELAYED = (
    update(images)
    .where(images.c.id == bindparam("of_image"), images.c.state == literal_column("'generated'"))
    .values(
        next_copy_at=bindparam("then"),
        lease_until=None,
        error_code=bindparam("code"),
        message=bindparam("said"),
        url=func.coalesce(bindparam("fresh_url"), images.c.url),
        expires_at=func.coalesce(bindparam("fresh_expiry"), images.c.expires_at),
        object_path=case((bindparam("forget") == 1, None), else_=images.c.object_path),
    )
)


def _keep_delays(tx: Connection, facts: Sequence[ImageDelayed]) -> None:
    values = [
        {
            "of_image": f.image_id,
            "then": f.next_copy_at,
            "code": f.code,
            "said": clean(f.message),
            "fresh_url": f.url,
            "fresh_expiry": f.expires_at,
            "forget": int(f.forget_object),
        }
        for f in facts
    ]
    if values:
        tx.execute(_DELAYED, values)


def _pause(tx: Connection, fact: AccountPaused) -> None:
    rest = {"paused_until": fact.until, "paused_code": fact.code, "paused_message": clean(fact.message)}
    tx.execute(update(accounts).where(accounts.c.name == fact.account).values(**rest))


# -- facts that end a submit, a provider task or a copy ------------------------------------------------------------


def _settle(
    tx: Connection, ends: Sequence[AttemptFact], copies: Sequence[ImageEnd], routes: moves.Routes | None
) -> set[str]:
    found = _attempts(tx, [fact.attempt_id for fact in ends])
    image_rows = _images(tx, [fact.image_id for fact in copies])
    names = _lock(tx, found.values(), image_rows.values())
    found = _attempts(tx, list(found))  # read again: now nobody else can change them
    image_rows = _images(tx, list(image_rows))
    changes = _Changes(routes=routes)
    slots = _slots_of(tx, [fact.attempt_id for fact in ends if isinstance(fact, TaskSucceeded)])
    for fact in _with_ids_of_their_own(tx, ends, found):
        if fact.attempt_id in found:
            found[fact.attempt_id] = _apply(changes, fact, found[fact.attempt_id], slots)
        elif isinstance(fact, SubmitAccepted):
            changes.events.append(_for_nobody(fact))
    for copy in copies:
        if copy.image_id in image_rows:
            _apply_copy(changes, copy, image_rows[copy.image_id])
    _write(tx, changes, names)
    return changes.bells


#: Bound once for statements that are built once: building them costs as much as running them.
_THESE: BindParameter[Any] = bindparam("these", expanding=True)


def _for_nobody(fact: SubmitAccepted) -> dict[str, Any]:
    """A task of an attempt that a restore has forgotten: paid, and this is all that is known of it."""
    whose = {"batch_id": None, "job_id": None, "attempt_id": fact.attempt_id}
    return {"at": fact.at, "name": FOR_NOBODY, **whose, "detail": json.dumps({"task_id": clean(fact.task_id)})}


def _with_ids_of_their_own(tx: Connection, ends: Sequence[AttemptFact], found: dict[int, Any]) -> list[AttemptFact]:
    """One provider task belongs to one attempt: its images under a second key would be another row's."""
    named = {clean(fact.task_id) for fact in ends if isinstance(fact, SubmitAccepted)}
    if not named:
        return list(ends)
    at = list({row.account_id for row in found.values()})
    owner = {(row.account_id, row.task_id): row.id for row in tx.execute(_OWNERS, {"at": at, "named": list(named)})}
    return [_own(fact, found, owner) if isinstance(fact, SubmitAccepted) else fact for fact in ends]


#: With the account, since the index begins with it: else each group of facts would read the whole table.
_OWNERS = select(attempts.c.account_id, attempts.c.task_id, attempts.c.id).where(
    attempts.c.account_id.in_(bindparam("at", expanding=True)),
    attempts.c.task_id.in_(bindparam("named", expanding=True)),
)


def _own(fact: SubmitAccepted, found: dict[int, Any], owner: dict[tuple[int, str], int]) -> AttemptFact:
    row, task_id = found.get(fact.attempt_id), clean(fact.task_id)
    if row is None or owner.setdefault((row.account_id, task_id), row.id) == row.id:
        return fact
    message = f"the answer names provider task {task_id}, which is another attempt's"
    return SubmitUnclear(attempt_id=row.id, at=fact.at, code="task_id_taken", message=message)


def _attempts(tx: Connection, ids: Sequence[int]) -> dict[int, Any]:
    if not ids:
        return {}
    return {row.id: row for row in tx.execute(_THESE_ATTEMPTS, {"these": list(set(ids))})}


_THESE_ATTEMPTS = select(attempts).where(attempts.c.id.in_(_THESE))


def _images(tx: Connection, ids: Sequence[int]) -> dict[int, Any]:
    if not ids:
        return {}
    return {row.id: row for row in tx.execute(_THESE_IMAGES, {"these": list(set(ids))})}


_THESE_IMAGES = select(images.c.id, images.c.batch_id, images.c.job_id, images.c.state, images.c.surplus).where(
    images.c.id.in_(_THESE)
)


def _lock(tx: Connection, found: Iterable[Any], image_rows: Iterable[Any]) -> dict[int, Any]:
    found = list(found)
    account_ids = {row.account_id for row in found}
    batch_ids = {row.batch_id for row in found} | {row.batch_id for row in image_rows}
    told = tx.execute(_LOCK_ACCOUNTS, {"these": list(account_ids)}) if account_ids else ()
    locked = {row.id: row for row in told}
    tx.execute(_LOCK_BATCHES, {"these": list(batch_ids)})
    return locked


_LOCK_ACCOUNTS = (
    select(accounts).where(accounts.c.id.in_(_THESE)).order_by(accounts.c.id).with_for_update(key_share=True)
)
_LOCK_BATCHES = (
    select(batches.c.id).where(batches.c.id.in_(_THESE)).order_by(batches.c.id).with_for_update(key_share=True)
)


def _slots_of(tx: Connection, attempt_ids: Sequence[int]) -> dict[int, list[int]]:
    """The slots that still wait for each attempt's images, in order."""
    waiting: dict[int, list[int]] = defaultdict(list)
    if attempt_ids:
        for row in tx.execute(_WAITING, {"these": attempt_ids}):
            waiting[row.attempt_id].append(row.slot)
    return waiting


_WAITING = (
    select(images.c.attempt_id, images.c.slot)
    .where(images.c.attempt_id.in_(_THESE), images.c.state == Image.MISSING, images.c.surplus.is_(False))
    .order_by(images.c.slot)
)


@dataclass(frozen=True, slots=True)
class _Now:
    """An attempt's row as it stands after the facts before this one."""

    id: int
    batch_id: int
    job_id: int
    account_id: int
    state: str
    revision: int
    n: int
    price: int | None
    reserved: int
    charged: int
    task_id: str | None
    created_at: float
    provider_model: str


def _apply(changes: _Changes, fact: AttemptFact, row: Any, slots: dict[int, list[int]]) -> _Now:
    asked = _asked(fact, Attempt(row.state))
    if asked is None:
        _apply_late(changes, fact, row)
        return _as_now(row)
    changes.accounts[row.account_id].append(fact)
    step = {"of_attempt": row.id, "new_state": asked.value, **_STEP_DEFAULTS}
    _STEPS[type(fact)](changes, fact, row, step, slots)
    step.setdefault("new_reserved", row.reserved)
    step.setdefault("new_charged", row.charged)
    _move_money(changes, row, step)
    changes.attempts.append(step)
    task_id = step["new_task_id"] or row.task_id
    return _as_now(row, state=asked.value, reserved=step["new_reserved"], charged=step["new_charged"], task_id=task_id)


def _move_money(changes: _Changes, row: Any, step: dict[str, Any]) -> None:
    reserved, charged = step["new_reserved"] - row.reserved, step["new_charged"] - row.charged
    changes.reserved[row.batch_id] += reserved
    changes.charged[row.batch_id] += charged
    changes.days[days.day_of(row.created_at), row.account_id] += reserved + charged


def _as_now(row: Any, **changed: Any) -> _Now:
    values = {name: getattr(row, name) for name in _Now.__slots__}
    return _Now(**{**values, **changed})


def _asked(fact: AttemptFact, state: Attempt) -> Attempt | None:
    """The state the fact leads to, or None where it is too late for it."""
    asked = _asked_state(fact)
    if asked is Attempt.SUCCEEDED and state is Attempt.ABANDONED:
        asked = Attempt.SURPLUS
    return asked if asked in ATTEMPT_STEPS[state] else None


_STEP_DEFAULTS: dict[str, Any] = {
    "new_task_id": None,
    "new_poll_path": None,
    "new_accepted_at": None,
    "new_next_poll_at": None,
    "new_finished_at": None,
    "new_error_code": None,
    "new_message": None,
    "new_raw": None,
}

_STEP = (
    update(attempts)
    .where(attempts.c.id == bindparam("of_attempt"))
    .values(
        state=bindparam("new_state"),
        reserved=bindparam("new_reserved"),
        charged=bindparam("new_charged"),
        next_poll_at=bindparam("new_next_poll_at"),
        task_id=func.coalesce(bindparam("new_task_id"), attempts.c.task_id),
        poll_path=func.coalesce(bindparam("new_poll_path"), attempts.c.poll_path),
        accepted_at=func.coalesce(bindparam("new_accepted_at"), attempts.c.accepted_at),
        finished_at=func.coalesce(bindparam("new_finished_at"), attempts.c.finished_at),
        error_code=func.coalesce(bindparam("new_error_code"), attempts.c.error_code),
        message=func.coalesce(bindparam("new_message"), attempts.c.message),
        raw=func.coalesce(bindparam("new_raw"), attempts.c.raw),
    )
)


def _accepted(changes: _Changes, fact: SubmitAccepted, row: Any, step: dict[str, Any], _: Any) -> None:
    step.update(
        new_task_id=clean(fact.task_id),
        new_poll_path=fact.poll_path,
        new_accepted_at=fact.at,
        new_next_poll_at=fact.next_poll_at,
        new_reserved=row.reserved or (row.price or 0) * row.n,
    )
    changes.touched.update(_if_held(row))
    if row.state != Attempt.SUBMITTING:
        changes.events.append(event_row("late_answer_accepted", fact.at, row, {"task_id": clean(fact.task_id)}))


def _if_held(row: Any) -> tuple[int, ...]:
    """A held job goes on when its attempt's outcome becomes known; an ordinary acceptance changes no slot."""
    return () if row.state == Attempt.SUBMITTING else (row.job_id,)


def _refused(changes: _Changes, fact: SubmitRefused, row: Any, step: dict[str, Any], _: Any) -> None:
    _end_badly(step, fact)
    step.update(new_reserved=0)
    _free(changes, fact, row, fact.retry_after)
    if fact.code not in OUR_OWN:
        changes.events.append(event_row("submit_refused", fact.at, row, {"code": fact.code, "message": fact.message}))


def _unclear(changes: _Changes, fact: SubmitUnclear, row: Any, step: dict[str, Any], _: Any) -> None:
    _end_badly(step, fact)
    step.update(new_finished_at=None)
    changes.touched.add(row.job_id)
    changes.events.append(event_row("outcome_unknown", fact.at, row, {"code": fact.code, "message": fact.message}))


def _failed(changes: _Changes, fact: TaskFailed, row: Any, step: dict[str, Any], _: Any) -> None:
    _end_badly(step, fact)
    # What may well have been charged counts as gone until somebody knows better.
    gone = fact.forgotten or fact.charged
    step.update(new_reserved=0, new_charged=max(row.reserved, row.charged) if gone else 0)
    _free(changes, fact, row, None)
    name = "task_forgotten" if fact.forgotten else "task_failed"
    changes.events.append(event_row(name, fact.at, row, {"code": fact.code, "message": fact.message}))


def _end_badly(step: dict[str, Any], fact: SubmitRefused | SubmitUnclear | TaskFailed) -> None:
    step.update(
        new_finished_at=fact.at,
        new_error_code=clean(fact.code),
        new_message=clean(fact.message, MESSAGE_LIMIT),
        new_raw=clean(fact.raw, RAW_LIMIT) or None,
    )


def _free(changes: _Changes, fact: SubmitRefused | TaskFailed, row: Any, retry_after: float | None) -> None:
    if row.state == Attempt.ABANDONED:
        return  # its slots went to another attempt long ago; this one's end says nothing about the job
    changes.freed.add(row.id)
    changes.touched.add(row.job_id)
    if isinstance(fact, TaskFailed) and fact.forgotten:
        changes.failures[row.job_id].append(_Failure(Kind.PERMANENT, fact.code, fact.message, fact.at, row.revision))
    elif isinstance(fact, SubmitRefused) and REACTIONS[fact.ending].row is RowEnding.AGAIN:
        changes.delays[row.job_id] = fact.at + (retry_after or 0.0) * (fact.ending is Ending.REFUSED)
        if fact.ending is Ending.REFUSED and fact.code not in (Silence.NOT_SENT, Silence.UNREACHABLE):
            changes.rebuffed[row.job_id] = fact.at
    else:
        changes.failures[row.job_id].append(_Failure(fact.kind, fact.code, fact.message, fact.at, row.revision))


def _succeeded(changes: _Changes, fact: TaskSucceeded, row: Any, step: dict[str, Any], slots: Any) -> None:
    waiting = slots.pop(row.id, [])
    step.update(
        new_task_id=clean(fact.task_id) if fact.task_id else None,
        new_accepted_at=None if row.state == Attempt.RUNNING else fact.at,
        new_finished_at=fact.at,
        new_reserved=0,
        new_charged=(row.price or 0) * len(fact.images),
    )
    for slot, made in zip(waiting, fact.images, strict=False):
        changes.filled.append(_filled(row, slot, made, fact.at))
    for extra in fact.images[len(waiting) :]:
        changes.surplus.append(_surplus(row, extra, fact.at))
    if len(fact.images) < len(waiting):
        _delivered_short(changes, fact, row, len(waiting))
    if row.state != Attempt.RUNNING:
        changes.touched.add(row.job_id)
    changes.bells.add("copy")


def _delivered_short(changes: _Changes, fact: TaskSucceeded, row: Any, asked: int) -> None:
    changes.freed.add(row.id)
    changes.touched.add(row.job_id)
    message = f"{len(fact.images)} of {asked} images came"
    changes.failures[row.job_id].append(_Failure(Kind.TRANSIENT, "short_delivery", message, fact.at, row.revision))
    changes.events.append(event_row("delivered_short", fact.at, row, {"asked": asked, "came": len(fact.images)}))


def _filled(row: Any, slot: int, made: Made, at: float) -> dict[str, Any]:
    return {
        "of_attempt": row.id,
        "of_slot": slot,
        "new_url": made.link.url,
        "new_spool": made.spool,
        "new_expiry": made.expires_at,
        "made_at": at,
    }


def _surplus(row: Any, made: Made, at: float) -> dict[str, Any]:
    return {
        "batch_id": row.batch_id,
        "job_id": row.job_id,
        "revision": row.revision,
        "slot": 0,
        "state": Image.GENERATED.value,
        "surplus": True,
        "attempt_id": row.id,
        "url": made.link.url,
        "spool": made.spool,
        "generated_at": at,
        "expires_at": made.expires_at,
        "next_copy_at": at,
    }


_STEPS: dict[type, Callable[..., None]] = {
    SubmitAccepted: _accepted,
    SubmitRefused: _refused,
    SubmitUnclear: _unclear,
    TaskSucceeded: _succeeded,
    TaskFailed: _failed,
}


def _apply_late(changes: _Changes, fact: AttemptFact, row: Any) -> None:
    """A fact that leads nowhere: told twice, or overtaken. A task id of an abandoned attempt is still polled for."""
    if isinstance(fact, SubmitAccepted) and row.task_id not in (None, fact.task_id):
        _keep_twin(changes, fact, row)
        return
    told_twice = isinstance(fact, SubmitAccepted) and row.task_id == fact.task_id
    if told_twice or row.state == _asked_state(fact):
        return
    if isinstance(fact, SubmitAccepted) and row.state == Attempt.ABANDONED:
        step = {"of_attempt": row.id, "new_state": row.state, **_STEP_DEFAULTS, "new_task_id": clean(fact.task_id)}
        step.update(new_poll_path=fact.poll_path, new_accepted_at=fact.at, new_next_poll_at=fact.next_poll_at)
        changes.attempts.append({**step, "new_reserved": row.reserved, "new_charged": row.charged})
    detail = {"fact": type(fact).__name__, "state": row.state, "task_id": getattr(fact, "task_id", None)}
    changes.events.append(event_row("late_fact", fact.at, row, detail))


def _keep_twin(changes: _Changes, fact: SubmitAccepted, row: Any) -> None:
    """A second provider task of one attempt: paid, so it is polled, and its images are stored as surplus."""
    changes.twins[row.account_id].append(
        {
            "batch_id": row.batch_id,
            "job_id": row.job_id,
            "account_id": row.account_id,
            "state": Attempt.RUNNING.value,
            "provider_model": row.provider_model,
            "slots": "[]",
            "revision": row.revision,
            "n": row.n,
            "price": row.price,
            "reserved": (row.price or 0) * row.n,
            "task_id": clean(fact.task_id),
            "poll_path": fact.poll_path,
            "created_at": fact.at,
            "lease_until": fact.at,
            "accepted_at": fact.at,
            "next_poll_at": fact.next_poll_at,
            "twin_of": row.id,
        }
    )
    changes.events.append(event_row("twin_found", fact.at, row, {"task_id": clean(fact.task_id)}))


def _asked_state(fact: AttemptFact) -> Attempt:
    if isinstance(fact, TaskFailed):
        return Attempt.LOST if fact.forgotten else Attempt.FAILED
    return Attempt.SUCCEEDED if isinstance(fact, TaskSucceeded) else REACTIONS[fact.ending].attempt


def _apply_copy(changes: _Changes, fact: ImageEnd, row: Any) -> None:
    if row.state != Image.GENERATED:
        return
    if not row.surplus:
        changes.touched.add(row.job_id)
    stored = isinstance(fact, ImageStored)
    changes.filled.append(
        {
            "image": row.id,
            "new_state": (Image.STORED if stored else Image.LOST).value,
            "new_stored_at": fact.at if stored else None,
            "code": None if isinstance(fact, ImageStored) else fact.code,
            "said": None if isinstance(fact, ImageStored) else clean(fact.message),
        }
    )


# -- writing the changes -------------------------------------------------------------------------------------------

_FILL = (
    update(images)
    .where(
        images.c.attempt_id == bindparam("of_attempt"),
        images.c.slot == bindparam("of_slot"),
        images.c.surplus.is_(False),
    )
    .values(
        state=Image.GENERATED.value,
        url=bindparam("new_url"),
        spool=bindparam("new_spool"),
        expires_at=bindparam("new_expiry"),
        generated_at=bindparam("made_at"),
        next_copy_at=bindparam("made_at"),
    )
)

_END_COPY = (
    update(images)
    .where(images.c.id == bindparam("image"))
    .values(
        state=bindparam("new_state"),
        stored_at=bindparam("new_stored_at"),
        error_code=bindparam("code"),
        message=bindparam("said"),
        lease_until=None,
    )
)

_MONEY = (
    update(batches)
    .where(batches.c.id == bindparam("of_batch"))
    .values(
        reserved=batches.c.reserved + bindparam("reserve_more"), charged=batches.c.charged + bindparam("charge_more")
    )
)


def _write(tx: Connection, changes: _Changes, names: dict[int, Any]) -> None:
    _many(tx, _STEP, changes.attempts)
    _many(tx, _FILL, [row for row in changes.filled if "of_attempt" in row])
    _many(tx, _END_COPY, [row for row in changes.filled if "image" in row])
    _many(tx, insert(images), changes.surplus)
    for account_id, twins in changes.twins.items():
        _insert_twins(tx, names[account_id], twins)
    if changes.freed:
        missing = (images.c.attempt_id.in_(changes.freed), images.c.state == Image.MISSING)
        tx.execute(update(images).where(*missing).values(attempt_id=None))
    _many(tx, _MONEY, _money(changes))
    days.move(tx, changes.days)
    _try_again_or_close(tx, changes)
    derive_jobs(tx, changes.touched)
    write_events(tx, changes.events)
    for account_id, facts in changes.accounts.items():
        tell_account(tx, names[account_id], facts)
        changes.bells |= {f"submit:{names[account_id].name}", f"poll:{names[account_id].name}"}


def _insert_twins(tx: Connection, account: Any, twins: list[dict[str, Any]]) -> None:
    """Numbers them as the account's next attempts; a provider task that is on record already is nobody's twin."""
    known = select(attempts.c.task_id).where(
        attempts.c.account_id == account.id, attempts.c.task_id.in_([twin["task_id"] for twin in twins])
    )
    there = set(tx.execute(known).scalars())
    fresh = list({twin["task_id"]: twin for twin in twins if twin["task_id"] not in there}.values())
    first = account.id * ATTEMPTS_AN_ACCOUNT + account.attempts_made
    _many(tx, insert(attempts), [{"id": first + place, **twin} for place, twin in enumerate(fresh)])
    _many(tx, _MONEY, [{"of_batch": t["batch_id"], "reserve_more": t["reserved"], "charge_more": 0} for t in fresh])
    for twin in fresh:
        days.move(tx, {(days.day_of(twin["created_at"]), account.id): twin["reserved"]})
    made = account.attempts_made + len(fresh)
    tx.execute(update(accounts).where(accounts.c.id == account.id).values(attempts_made=made))


def _many(tx: Connection, statement: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        tx.execute(statement, rows)


def _money(changes: _Changes) -> list[dict[str, Any]]:
    moved = sorted(set(changes.reserved) | set(changes.charged))
    rows = [
        {"of_batch": batch, "reserve_more": changes.reserved[batch], "charge_more": changes.charged[batch]}
        for batch in moved
    ]
    return [row for row in rows if row["reserve_more"] or row["charge_more"]]


def _try_again_or_close(tx: Connection, changes: _Changes) -> None:
    told = {*changes.failures, *changes.delays}
    for job_id, at in changes.rebuffed.items():
        times = tx.execute(_REBUFFS, {"of_job": job_id}).scalar_one()
        changes.delays[job_id] = max(changes.delays[job_id], at + retry.after_rebuff(times))
    if told:
        verdicts = [_verdict(job, changes) for job in tx.execute(_THESE_JOBS, {"these": list(told)})]
        _many(tx, _VERDICT, verdicts)
        if changes.routes:
            gone = {verdict["of_job"]: verdict["failed_out"] for verdict in verdicts if verdict["failed_out"]}
            moves.move_failed(tx, list(gone), max(gone.values(), default=0.0), changes.routes)


_THESE_JOBS = (
    select(*jobs.c, batches.c.retries)
    .select_from(jobs.join(batches, batches.c.id == jobs.c.batch_id))
    .where(jobs.c.id.in_(_THESE))
)
_REBUFFS = select(func.count()).where(
    attempts.c.job_id == bindparam("of_job"),
    attempts.c.state == Attempt.REFUSED,
    attempts.c.error_code.not_in([Silence.NOT_SENT.value, Silence.UNREACHABLE.value]),
)


def _verdict(job: Any, changes: _Changes) -> dict[str, Any]:
    """What the group's failures mean for a job: when it may go again, or that it ends."""
    verdict = {"of_job": job.id, "count": job.failures, "then": job.ready_at, "shut": job.closed}
    verdict.update(code=None, said=None, failed_out=None)
    if job.id in changes.delays:
        verdict["then"] = max(job.ready_at, changes.delays[job.id])
    for failure in changes.failures.get(job.id, ()):
        if failure.revision == job.revision:
            _count_failure(verdict, failure, retries=job.retries, parts=-(-job.n // job.max_n))
    return verdict


def _count_failure(verdict: dict[str, Any], failure: _Failure, *, retries: int, parts: int) -> None:
    verdict["count"] += failure.kind is Kind.TRANSIENT
    decision = retry.decide(failure.kind, verdict["count"], retries=retries, parts=parts)
    if decision.again_in is None:
        failed_out = failure.at if failure.kind is Kind.TRANSIENT and not verdict["shut"] else None
        verdict.update(shut=True, code=clean(failure.code), said=clean(failure.message), failed_out=failed_out)
    else:
        verdict["then"] = max(verdict["then"], failure.at + decision.again_in)


_VERDICT = (
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"))
    .values(
        failures=bindparam("count"),
        ready_at=bindparam("then"),
        closed=bindparam("shut"),
        error_code=func.coalesce(bindparam("code"), jobs.c.error_code),
        message=func.coalesce(bindparam("said"), jobs.c.message),
    )
)
