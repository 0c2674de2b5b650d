"""What a fact means for its attempt and image, decided without touching the database: rows in, changes out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from jobs.facts import (
    CHARGE_ESTIMATED,
    AttemptFact,
    ImageDelayed,
    ImageLost,
    ImageStored,
    MadeImage,
    PartDelivered,
    ReuseGone,
    SubmitAccepted,
    SubmitRefused,
    SubmitUnclear,
    TaskFailed,
    TaskSucceeded,
)
from jobs.ledger.accounts import daily_budgets, monthly_budgets
from jobs.ledger.accounts.durations import EndedTask
from jobs.ledger.database.events import event_row, job_event
from jobs.ledger.facts import failover
from jobs.policy import poll_schedule
from jobs.policy.endings import OUR_OWN, REACTIONS, Ending, Silence
from jobs.policy.endings import RowOutcome as RowEnding
from jobs.states import ATTEMPT_STEPS, AttemptState, ImageState
from providers.types import MESSAGE_LIMIT, RAW_LIMIT, Kind, clean

ImageEnd = ImageStored | ImageLost | ReuseGone


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why a job has to try again, or may not."""

    kind: Kind
    code: str
    message: str
    at: float
    revision: int  # of the attempt: what an older one met says nothing about a row that is made anew


@dataclass(slots=True)
class Changes:
    """What a group of facts amounts to, gathered before it is written with one statement a kind."""

    attempts: list[dict[str, Any]] = field(default_factory=list)
    filled: list[dict[str, Any]] = field(default_factory=list)  # slots that have their image
    copied: list[dict[str, Any]] = field(default_factory=list)  # images whose copy ended
    surplus: list[dict[str, Any]] = field(default_factory=list)
    twins: dict[int, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))  # by account
    freed: set[int] = field(default_factory=set)  # attempts whose missing slots are free again
    failures: dict[int, list[JobFailure]] = field(default_factory=lambda: defaultdict(list))  # job -> what went wrong
    delays: dict[int, float] = field(default_factory=dict)  # job -> not before
    rebuffed: dict[int, float] = field(default_factory=dict)  # job -> when a provider would not take it just then
    reserved: Counter[int] = field(default_factory=Counter)  # batch -> micro-dollars more or less
    charged: Counter[int] = field(default_factory=Counter)
    days: daily_budgets.Moved = field(default_factory=Counter)  # what the days of the intents have cost, more or less
    months: monthly_budgets.Moved = field(default_factory=Counter)  # the same of the months, by batch
    touched: set[int] = field(default_factory=set)  # jobs whose slots changed
    events: list[dict[str, Any]] = field(default_factory=list)
    wakeups: set[str] = field(default_factory=set)
    accounts: dict[int, list[AttemptFact]] = field(default_factory=lambda: defaultdict(list))
    found: list[EndedTask] = field(default_factory=list)  # provider tasks that were found done
    shares: dict[int, int] = field(default_factory=dict)  # attempt -> what its images have cost together
    held: dict[int, set[str]] = field(default_factory=dict)  # attempt -> its images on record; of those that deliver on
    routes: failover.Routes | None = None


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
    mode: str | None
    reserved: int
    charged: int
    task_id: str | None
    created_at: float
    provider_model: str
    accepted_at: float | None
    ran_at: float | None
    asked_resolution: str | None
    doubted_since: float | None
    came: int


def apply(changes: Changes, fact: AttemptFact, row: Any, slots: dict[int, list[int]]) -> _Now:
    """Gathers what one fact changes; the attempt as it stands after it."""
    if isinstance(fact, PartDelivered) and row.state == AttemptState.ABANDONED:
        return _as_now(row)  # its task is asked about until all it made is named; nobody waits for a part
    fact = _as_it_counts(fact, row)
    asked = _asked(fact, row)
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
    task_id, came = step["new_task_id"] or row.task_id, row.came if step["new_came"] is None else step["new_came"]
    money = {"reserved": step["new_reserved"], "charged": step["new_charged"]}
    return _as_now(row, state=asked.value, task_id=task_id, came=came, **money)


def _as_it_counts(fact: AttemptFact, row: Any) -> AttemptFact:
    """Only a task that runs is waited for; and one of which images came has delivered short, whatever it says later."""
    if isinstance(fact, PartDelivered) and row.state != AttemptState.RUNNING:
        return TaskSucceeded(attempt_id=fact.attempt_id, at=fact.at, images=fact.images)
    if isinstance(fact, TaskFailed) and row.came and not fact.forgotten:
        return TaskSucceeded(attempt_id=fact.attempt_id, at=fact.at, images=())
    return fact


def _move_money(changes: Changes, row: Any, step: dict[str, Any]) -> None:
    reserved, charged = step["new_reserved"] - row.reserved, step["new_charged"] - row.charged
    changes.reserved[row.batch_id] += reserved
    changes.charged[row.batch_id] += charged
    changes.days[daily_budgets.day_of(row.created_at), row.account_id] += reserved + charged
    changes.months[row.batch_id, monthly_budgets.month_of(row.created_at)] += reserved + charged


def _as_now(row: Any, **changed: Any) -> _Now:
    values = {name: getattr(row, name) for name in _Now.__slots__}
    return _Now(**{**values, **changed})


def _asked(fact: AttemptFact, row: Any) -> AttemptState | None:
    """The state the fact leads to, or None where it is too late for it."""
    if isinstance(fact, PartDelivered):
        return AttemptState.RUNNING
    asked, state = _asked_state(fact), AttemptState(row.state)
    if asked is AttemptState.SUCCEEDED and state in (AttemptState.ABANDONED, AttemptState.FAILED):
        asked = AttemptState.SURPLUS
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
    "new_came": None,
}


def _accepted(changes: Changes, fact: SubmitAccepted, row: Any, step: dict[str, Any], _: Any) -> None:
    step.update(
        new_task_id=clean(fact.task_id),
        new_poll_path=fact.poll_path,
        new_accepted_at=fact.at,
        new_next_poll_at=fact.next_poll_at,
        new_reserved=row.reserved or (row.price or 0) * row.n,
    )
    changes.touched.update(_if_held(row))
    if row.state != AttemptState.SUBMITTING:
        changes.events.append(event_row("late_answer_accepted", fact.at, row, {"task_id": clean(fact.task_id)}))


def _if_held(row: Any) -> tuple[int, ...]:
    """A held job goes on when its attempt's outcome becomes known; an ordinary acceptance changes no slot."""
    return () if row.state == AttemptState.SUBMITTING else (row.job_id,)


def _refused(changes: Changes, fact: SubmitRefused, row: Any, step: dict[str, Any], _: Any) -> None:
    _end_badly(step, fact)
    step.update(new_reserved=0, new_charged=0)
    _free(changes, fact, row, fact.retry_after)
    if fact.code not in OUR_OWN:
        changes.events.append(event_row("submit_refused", fact.at, row, {"code": fact.code, "message": fact.message}))


def _unclear(changes: Changes, fact: SubmitUnclear, row: Any, step: dict[str, Any], _: Any) -> None:
    _end_badly(step, fact)
    step.update(new_finished_at=None)
    changes.touched.add(row.job_id)
    changes.events.append(event_row("outcome_unknown", fact.at, row, {"code": fact.code, "message": fact.message}))


def _failed(changes: Changes, fact: TaskFailed, row: Any, step: dict[str, Any], _: Any) -> None:
    _end_badly(step, fact)
    # What may well have been charged counts as gone until somebody knows better.
    gone = fact.forgotten or fact.charged
    step.update(new_reserved=0, new_charged=row.reserved + row.charged if gone else 0)
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


def _free(changes: Changes, fact: SubmitRefused | TaskFailed, row: Any, retry_after: float | None) -> None:
    if row.state == AttemptState.ABANDONED:
        return  # its slots went to another attempt long ago; this one's end says nothing about the job
    changes.freed.add(row.id)
    changes.touched.add(row.job_id)
    if isinstance(fact, TaskFailed) and fact.forgotten:
        changes.failures[row.job_id].append(JobFailure(Kind.PERMANENT, fact.code, fact.message, fact.at, row.revision))
    elif isinstance(fact, SubmitRefused) and REACTIONS[fact.ending].row is RowEnding.AGAIN:
        changes.delays[row.job_id] = fact.at + (retry_after or 0.0) * (fact.ending is Ending.REFUSED)
        if fact.ending is Ending.REFUSED and fact.code not in (Silence.NOT_SENT, Silence.UNREACHABLE):
            changes.rebuffed[row.job_id] = fact.at
    else:
        at = fact.at if isinstance(fact, SubmitRefused) or fact.since is None else fact.since
        changes.failures[row.job_id].append(JobFailure(fact.kind, fact.code, fact.message, at, row.revision))


def _succeeded(changes: Changes, fact: TaskSucceeded, row: Any, step: dict[str, Any], slots: Any) -> None:
    missing, came = _fill(changes, fact, row, slots)
    step.update(
        new_task_id=clean(fact.task_id) if fact.task_id else None,
        new_accepted_at=None if row.state in (AttemptState.RUNNING, AttemptState.FAILED) else fact.at,
        new_finished_at=fact.at,
        new_reserved=0,
        new_charged=(row.price or 0) * came if fact.cost is None else fact.cost,
        new_came=0,
    )
    _settle_usage(changes, fact, row, step)
    if missing:
        _delivered_short(changes, fact, row, missing, came)
    if row.state != AttemptState.RUNNING:
        changes.touched.add(row.job_id)
    elif row.accepted_at is not None and row.doubted_since is None:
        changes.found.append(_found(fact, row))
    changes.wakeups.add("copy")


def _settle_usage(changes: Changes, fact: TaskSucceeded, row: Any, step: dict[str, Any]) -> None:
    """What the provider's usage says counts, whatever was set aside; what it does not say is told, in the audit too."""
    if fact.cost is not None:
        changes.shares[row.id] = fact.cost
        if fact.cost > row.reserved + row.charged:
            told = {"set_aside": row.reserved + row.charged, "charged": fact.cost}
            step["new_error_code"] = "charged_above"
            changes.events.append(event_row("charged_above", fact.at, row, told))
    elif fact.no_usage is not None:
        step.update(new_error_code=CHARGE_ESTIMATED, new_message=clean(fact.no_usage, MESSAGE_LIMIT))
        changes.events.append(event_row(CHARGE_ESTIMATED, fact.at, row, {"message": fact.no_usage}))


def _part_delivered(changes: Changes, fact: PartDelivered, row: Any, step: dict[str, Any], slots: Any) -> None:
    """What came is taken; the rest keeps its slots and its money."""
    _, came = _fill(changes, fact, row, slots)
    charged = (row.price or 0) * came
    ever = row.reserved + row.charged
    step.update(
        new_came=came,
        new_charged=charged,
        new_reserved=max(0, ever - charged),
        new_next_poll_at=fact.next_poll_at,
    )
    changes.held.setdefault(row.id, set()).update(place_of(made.link.url, made.spool) for made in fact.images)
    changes.wakeups.add("copy")


def _fill(changes: Changes, fact: TaskSucceeded | PartDelivered, row: Any, slots: Any) -> tuple[int, int]:
    """Takes the images that are not on record yet; how many slots stay empty, and how many images there are then."""
    waiting = slots.get(row.id, [])
    fresh = _fresh(fact, row, changes.held.get(row.id, set()))
    slots[row.id] = waiting[len(fresh) :]
    for slot, made in zip(waiting, fresh, strict=False):
        changes.filled.append(_filled(slot, made, fact.at))
    for extra in fresh[len(waiting) :]:
        changes.surplus.append(_surplus(row, extra, fact.at))
    return len(slots[row.id]), row.came + len(fresh)


def _fresh(fact: TaskSucceeded | PartDelivered, row: Any, held: set[str]) -> tuple[MadeImage, ...]:
    """The images that an earlier answer did not name: as many as it names more, told by their paths, else by place."""
    if not row.came:
        return fact.images
    more = max(0, len(fact.images) - row.came)
    given = [made for made in fact.images if made.link.url or made.spool]
    unknown = [made for made in given if place_of(made.link.url, made.spool) not in held]
    among = unknown if len(unknown) >= more else given
    return tuple(among[len(among) - min(more, len(among)) :])


def place_of(url: str | None, spool: str | None) -> str:
    """What tells one image of a task from the others, in every answer."""
    return urlsplit(url).path if url else spool or ""


def _found(fact: TaskSucceeded, row: Any) -> EndedTask:
    found = max(0.0, fact.at - row.accepted_at)
    ran = 0.0 if row.ran_at is None else row.ran_at - row.accepted_at
    return EndedTask(
        account_id=row.account_id,
        provider_model=row.provider_model,
        resolution=row.asked_resolution or "",
        span=poll_schedule.observed(ran=ran, found=found, told=fact.took),
        found=found,
        told=fact.took is not None,
    )


def _delivered_short(changes: Changes, fact: TaskSucceeded, row: Any, missing: int, came: int) -> None:
    changes.freed.add(row.id)
    changes.touched.add(row.job_id)
    asked = came + missing
    message = f"{came} of {asked} images came"
    changes.failures[row.job_id].append(JobFailure(Kind.TRANSIENT, "short_delivery", message, fact.at, row.revision))
    changes.events.append(event_row("delivered_short", fact.at, row, {"asked": asked, "came": came}))


def _filled(slot: int, made: MadeImage, at: float) -> dict[str, Any]:
    return {
        "of_image": slot,
        "new_url": made.link.url,
        "new_spool": made.spool,
        "new_expiry": made.expires_at,
        "made_at": at,
    }


def _surplus(row: Any, made: MadeImage, at: float) -> dict[str, Any]:
    return {
        "batch_id": row.batch_id,
        "job_id": row.job_id,
        "revision": row.revision,
        "slot": 0,
        "state": ImageState.GENERATED.value,
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
    PartDelivered: _part_delivered,
    TaskFailed: _failed,
}


def _apply_late(changes: Changes, fact: AttemptFact, row: Any) -> None:
    """A fact that leads nowhere: told twice, or overtaken. A task id of an abandoned attempt is still polled for."""
    if isinstance(fact, SubmitAccepted) and row.task_id not in (None, fact.task_id):
        _keep_twin(changes, fact, row)
        return
    told_twice = isinstance(fact, SubmitAccepted) and row.task_id == fact.task_id
    if told_twice or row.state == _asked_state(fact):
        return
    if isinstance(fact, SubmitAccepted) and row.state == AttemptState.ABANDONED:
        step = {"of_attempt": row.id, "new_state": row.state, **_STEP_DEFAULTS, "new_task_id": clean(fact.task_id)}
        step.update(new_poll_path=fact.poll_path, new_accepted_at=fact.at, new_next_poll_at=fact.next_poll_at)
        changes.attempts.append({**step, "new_reserved": row.reserved, "new_charged": row.charged})
    detail = {"fact": type(fact).__name__, "state": row.state, "task_id": getattr(fact, "task_id", None)}
    changes.events.append(event_row("late_fact", fact.at, row, detail))


def _keep_twin(changes: Changes, fact: SubmitAccepted, row: Any) -> None:
    """A second provider task of one attempt: paid, so it is polled, and its images are stored as surplus."""
    changes.twins[row.account_id].append(
        {
            "batch_id": row.batch_id,
            "job_id": row.job_id,
            "account_id": row.account_id,
            "state": AttemptState.RUNNING.value,
            "provider_model": row.provider_model,
            "slots": "[]",
            "revision": row.revision,
            "n": row.n,
            "price": row.price,
            "mode": row.mode,
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


def _asked_state(fact: AttemptFact) -> AttemptState:
    if isinstance(fact, TaskFailed):
        return AttemptState.LOST if fact.forgotten else AttemptState.FAILED
    if isinstance(fact, PartDelivered):
        return AttemptState.RUNNING
    return AttemptState.SUCCEEDED if isinstance(fact, TaskSucceeded) else REACTIONS[fact.ending].attempt


def apply_copy(changes: Changes, fact: ImageEnd | ImageDelayed, row: Any) -> None:
    """Gathers what the end of one copy changes. What was given up and is stored after all is there.

    One that waits for a person is written with the delays; here its row is only derived.
    """
    if isinstance(fact, ImageDelayed):
        changes.touched.update(() if row.surplus else (row.job_id,))
        return
    stored = isinstance(fact, ImageStored)
    if row.state != ImageState.GENERATED and not (stored and row.state == ImageState.LOST):
        return
    if isinstance(fact, ReuseGone):
        _reuse_gone(changes, fact, row)
        return
    if not row.surplus:
        changes.touched.add(row.job_id)
    changes.copied.append(
        {
            "image": row.id,
            "new_state": (ImageState.STORED if stored else ImageState.LOST).value,
            "new_stored_at": fact.at if stored else None,
            "code": None if isinstance(fact, ImageStored) else fact.code,
            "said": None if isinstance(fact, ImageStored) else clean(fact.message),
        }
    )


def _reuse_gone(changes: Changes, fact: ReuseGone, row: Any) -> None:
    """The slot is missing as before, and its row ends: to buy it is for a person to say."""
    changes.touched.add(row.job_id)
    changes.failures[row.job_id].append(JobFailure(Kind.PERMANENT, fact.code, fact.message, fact.at, row.revision))
    missing = {"new_state": ImageState.MISSING.value, "new_stored_at": None, "code": None, "said": None}
    changes.copied.append({"image": row.id, **missing})
    changes.events.append(
        job_event("reuse_gone", row.batch_id, row.job_id, fact.at, {"image": row.slot, "message": clean(fact.message)})
    )
