"""Asks a provider about one of its tasks. Nothing that a poll meets, and no lapse of time, ever fails an attempt.

Nor does one odd answer: a task that is called done without its images, or failed for no reason, is asked about again
(jobs/policy/doubts.py) before that is believed.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace

from jobs.facts import Fact, PartDelivered, TaskFailed, TaskStillRunning, TaskSucceeded
from jobs.formatting import in_words
from jobs.ledger.claims.values import DuePoll
from jobs.ledger.facts.interim import UNKNOWN_STATUS
from jobs.policy import doubts
from jobs.policy.adaptive_limits import POLL_COOLDOWN
from jobs.policy.doubts import Doubt
from providers.dialects.answers import about
from providers.types import Empty, Failed, Kind, NotFound, PollOutcome, Running, Succeeded, Unreadable, clean
from worker.runtime.telemetry import emit
from worker.runtime.timings import Timings
from worker.services import Services
from worker.stages.delivered_images import Billed, made_of

#: What a poll leads to: one fact, or several that become durable together.
Facts = tuple[Fact, ...]

#: Seconds a poll may take in all; its claim lasts longer, so nobody else asks meanwhile.
TIMEOUT = 20.0
LEASE = 30.0

#: Seconds to the next poll of a task, whatever its provider asks for: its links die meanwhile.
LONGEST_WISH = 600.0


async def poll(services: Services, due: DuePoll) -> None:
    """Asks, reads, records."""
    await services.recorder.record(*await whatever_comes(services, due, _look(services, due)))


async def whatever_comes(services: Services, due: DuePoll, looking: Awaitable[Facts]) -> Facts:
    """The facts that looking leads to. A bug on the way delays the answer, and is told: the task is paid for."""
    try:
        return await looking
    except Exception as bug:  # noqa: BLE001  see above
        emit("poll_failed", level="error", attempt_id=due.attempt_id, problem=repr(bug), exc_info=bug)
        return (
            still_running(
                services, due, code="poll_failed", message=clean(in_words(bug)), least=services.timings.poll_refused
            ),
        )


async def _look(services: Services, due: DuePoll) -> Facts:
    account = services.accounts[due.account]
    dialect = services.dialects[account.provider]
    route = services.routes.of_task(account.provider, due.provider_model)
    call = dialect.poll(due.task_id, route, due.poll_path)
    exchange = await services.http.get(
        call, base_url=account.base_url, key=account.api_key, key_header=account.key_header, timeout=TIMEOUT
    )
    if exchange.response is None:
        return await facts_of(services, due, Unreadable(code="unreachable", message=clean(exchange.problem or "")))
    outcome = about(dialect, due.task_id, exchange.response, dialect.read_poll(exchange.response))
    return await facts_of(services, due, outcome)


async def facts_of(services: Services, due: DuePoll, outcome: PollOutcome) -> Facts:
    """What an answer means for the attempt."""
    if isinstance(outcome, Succeeded):
        return await _succeeded(services, due, outcome)
    return (_without_images(services, due, outcome),)


def _without_images(
    services: Services, due: DuePoll, outcome: Running | Failed | Empty | NotFound | Unreadable
) -> Fact:
    if isinstance(outcome, Failed):
        return _failed(services, due, outcome)
    if isinstance(outcome, Empty):
        return _empty(services, due, outcome)
    if isinstance(outcome, NotFound):
        return _not_found(services, due, outcome)
    if isinstance(outcome, Unreadable):
        return _unreadable(services, due, outcome)
    if outcome.known:
        return still_running(services, due)
    message = f"status {clean(outcome.status, 80)}"
    return still_running(services, due, code=UNKNOWN_STATUS, message=message, raw=outcome.raw)


# -- what it says --------------------------------------------------------------------------------------------------


async def _succeeded(services: Services, due: DuePoll, outcome: Succeeded) -> Facts:
    now = services.clock.now()
    life = services.routes.of_task(services.accounts[due.account].provider, due.provider_model).link_life
    # A provider's clock may be ahead of ours; a link never dies later than counted from now. Where nobody says when it
    # was made it was after the task began: a poll may come days after its end.
    made_at = min(outcome.generated_at or due.accepted_at, now)
    images = await made_of(services, due.attempt_id, outcome.links, life=life, made_at=made_at, known=due.came)
    cost, no_usage = Billed.of(services, account=due.account, task=due).settled(outcome.usage, len(images))
    whole = TaskSucceeded(
        attempt_id=due.attempt_id, at=now, images=images, took=outcome.took, cost=cost, no_usage=no_usage
    )
    if len(images) >= due.n or _is_believed(Doubt.SHORT, due, now):
        return (whole,)
    # What came is copied at once; the others may be in the next answer, and are not bought again before.
    asked_on = _doubted(services, due, Doubt.SHORT, f"{len(images)} of {due.n} images are named")
    part = PartDelivered(attempt_id=due.attempt_id, at=now, images=images, next_poll_at=asked_on.next_poll_at)
    return (part, asked_on) if len(images) > due.came else (asked_on,)


def _empty(services: Services, due: DuePoll, outcome: Empty) -> Fact:
    now = services.clock.now()
    if not _is_believed(Doubt.EMPTY, due, now):
        return _doubted(services, due, Doubt.EMPTY, outcome.message, outcome.raw)
    # Permanent, and counted as charged: nobody says that it is free, so it is not bought again by itself.
    return TaskFailed(
        attempt_id=due.attempt_id,
        at=now,
        kind=Kind.PERMANENT,
        code="no_images",
        message=outcome.message,
        raw=outcome.raw,
        charged=True,
    )


def _failed(services: Services, due: DuePoll, outcome: Failed) -> Fact:
    now = services.clock.now()
    if doubts.of_failure(outcome.kind, outcome.code) and not _is_believed(Doubt.FAILED, due, now):
        return _doubted(services, due, Doubt.FAILED, outcome.message, outcome.raw)
    return TaskFailed(
        attempt_id=due.attempt_id,
        at=now,
        kind=outcome.kind,
        code=outcome.code,
        message=outcome.message,
        raw=outcome.raw,
        since=doubts.since(Doubt.FAILED, due.doubted, now),
    )


def _is_believed(doubt: Doubt, due: DuePoll, now: float) -> bool:
    return doubts.is_believed(doubt, due.doubted, now, polls=due.polls, age=now - due.accepted_at)


def _doubted(services: Services, due: DuePoll, doubt: Doubt, message: str, raw: str = "") -> TaskStillRunning:
    now = services.clock.now()
    route = services.routes.of_task(services.accounts[due.account].provider, due.provider_model)
    return TaskStillRunning(
        attempt_id=due.attempt_id,
        at=now,
        next_poll_at=now + doubts.wait(doubt, due.doubted, now, route.poll_every),
        code=doubt.value,
        message=message,
        raw=raw,
        doubt=doubt,
        answers=doubts.answers(doubt, due.doubted),
    )


def is_forgotten(due: DuePoll, now: float, timings: Timings) -> bool:
    """Whether "not found" is believed: said for a day with the same key, while others are answered. Until then: asked.

    A provider whose database is away says "not found" to all; one that just lost our key's rights, too.
    """
    missed = 0.0 if due.not_found_since is None else now - due.not_found_since
    others = due.answered_at is not None and now - due.answered_at < timings.forgotten_after
    return missed >= timings.forgotten_for_sure or (missed >= timings.forgotten_after and others)


def _not_found(services: Services, due: DuePoll, outcome: NotFound) -> Fact:
    now = services.clock.now()
    if is_forgotten(due, now, services.timings):
        return TaskFailed(
            attempt_id=due.attempt_id,
            at=now,
            kind=Kind.PERMANENT,
            code="task_forgotten",
            message=outcome.message,
            raw=outcome.raw,
            forgotten=True,
        )
    return still_running(services, due, code="task_not_found", message=outcome.message, raw=outcome.raw, not_found=True)


def _unreadable(services: Services, due: DuePoll, outcome: Unreadable) -> Fact:
    if outcome.kind is Kind.ACCOUNT:
        emit("poll_refused", level="debug", account=due.account, code=outcome.code, message=outcome.message)
    least = min(
        outcome.retry_after or (services.timings.poll_refused if outcome.kind is Kind.ACCOUNT else 0.0), LONGEST_WISH
    )
    fact = still_running(services, due, code=outcome.code, message=outcome.message, raw=outcome.raw, least=least)
    return replace(fact, rest=outcome.retry_after or POLL_COOLDOWN) if outcome.kind is Kind.THROTTLED else fact


def still_running(  # noqa: PLR0913  the fact's own fields
    services: Services,
    due: DuePoll,
    *,
    code: str | None = None,
    message: str | None = None,
    raw: str = "",
    not_found: bool = False,
    least: float = 0.0,
    at_once: bool = False,
) -> TaskStillRunning:
    """Nothing has ended, as far as anybody knows. `least`: seconds until the next poll; `at_once`: it is due now."""
    now = services.clock.now()
    route = services.routes.of_task(services.accounts[due.account].provider, due.provider_model)
    wait = services.poll_scheduler.next_wait(due.attempt_id, due.kind, route, max(0.0, now - due.accepted_at))
    return TaskStillRunning(
        attempt_id=due.attempt_id,
        at=now,
        next_poll_at=now if at_once else now + max(least, wait),
        code=code,
        message=message,
        raw=raw,
        not_found=not_found,
    )
