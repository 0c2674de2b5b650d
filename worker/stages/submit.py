"""The paid step: what one claimed attempt goes through, once, from its intent to the record of what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from jobs.facts import Fact, SubmitAccepted, SubmitRefused, SubmitUnclear, TaskSucceeded
from jobs.formatting import in_words
from jobs.ledger import is_away
from jobs.ledger.accounts.durations import TaskKind
from jobs.ledger.claims.values import Intent
from jobs.policy.endings import SILENCES, Ending, Silence, unanswered
from providers.types import (
    Accepted,
    Ambiguous,
    Call,
    Delivered,
    Kind,
    ReferenceFile,
    Refused,
    Route,
    SubmitOutcome,
    clean,
)
from worker.http.client import Exchange, File
from worker.http.transport import SentFlag
from worker.runtime.telemetry import emit
from worker.services import Services
from worker.stages import hint, references
from worker.stages.delivered_images import Billed, made_of

T = TypeVar("T")

#: Seconds beyond the submit's own timeout that a lease must still have when the request leaves: for clocks that
#: disagree and for the moments between the check and the first byte.
MARGIN = 10.0
#: Seconds that references may take to be fetched; part of a lease.
PREPARATION = 90.0
#: Tries at a reference that may answer later.
REFERENCE_TRIES = 3
#: Seconds before a row is tried again that failed here, by a bug or before its time.
LATER = 30.0
TOO_LATE = "its time had passed"
STOPPED = "all submits were stopped before it was sent"
#: Seconds that a claim can be ahead of its requests, and more: beyond them the clock was set meanwhile.
LONGEST_HORIZON = 30.0


@dataclass(slots=True, kw_only=True)
class ClaimedSubmit:
    """One claimed submit on its way. `boot_until`: the lease's end by the boot clock."""

    intent: Intent
    boot_until: float
    sent_flag: SentFlag = field(default_factory=SentFlag)
    stopped: bool = False  # set by a worker that ends: what has not left shall stay
    answered: bool = False  # how it ended is known, and with the recorder


async def submit(services: Services, attempt: ClaimedSubmit) -> Fact:
    """One paid try: every step in order, none of them twice. However it ends, it ends as one fact on record."""
    try:
        intent = attempt.intent
        provider = services.accounts[intent.account].provider
        route = services.catalog.route_of(provider, intent.provider_model, intent.request, intent.mode)
        call, files = await _prepare(services, intent, route)
        early = intent.send_at - services.clock.now()
        if 0 < early < LONGEST_HORIZON:
            await services.clock.sleep(early)
        await services.departures.turn(intent.account, intent.interval)
        await _demand_no_stop(services, intent)
        _demand_still_allowed(services, attempt, route)
        exchange = await _send(services, attempt, call, files, route)
        fact = await _read(services, intent, route, call, exchange)
    except _StayedHereError as stayed:
        fact = stayed.fact
    except (Exception, asyncio.CancelledError) as trouble:  # noqa: BLE001  after the sent flag even a bug is an outcome
        fact = _after_trouble(services, attempt, trouble)
        attempt.answered = True
        written = services.recorder.put(fact)
        if not isinstance(trouble, asyncio.CancelledError):
            await written
        return fact
    attempt.answered = True
    await services.recorder.record(fact)
    return fact


def lease_for(services: Services, account: str) -> float:
    """Seconds a claim of this account's submits must last."""
    provider = services.accounts[account].provider
    return services.routes.longest_submit(provider) + PREPARATION + 2 * MARGIN


def given_back(intent: Intent, now: float) -> SubmitRefused:
    """What becomes of a claim that came back when its worker had ended."""
    return SubmitRefused(
        attempt_id=intent.attempt_id,
        at=now,
        kind=Kind.TRANSIENT,
        code=Silence.NOT_SENT.value,
        message="this process had ended",
        retry_after=0.0,
    )


# -- the steps -----------------------------------------------------------------------------------------------------


async def _prepare(services: Services, intent: Intent, route: Route) -> tuple[Call, Mapping[str, File]]:
    account = services.accounts[intent.account]
    dialect = services.dialects[account.provider]
    callback = hint.callback_url(services, intent.account, intent.attempt_id)
    # What was planned is asked for: its price is what was set aside, whatever the settings say by now.
    extras = {"route_mode": intent.mode or account.route_mode or "", "callback_url": callback}
    request = await _tried(services, intent, lambda: references.within_reach(services, intent, route))
    call = dialect.submit(request, route, intent.n, extras)
    wanted = list(dict.fromkeys(value.url for _, value in call.form if isinstance(value, ReferenceFile)))
    fetched = await asyncio.gather(*(_file(services, intent, url) for url in wanted))
    return call, dict(zip(wanted, fetched, strict=True))


async def _file(services: Services, intent: Intent, url: str) -> File:
    limit = PREPARATION / REFERENCE_TRIES - services.timings.reference_retry
    return await _tried(services, intent, lambda: references.file_of(services, intent, url, timeout=limit))


async def _tried(services: Services, intent: Intent, reach: Callable[[], Awaitable[T]]) -> T:
    """References that may answer later are asked again; one that does not ends the row, before anything is paid."""
    for left in reversed(range(REFERENCE_TRIES)):
        try:
            return await reach()
        except references.Unreachable as error:
            if error.ours:
                raise _StayedHereError(_not_sent(services, intent, error.message, retry_after=LATER)) from error
            if not (error.later and left):
                raise _StayedHereError(_refused(services, intent, Kind.PERMANENT, error.code, error.message)) from error
        await services.clock.sleep(services.timings.reference_retry)
    raise AssertionError("unreachable")


async def _demand_no_stop(services: Services, intent: Intent) -> None:
    """A ledger that cannot say so, or anything else that fails here, is no leave to send."""
    try:
        stopped = await services.stop_check.look()
    except Exception as trouble:
        if not is_away(trouble):
            raise
        message = "the ledger did not answer before it was sent"
        raise _StayedHereError(_not_sent(services, intent, message, retry_after=LATER)) from trouble
    if stopped:
        raise _StayedHereError(_not_sent(services, intent, STOPPED, retry_after=0.0))


def _demand_still_allowed(services: Services, attempt: ClaimedSubmit, route: Route) -> None:
    """Directly before the POST."""
    if attempt.stopped:
        raise _StayedHereError(_not_sent(services, attempt.intent, "this process is ending", retry_after=0.0))
    if _time_left(services, attempt) < route.submit_timeout + MARGIN:
        raise _StayedHereError(_not_sent(services, attempt.intent, TOO_LATE, retry_after=0.0))


def _time_left(services: Services, attempt: ClaimedSubmit) -> float:
    """Seconds. Both clocks are asked: one may have been set, the other survives a laptop's sleep."""
    return min(attempt.intent.lease_until - services.clock.now(), attempt.boot_until - services.clock.boot())


async def _send(
    services: Services, attempt: ClaimedSubmit, call: Call, files: Mapping[str, File], route: Route
) -> Exchange:
    account = services.accounts[attempt.intent.account]
    attempt.sent_flag.may_leave = lambda: _may_leave(services, attempt)
    exchange = await services.http.send(
        call,
        base_url=account.base_url,
        key=account.api_key,
        key_header=account.key_header,
        timeout=route.submit_timeout,
        files=files,
        sent_flag=attempt.sent_flag,
    )
    if attempt.sent_flag.too_late:
        message = STOPPED if services.stop_check.is_stopped else TOO_LATE
        raise _StayedHereError(_not_sent(services, attempt.intent, message, retry_after=0.0))
    return exchange


def _may_leave(services: Services, attempt: ClaimedSubmit) -> bool:
    """Asked when the connection stands: a process that was stopped while it connected must not send then."""
    if _time_left(services, attempt) <= MARGIN or services.stop_check.is_stopped:
        return False
    services.ledger.departs(attempt.intent.attempt_id)
    return True


async def _read(services: Services, intent: Intent, route: Route, call: Call, exchange: Exchange) -> Fact:
    if exchange.response is None:
        return _silent(services, intent, exchange)
    account = services.accounts[intent.account]
    dialect = services.dialects[account.provider]
    outcome = dialect.read_submit(exchange.response, base_url=account.base_url, call=call)
    fact = await _fact(services, intent, route, outcome)
    # How long an answer takes tells of load; when it left, whether a 429 tells anything new.
    return replace(fact, took=exchange.took) if isinstance(fact, SubmitAccepted | SubmitRefused) else fact


def _silent(services: Services, intent: Intent, exchange: Exchange) -> Fact:
    silence, problem = unanswered(sent=exchange.sent), clean(exchange.problem or "")
    if SILENCES[silence] is Ending.REFUSED:
        return _refused(services, intent, Kind.TRANSIENT, silence.value, problem)
    came = exchange.partial.body.decode("utf-8", "replace")[:4000] if exchange.partial else ""
    now = services.clock.now()
    return SubmitUnclear(attempt_id=intent.attempt_id, at=now, code=silence.value, message=problem, raw=came)


# -- what a submit ended in ----------------------------------------------------------------------------------------


async def _fact(services: Services, intent: Intent, route: Route, outcome: SubmitOutcome) -> Fact:
    now = services.clock.now()
    if isinstance(outcome, Accepted):
        kind = TaskKind(
            account=intent.account,
            provider_model=intent.provider_model,
            resolution=intent.request.resolution or "",
        )
        wait = services.poll_scheduler.first_wait(intent.attempt_id, kind, route)
        return SubmitAccepted(
            attempt_id=intent.attempt_id,
            at=now,
            task_id=outcome.task_id,
            poll_path=outcome.poll_path,
            next_poll_at=now + wait,
        )
    if isinstance(outcome, Delivered):
        images = await made_of(services, intent.attempt_id, outcome.links, life=route.link_life, made_at=now)
        billed = Billed.of(services, account=intent.account, task=intent)
        cost, no_usage = billed.settled(outcome.usage, len(images))
        return TaskSucceeded(
            attempt_id=intent.attempt_id,
            at=now,
            images=images,
            task_id=outcome.task_id,
            at_once=True,
            cost=cost,
            no_usage=no_usage,
        )
    return _no_task(intent, outcome, now)


def _no_task(intent: Intent, outcome: Refused | Ambiguous, now: float) -> Fact:
    if isinstance(outcome, Refused):
        return SubmitRefused(
            attempt_id=intent.attempt_id,
            at=now,
            kind=outcome.kind,
            code=outcome.code,
            message=outcome.message,
            raw=outcome.raw,
            retry_after=outcome.retry_after,
        )
    return SubmitUnclear(
        attempt_id=intent.attempt_id, at=now, code=outcome.code, message=outcome.message, raw=outcome.raw
    )


class _StayedHereError(Exception):
    """Nothing was sent; `fact` says why."""

    def __init__(self, fact: SubmitRefused) -> None:
        super().__init__(fact.message)
        self.fact = fact


def _refused(services: Services, intent: Intent, kind: Kind, code: str, message: str) -> SubmitRefused:
    now = services.clock.now()
    return SubmitRefused(attempt_id=intent.attempt_id, at=now, kind=kind, code=code, message=clean(message))


def _not_sent(services: Services, intent: Intent, message: str, *, retry_after: float) -> SubmitRefused:
    return SubmitRefused(
        attempt_id=intent.attempt_id,
        at=services.clock.now(),
        kind=Kind.TRANSIENT,
        code=Silence.NOT_SENT.value,
        message=message,
        retry_after=retry_after,
    )


def _after_trouble(services: Services, attempt: ClaimedSubmit, trouble: BaseException) -> Fact:
    """A bug, or a worker that waits no longer: the sent flag alone says whether money may have gone."""
    ended = isinstance(trouble, asyncio.CancelledError)
    message = "this process ended before the answer came" if ended else clean(in_words(trouble))
    if not ended:
        emit("submit_failed", level="error", attempt_id=attempt.intent.attempt_id, problem=message, exc_info=trouble)
    if not attempt.sent_flag.sent:
        return _not_sent(services, attempt.intent, message, retry_after=0.0 if ended else LATER)
    return SubmitUnclear(
        attempt_id=attempt.intent.attempt_id, at=services.clock.now(), code=Silence.UNANSWERED.value, message=message
    )
