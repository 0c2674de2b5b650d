"""Facts become rows. Facts stand above leases: each is recorded by id, whatever the lease or the state says by then.

One transaction takes a group of facts. It locks accounts, then batches, each in order, and only then reads the
attempts and images, so two groups never deadlock. A fact that the state does not allow any more
(told twice, or overtaken) changes nothing but is kept as an event. Recording the same group again is harmless.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, func, insert, select, union, update

from jobs.facts import (
    AttemptFact,
    Fact,
    ImageChecked,
    ImageDelayed,
    PartDelivered,
    SubmitAccepted,
    SubmitUnclear,
    TaskStillRunning,
    TaskSucceeded,
)
from jobs.ledger.accounts import daily_budgets, durations, monthly_budgets
from jobs.ledger.accounts.places import most_in_flight
from jobs.ledger.claims import copy_failures
from jobs.ledger.database.engine import is_alone
from jobs.ledger.database.events import write_events
from jobs.ledger.database.job_state import derive_jobs
from jobs.ledger.database.many import update_many
from jobs.ledger.database.schema import (
    ATTEMPTS_AN_ACCOUNT,
    IS_MISSING,
    WAS_ASKED_FOR,
    accounts,
    attempts,
    batches,
    images,
    jobs,
)
from jobs.ledger.database.server import FOR_NOBODY
from jobs.ledger.database.statements import among, fetch, fetch_value, run
from jobs.ledger.facts import failover
from jobs.ledger.facts.account_limits import tell_account, tell_of_polls
from jobs.ledger.facts.interim import keep_checks, keep_delays, keep_running
from jobs.ledger.facts.transitions import Changes, ImageEnd, JobFailure, apply, apply_copy, place_of
from jobs.policy import retry
from jobs.policy.endings import Silence
from jobs.states import AttemptState, ImageState
from providers.types import Kind, clean

_F = TypeVar("_F")


def record(tx: Connection, facts: Sequence[Fact], routes: failover.Routes | None = None) -> copy_failures.StopChanges:
    """Writes a group of facts; returns the lanes that may have work now, and where buying stopped or goes on.

    `routes`: where failed rows may go.
    """
    copies_ended = copy_failures.before(tx, facts)
    wakeups: set[str] = set()
    tell_of_polls(tx, _of(facts, TaskStillRunning))
    keep_running(tx, _of(facts, TaskStillRunning))
    keep_checks(tx, _of(facts, ImageChecked))
    keep_delays(tx, _of(facts, ImageDelayed))
    ends = [fact for fact in facts if isinstance(fact, AttemptFact)]
    copies: list[ImageEnd | ImageDelayed] = [fact for fact in facts if isinstance(fact, ImageEnd)]
    copies += [fact for fact in _of(facts, ImageDelayed) if fact.next_copy_at is None]  # its row is held
    if ends or copies:
        wakeups |= _settle(tx, ends, copies, routes)
    news = copy_failures.keep(tx, copies_ended)
    news.wakeups |= wakeups
    return news


def _of(facts: Iterable[Any], kind: type[_F]) -> list[_F]:
    return [fact for fact in facts if isinstance(fact, kind)]


# -- facts that end a submit, a provider task or a copy ------------------------------------------------------------


def _settle(
    tx: Connection,
    ends: Sequence[AttemptFact],
    copies: Sequence[ImageEnd | ImageDelayed],
    routes: failover.Routes | None,
) -> set[str]:
    told = {"ended": list({fact.attempt_id for fact in ends}), "copied": list({fact.image_id for fact in copies})}
    names = _lock(tx, told)
    found = _attempts(tx, told["ended"])  # only now: nobody else can change them
    image_rows = _images(tx, told["copied"])
    changes = Changes(routes=routes)
    slots = _slots_of(tx, [fact.attempt_id for fact in ends if isinstance(fact, TaskSucceeded | PartDelivered)])
    changes.held = _held(tx, [row.id for row in found.values() if row.came])
    for fact in _with_ids_of_their_own(tx, ends, found):
        if fact.attempt_id in found:
            found[fact.attempt_id] = apply(changes, fact, found[fact.attempt_id], slots)
        elif isinstance(fact, SubmitAccepted):
            changes.events.append(_for_nobody(fact))
    for copy in copies:
        if copy.image_id in image_rows:
            apply_copy(changes, copy, image_rows[copy.image_id])
    _write(tx, changes, names)
    return changes.wakeups


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
    owner = {(row.account_id, row.task_id): row.id for row in fetch(tx, _OWNERS, {"at": at, "named": list(named)})}
    return [_own(fact, found, owner) if isinstance(fact, SubmitAccepted) else fact for fact in ends]


#: With the account, since the index begins with it: else each group of facts would read the whole table.
_OWNERS = select(attempts.c.account_id, attempts.c.task_id, attempts.c.id).where(
    among(attempts.c.account_id, "at"),
    among(attempts.c.task_id, "named"),
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
    return {row.id: row for row in fetch(tx, _THESE_ATTEMPTS, {"these": ids})}


_THESE_ATTEMPTS = select(attempts).where(among(attempts.c.id, "these"))


def _images(tx: Connection, ids: Sequence[int]) -> dict[int, Any]:
    if not ids:
        return {}
    return {row.id: row for row in fetch(tx, _THESE_IMAGES, {"these": ids})}


_THESE_IMAGES = select(
    images.c.id,
    images.c.batch_id,
    images.c.job_id,
    images.c.state,
    images.c.surplus,
    images.c.revision,
    images.c.slot,
).where(among(images.c.id, "these"))


def _lock(tx: Connection, told: Mapping[str, list[int]]) -> dict[int, Any]:
    """Locks the accounts and the batches of attempts and images that are told of; returns the accounts' rows."""
    locked = {row.id: row for row in fetch(tx, _LOCK_ACCOUNTS, told)} if told["ended"] else {}
    if not is_alone(tx):
        run(tx, _LOCK_BATCHES, told)
    return locked


_ENDED, _COPIED = among(attempts.c.id, "ended"), among(images.c.id, "copied")
_LOCK_ACCOUNTS = (
    select(accounts)
    .where(accounts.c.id.in_(select(attempts.c.account_id).where(_ENDED)))
    .order_by(accounts.c.id)
    .with_for_update(key_share=True, of=accounts)
)
_LOCK_BATCHES = (
    select(batches.c.id)
    .where(batches.c.id.in_(union(select(attempts.c.batch_id).where(_ENDED), select(images.c.batch_id).where(_COPIED))))
    .order_by(batches.c.id)
    .with_for_update(key_share=True, of=batches)
)


def _slots_of(tx: Connection, attempt_ids: Sequence[int]) -> dict[int, list[int]]:
    """The slots that still wait for each attempt's images, in order: the ids of their rows."""
    waiting: dict[int, list[int]] = defaultdict(list)
    if attempt_ids:
        for row in fetch(tx, _WAITING, {"these": attempt_ids}):
            waiting[row.attempt_id].append(row.id)
    return waiting


_WAITING = (
    select(images.c.attempt_id, images.c.id)
    .where(among(images.c.attempt_id, "these"), IS_MISSING, WAS_ASKED_FOR)
    .order_by(images.c.slot)
)


def _held(tx: Connection, attempt_ids: Sequence[int]) -> dict[int, set[str]]:
    """The images that are on record of attempts of which more are awaited."""
    held: dict[int, set[str]] = defaultdict(set)
    for row in fetch(tx, _ON_RECORD, {"these": attempt_ids}) if attempt_ids else ():
        held[row.attempt_id].add(place_of(row.url, row.spool))
    return held


_ON_RECORD = select(images.c.attempt_id, images.c.url, images.c.spool).where(
    among(images.c.attempt_id, "these"), images.c.state != ImageState.MISSING
)


# -- writing the changes -------------------------------------------------------------------------------------------

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
        came=func.coalesce(bindparam("new_came"), attempts.c.came),
    )
)

_FILL = (
    update(images)
    .where(images.c.id == bindparam("of_image"))
    .values(
        state=ImageState.GENERATED.value,
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


def _write(tx: Connection, changes: Changes, names: dict[int, Any]) -> None:
    update_many(tx, _STEP, changes.attempts)
    update_many(tx, _FILL, changes.filled)
    update_many(tx, _END_COPY, changes.copied)
    _many(tx, insert(images), changes.surplus)
    _share_out(tx, changes.shares)
    for account_id, twins in changes.twins.items():
        _insert_twins(tx, names[account_id], twins)
    if changes.freed:
        missing = (images.c.attempt_id.in_(changes.freed), IS_MISSING)
        tx.execute(update(images).where(*missing).values(attempt_id=None))
    update_many(tx, _MONEY, _money(changes))
    daily_budgets.move(tx, changes.days)
    monthly_budgets.move(tx, changes.months)
    _try_again_or_close(tx, changes)
    derive_jobs(tx, changes.touched)
    write_events(tx, changes.events)
    durations.keep(tx, changes.found, {number: most_in_flight(row) for number, row in names.items()})
    for account_id, facts in changes.accounts.items():
        tell_account(tx, names[account_id], facts)
        changes.wakeups |= {f"submit:{names[account_id].name}", f"poll:{names[account_id].name}"}


def _share_out(tx: Connection, charges: Mapping[int, int]) -> None:
    """Each image's part of what its task has cost: whole micro-dollars, whose sum is the charge."""
    if not charges:
        return
    found: dict[int, list[int]] = defaultdict(list)
    for row in fetch(tx, _CAME, {"these": list(charges)}):
        found[row.attempt_id].append(row.id)
    parts = [
        {
            "of_image": image,
            "part": charges[attempt_id] * (place + 1) // len(ids) - charges[attempt_id] * place // len(ids),
        }
        for attempt_id, ids in found.items()
        for place, image in enumerate(ids)
    ]
    update_many(tx, _PART, parts)


_CAME = (
    select(images.c.attempt_id, images.c.id)
    .where(among(images.c.attempt_id, "these"), images.c.state != ImageState.MISSING)
    .order_by(images.c.id)
)
_PART = update(images).where(images.c.id == bindparam("of_image")).values(cost=bindparam("part"))


def _insert_twins(tx: Connection, account: Any, twins: list[dict[str, Any]]) -> None:
    """Numbers them as the account's next attempts; a provider task that is on record already is nobody's twin."""
    known = select(attempts.c.task_id).where(
        attempts.c.account_id == account.id, attempts.c.task_id.in_([twin["task_id"] for twin in twins])
    )
    there = set(tx.execute(known).scalars())
    fresh = list({twin["task_id"]: twin for twin in twins if twin["task_id"] not in there}.values())
    first = account.id * ATTEMPTS_AN_ACCOUNT + account.attempts_made
    _many(tx, insert(attempts), [{"id": first + place, **twin} for place, twin in enumerate(fresh)])
    update_many(
        tx, _MONEY, [{"of_batch": t["batch_id"], "reserve_more": t["reserved"], "charge_more": 0} for t in fresh]
    )
    for twin in fresh:
        daily_budgets.move(tx, {(daily_budgets.day_of(twin["created_at"]), account.id): twin["reserved"]})
        monthly_budgets.move(tx, {(twin["batch_id"], monthly_budgets.month_of(twin["created_at"])): twin["reserved"]})
    made = account.attempts_made + len(fresh)
    tx.execute(update(accounts).where(accounts.c.id == account.id).values(attempts_made=made))


def _many(tx: Connection, statement: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        tx.execute(statement, rows)


def _money(changes: Changes) -> list[dict[str, Any]]:
    moved = sorted(set(changes.reserved) | set(changes.charged))
    rows = [
        {"of_batch": batch, "reserve_more": changes.reserved[batch], "charge_more": changes.charged[batch]}
        for batch in moved
    ]
    return [row for row in rows if row["reserve_more"] or row["charge_more"]]


def _try_again_or_close(tx: Connection, changes: Changes) -> None:
    told = {*changes.failures, *changes.delays}
    for job_id, at in changes.rebuffed.items():
        times = fetch_value(tx, _REBUFFS, {"of_job": job_id})
        changes.delays[job_id] = max(changes.delays[job_id], at + retry.row_backoff(times))
    if told:
        verdicts = [_verdict(job, changes) for job in fetch(tx, _THESE_JOBS, {"these": list(told)})]
        update_many(tx, _VERDICT, verdicts)
        if changes.routes:
            gone = {verdict["of_job"]: verdict["failed_out"] for verdict in verdicts if verdict["failed_out"]}
            failover.move_failed(tx, list(gone), max(gone.values(), default=0.0), changes.routes)


_THESE_JOBS = (
    select(*jobs.c, batches.c.retries)
    .select_from(jobs.join(batches, batches.c.id == jobs.c.batch_id))
    .where(among(jobs.c.id, "these"))
)
_REBUFFS = select(func.count()).where(
    attempts.c.job_id == bindparam("of_job"),
    attempts.c.state == AttemptState.REFUSED,
    attempts.c.error_code.not_in([Silence.NOT_SENT.value, Silence.UNREACHABLE.value]),
)


def _verdict(job: Any, changes: Changes) -> dict[str, Any]:
    """What the group's failures mean for a job: when it may go again, or that it ends."""
    verdict = {"of_job": job.id, "count": job.failures, "then": job.ready_at, "shut": job.closed}
    verdict.update(code=None, said=None, failed_out=None)
    if job.id in changes.delays:
        verdict["then"] = max(job.ready_at, changes.delays[job.id])
    for failure in changes.failures.get(job.id, ()):
        if failure.revision == job.revision:
            _count_failure(verdict, failure, retries=job.retries, parts=-(-job.n // job.max_n))
    return verdict


def _count_failure(verdict: dict[str, Any], failure: JobFailure, *, retries: int, parts: int) -> None:
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
