"""What may be started now, decided in one transaction each.

A claim of submits holds the account's row, where there is an overall daily budget the ledger's, then the rows of the
batches it serves. Under these it reads the rate, counts what is in flight, checks the budgets and commits the intent,
so these can never disagree and a crash leaks nothing: an in-flight place is an attempt's row, and a rate that was taken
and not used is merely lost time. What it cannot promise: that a claimed submit was not sent by a process that died.
Such attempts become `unknown` (sweep, or `hold` on SQLite).
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    Connection,
    Integer,
    bindparam,
    func,
    literal_column,
    select,
    update,
)

from jobs.ledger.accounts import daily_budgets, monthly_budgets
from jobs.ledger.accounts.places import in_flight, lock_account, most_in_flight, submit_rate
from jobs.ledger.claims import copy_stops, fair_share
from jobs.ledger.claims.fair_share import IS_READY, MAY_SPEND, WAITS, BatchShare
from jobs.ledger.claims.values import Claim, Intent
from jobs.ledger.database import server
from jobs.ledger.database.many import insert_many, update_many
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
from jobs.ledger.database.statements import Row, among, fetch, fetch_value, run
from jobs.policy import rate, retry
from jobs.policy.adaptive_limits import Bound
from jobs.policy.retry import UNCLEAR_BEFORE_COOLDOWN
from jobs.states import AttemptState, JobState
from providers.types import Request

# -- submits -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a claim of submits is to be made."""

    lease: float  # seconds
    at_most: int
    horizon: float  # seconds within which they can be sent
    only: str | None  # the one batch that may spend; None: every active batch, by fair share
    holder: str | None  # the process that claims
    of_schedule: int | None = None  # the one schedule whose batches may spend
    provider: str | None = None  # where it thinks that the account is; None: it was not told
    may_have_moved: bool = False  # whether the server tells where it comes from


def claim_submits(tx: Connection, name: str, now: float, terms: Terms) -> Claim:
    """Commits the intent to send: attempts `submitting`, their slots taken, their cost reserved, their time given."""
    account = lock_account(tx, name)
    # Asked each time, on the claim's own connection: a server may be replaced while we hold one through a pooler.
    moved = terms.may_have_moved and server.has_moved(tx)
    rest = math.inf if moved else _rest(account, now, terms.provider)
    if rest is not None:
        return Claim(intents=(), next_at=rest if math.isfinite(rest) else None)
    places = most_in_flight(account) - in_flight(tx, account.id, now, terms.holder)
    room = min(terms.at_most, places)
    if _is_troubled(account):
        room = min(room, 1 - _probes(tx, account, now))
    elif places <= 0:
        _note_bound(tx, account, Bound.IN_FLIGHT)
    if room <= 0:
        return Claim(intents=())
    permits = rate.permits(
        tat=account.submit_tat, now=now, per_second=submit_rate(account), horizon=terms.horizon, most=room
    )
    if not permits.count:
        return Claim(intents=(), next_at=permits.next_at(0))
    today = daily_budgets.left(tx, account, now)
    stops = copy_stops.stops(tx, account.id, now)
    wish = _Wish(most=permits.count, now=now, only=terms.only, of_schedule=terms.of_schedule, today=today)
    # Nothing for what cannot be stored, but one submit now and then that tries whether it can be again.
    probe = _pick(tx, account, replace(wish, most=1, which=stops.probes)) if stops else []
    tries = probe + _pick(tx, account, wish.without(probe, stops.frees if stops else None))
    if not tries:
        _note_bound(tx, account, Bound.WORK)
        if today is not None and today <= 0:
            return Claim(intents=(), next_at=daily_budgets.next_day(now))
        return Claim(intents=(), next_at=_next_ready(tx, account, wish))
    bound = _bound(account, permits, len(tries), places)
    claim = _commit_intent(tx, account, tries, permits, now=now, terms=terms, bound=bound)
    for one in probe:  # last, as everybody who writes these rows does
        dest = fetch_value(tx, _DEST, {"of_batch": one.job.batch_id})
        copy_stops.note_probe(tx, account.id, one.job.provider_model, dest, now)
    return claim


_DEST = select(batches.c.dest).where(batches.c.id == bindparam("of_batch"))


def _rest(account: Row, now: float, provider: str | None) -> float | None:
    if provider not in (None, account.provider):
        return math.inf  # its name went to another provider since this process began
    return retry.cooldown_until(account.paused_until, now)


def _is_troubled(account: Row) -> bool:
    """After trouble there is one probe at a time."""
    return account.paused_code is not None or account.unclear >= UNCLEAR_BEFORE_COOLDOWN


def _bound(account: Row, permits: rate.Permits, taken: int, places: int) -> str:
    """What kept a claim from taking more. A probe's claim says nothing of it."""
    if _is_troubled(account):
        return str(account.bound_by)
    if taken < permits.count:
        return Bound.WORK.value
    # A first permit that lay ready waited for a place, not for the rate; where it took the last one, so will the next.
    # And where nobody waited for a place, we came late ourselves: the rate that was not used is not known to be right.
    ready = permits.start <= permits.now
    if taken >= places and (permits.short or ready):
        return Bound.IN_FLIGHT.value
    return (Bound.WORK if ready else Bound.RATE).value


def _note_bound(tx: Connection, account: Row, bound: Bound) -> None:
    if account.bound_by != bound.value:
        run(tx, _BOUND, {"of_account": account.id, "bound": bound.value})


_BOUND = update(accounts).where(accounts.c.id == bindparam("of_account")).values(bound_by=bindparam("bound"))


def _probes(tx: Connection, account: Row, now: float) -> int:
    """Submits on their way that began after the cooldown; one that hangs since before the trouble is no probe."""
    until = account.paused_until
    ended = until if until is not None and until <= now else None  # one beyond all reason has no end to count from
    since = ended or account.troubled_since or 0.0
    return int(fetch_value(tx, _PROBES, {"of_account": account.id, "since": since}))


_PROBES = select(func.count()).where(
    attempts.c.account_id == bindparam("of_account"),
    attempts.c.state == literal_column("'submitting'"),
    attempts.c.created_at >= bindparam("since"),
)


@dataclass(frozen=True, slots=True)
class _Try:
    """Slots of one job that one attempt is to fill."""

    job: Row
    request: Request
    slots: tuple[int, ...]
    cost: int
    schedule_id: int | None  # whose month it counts in


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What a claim may take."""

    most: int
    now: float
    only: str | None
    of_schedule: int | None
    today: int | None  # micro-dollars that the day's budgets leave; None: as many as the batches' own
    which: fair_share.Which | None = None  # rows; None: all that are ready

    @property
    def work(self) -> tuple[float, str | None, int | None, fair_share.Which | None]:
        """What is asked for batches that have such work."""
        return self.now, self.only, self.of_schedule, self.which

    def without(self, taken: list[_Try], which: fair_share.Which | None) -> _Wish:
        """What is left, of such jobs."""
        today = None if self.today is None else self.today - _cost(taken)
        return replace(self, most=self.most - len(taken), today=today, which=which)


def _pick(tx: Connection, account: Row, wish: _Wish) -> list[_Try]:
    open_shares = fair_share.with_work(tx, account, *wish.work) if wish.most > 0 else []
    owners = {share.batch.schedule_id for share in open_shares}
    while open_shares:
        picked: dict[int, list[_Try]] = {}
        today, months = wish.today, monthly_budgets.LeftToSpend(tx, owners, wish.now)
        for share, count in fair_share.divide(open_shares, wish.most):
            ready = _ready_jobs(tx, share, account.provider, count, wish.now)
            tries = _cut_into_tries(ready, _free_slots(tx, ready), share.batch.schedule_id)[:count]
            budgets = (_left(share.batch), today, months.of(share.batch.schedule_id))
            allowed = _within(min(known), tries) if (known := [one for one in budgets if one is not None]) else tries
            picked[share.batch.id] = allowed
            today = None if today is None else today - _cost(allowed)
            months.take(share.batch.schedule_id, _cost(allowed))
        idle = {batch_id for batch_id, tries in picked.items() if not tries}
        if not idle:
            fair_share.note(tx, account, open_shares, {batch_id: len(tries) for batch_id, tries in picked.items()})
            return [one for tries in picked.values() for one in tries][: wish.most]
        # Whose budget is used up starts nothing: what would be its share goes to the others.
        open_shares = [share for share in open_shares if share.batch.id not in idle]
    return []


def _ready_jobs(tx: Connection, share: BatchShare, provider: str, most: int, now: float) -> Sequence[Row]:
    wanted = {"of_batch": share.batch.id, "at_provider": provider, "moment": now, "most": most}
    if share.models is None:
        return fetch(tx, _READY, wanted)
    # One question a model: a condition on the models would read every row that waits before the first that may go.
    found = [row for model in share.models for row in fetch(tx, _READY_OF_MODEL, {**wanted, "model": model})]
    return sorted(found, key=lambda row: int(row.position))[:most]


_READY = (
    select(jobs)
    .where(jobs.c.batch_id == bindparam("of_batch"), *IS_READY)
    .order_by(jobs.c.position)
    .limit(bindparam("most", type_=Integer))
    .with_for_update(key_share=True)
)
_READY_OF_MODEL = _READY.where(jobs.c.provider_model == bindparam("model"))


def _cut_into_tries(ready: Sequence[Row], free: Mapping[int, Sequence[int]], schedule_id: int | None) -> list[_Try]:
    tries: list[_Try] = []
    for job in ready:
        slots, request = free[job.id], Request.from_json(job.request)
        for start in range(0, len(slots), job.max_n):
            part = tuple(slots[start : start + job.max_n])
            cost = (job.price or 0) * len(part)
            tries.append(_Try(job=job, request=request, slots=part, cost=cost, schedule_id=schedule_id))
    return tries


def _free_slots(tx: Connection, ready: Sequence[Row]) -> dict[int, list[int]]:
    revision = {job.id: job.revision for job in ready}
    slots: dict[int, list[int]] = defaultdict(list)
    for row in fetch(tx, _FREE, {"of_jobs": list(revision)}):
        if row.revision == revision[row.job_id]:
            slots[row.job_id].append(row.slot)
    return slots


_FREE = (
    select(images.c.job_id, images.c.revision, images.c.slot)
    .where(
        among(images.c.job_id, "of_jobs"),
        IS_MISSING,
        images.c.attempt_id.is_(None),
        WAS_ASKED_FOR,
    )
    .order_by(images.c.job_id, images.c.slot)
)


def _left(batch: Row) -> int | None:
    return None if batch.budget is None else batch.budget - batch.reserved - batch.charged


def _cost(tries: Iterable[_Try]) -> int:
    return sum(one.cost for one in tries)


def _within(left: int, tries: list[_Try]) -> list[_Try]:
    """The tries that `left` micro-dollars allow, in manifest order; the last may get fewer slots than it asked for."""
    allowed: list[_Try] = []
    for wanted in tries:
        part = _affordable(wanted, left)
        if part is not None:
            allowed.append(part)
            left -= part.cost
        if part is not wanted:
            break
    return allowed


def _affordable(wanted: _Try, left: int) -> _Try | None:
    if wanted.job.price is None:
        return None  # a budget cannot hold what has no price
    if wanted.cost <= max(0, left):  # what costs nothing fits a budget that is used, too
        return wanted
    count = left // wanted.job.price if left > 0 else 0
    if count <= 0:
        return None
    return replace(wanted, slots=wanted.slots[:count], cost=wanted.job.price * count)


def _next_ready(tx: Connection, account: Row, wish: _Wish) -> float | None:
    """When a row's wait ends. Not asked while rows could be sent and may not: all of these would be read, each time."""
    if fair_share.with_work(tx, account, *wish.work):
        return None
    mine = {"only": wish.only, "of_schedule": wish.of_schedule}
    found: float | None = fetch_value(tx, _NEXT_READY, {"at_provider": account.provider, "moment": wish.now, **mine})
    return found


_NEXT_READY = select(func.min(jobs.c.ready_at)).where(
    *WAITS, jobs.c.ready_at > bindparam("moment"), jobs.c.batch_id.in_(select(batches.c.id).where(MAY_SPEND))
)


def _commit_intent(  # noqa: PLR0913  what the claim has found, in one transaction
    tx: Connection,
    account: Row,
    tries: list[_Try],
    permits: rate.Permits,
    *,
    now: float,
    terms: Terms,
    bound: str,
) -> Claim:
    first = account.id * ATTEMPTS_AN_ACCOUNT + account.attempts_made
    numbered = list(enumerate(tries, start=first))
    until = now + terms.lease
    fresh = [_attempt(number, account, one, now=now, until=until, holder=terms.holder) for number, one in numbered]
    insert_many(tx, attempts, tuple(fresh[0]), [tuple(row.values()) for row in fresh])
    taken_slots = [
        {"of_job": one.job.id, "of_revision": one.job.revision, "of_slot": slot, "taken_by": number}
        for number, one in numbered
        for slot in one.slots
    ]
    update_many(tx, _TAKE_SLOT, taken_slots)
    # Jobs without a free slot left are `working` now; the others stay ready for the next claim.
    picked = {one.job.id: one.job for one in tries}
    still_free = _free_slots(tx, list(picked.values()))
    if full := [job_id for job_id in picked if not still_free[job_id]]:
        run(tx, _WORKING, {"of_jobs": full})
    cost: Counter[int] = Counter()
    for one in tries:
        cost[one.job.batch_id] += one.cost
    update_many(tx, _RESERVE, [{"of_batch": batch, "cost": cost[batch]} for batch in sorted(cost)])
    daily_budgets.move(tx, {(daily_budgets.day_of(now), account.id): _cost(tries)})
    _count_in_months(tx, tries, now)
    taken = {"of_account": account.id, "tat": permits.tat(len(tries)), "more": len(tries), "bound": bound}
    run(tx, _TAKE_RATE, taken)
    intents = tuple(
        _intent(number, account, one, send_at=at, interval=permits.interval, until=until)
        for (number, one), at in zip(numbered, permits.times, strict=False)
    )
    return Claim(intents=intents, next_at=permits.next_at(len(tries)))


def _count_in_months(tx: Connection, tries: list[_Try], now: float) -> None:
    sums: Counter[tuple[int, int]] = Counter()
    for one in tries:
        if one.schedule_id is not None:
            sums[one.schedule_id, monthly_budgets.month_of(now)] += one.cost
    monthly_budgets.count(tx, sums)


def _attempt(number: int, account: Row, one: _Try, *, now: float, until: float, holder: str | None) -> dict[str, Any]:
    return {
        "id": number,
        "batch_id": one.job.batch_id,
        "job_id": one.job.id,
        "account_id": account.id,
        "state": AttemptState.SUBMITTING.value,
        "provider_model": one.job.provider_model,
        "slots": json.dumps(one.slots),
        "revision": one.job.revision,
        "n": len(one.slots),
        "price": one.job.price,
        "mode": one.job.mode,
        "reserved": one.cost,
        "created_at": now,
        "lease_until": until,
        "holder": holder,
        "asked_resolution": one.request.resolution,
    }


_TAKE_RATE = (
    update(accounts)
    .where(accounts.c.id == bindparam("of_account"))
    .values(
        submit_tat=bindparam("tat"),
        attempts_made=accounts.c.attempts_made + bindparam("more"),
        bound_by=bindparam("bound"),
    )
)
_TAKE_SLOT = (
    update(images)
    .where(
        images.c.job_id == bindparam("of_job"),
        images.c.revision == bindparam("of_revision"),
        images.c.slot == bindparam("of_slot"),
        WAS_ASKED_FOR,
    )
    .values(attempt_id=bindparam("taken_by"))
)


_WORKING = update(jobs).where(among(jobs.c.id, "of_jobs")).values(state=JobState.WORKING.value)


_RESERVE = (
    update(batches).where(batches.c.id == bindparam("of_batch")).values(reserved=batches.c.reserved + bindparam("cost"))
)


def _intent(number: int, account: Row, one: _Try, *, send_at: float, interval: float, until: float) -> Intent:
    return Intent(
        attempt_id=number,
        account=account.name,
        batch_id=one.job.batch_id,
        job_id=one.job.id,
        key=one.job.key,
        request=one.request,
        provider_model=one.job.provider_model,
        mode=one.job.mode,
        price=one.job.price,
        slots=one.slots,
        n=len(one.slots),
        send_at=send_at,
        interval=interval,
        lease_until=until,
    )
