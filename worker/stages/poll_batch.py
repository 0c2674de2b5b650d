"""Asks a provider about many of its tasks in one request. Whoever is not told of is asked about alone, and soon."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from jobs.ledger.claims.values import DuePoll
from providers.registry import MANY_TASKS
from providers.types import ManyTold, Running, Succeeded, Unreadable, clean
from worker.http.client import Exchange
from worker.runtime.telemetry import emit
from worker.services import Services
from worker.stages import poll

#: The code of a poll that was answered without a word about its task.
NOT_TOLD = "not_told_together"


async def poll_batch(services: Services, dues: Sequence[DuePoll]) -> None:
    """Asks once, reads, notes how it went, and records what was told of each."""
    account = services.accounts[dues[0].account]
    call = MANY_TASKS[account.provider].poll_many([due.task_id for due in dues])
    exchange = await services.http.get(
        call, base_url=account.base_url, key=account.api_key, key_header=account.key_header, timeout=poll.TIMEOUT
    )
    told = _read(services, dues, exchange)
    _note(services, dues, told)
    await asyncio.gather(*(_record(services, due, told) for due in dues))


def _read(services: Services, dues: Sequence[DuePoll], exchange: Exchange) -> ManyTold:
    if exchange.response is None:
        return ManyTold(trouble=Unreadable(code="unreachable", message=clean(exchange.problem or "")))
    try:
        many = MANY_TASKS[services.accounts[dues[0].account].provider]
        return many.read_many(exchange.response, [due.task_id for due in dues])
    except Exception as bug:  # noqa: BLE001  paid for: a bug in reading leaves the tasks to single polls
        emit("poll_failed", level="error", account=dues[0].account, problem=repr(bug), exc_info=bug)
        return ManyTold(offered=False)


def _note(services: Services, dues: Sequence[DuePoll], told: ManyTold) -> None:
    account = dues[0].account
    if told.trouble is not None:
        services.poll_batching.failed(account, told.trouble.code, for_good=False)
    elif not told.offered:
        services.poll_batching.failed(account, "not_offered", for_good=True)
    else:
        services.poll_batching.worked(account, [due.attempt_id for due in dues if due.task_id not in told.tasks])


async def _record(services: Services, due: DuePoll, told: ManyTold) -> None:
    await services.recorder.record(*await poll.whatever_comes(services, due, _facts(services, due, told)))


async def _facts(services: Services, due: DuePoll, told: ManyTold) -> poll.Facts:
    outcome: Running | Succeeded | Unreadable | None = told.trouble or told.tasks.get(due.task_id)
    if outcome is not None:
        return await poll.facts_of(services, due, outcome)
    message = "an answer about many tasks told nothing of this one"
    return (poll.still_running(services, due, code=NOT_TOLD, message=message, at_once=True),)
