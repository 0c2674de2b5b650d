"""Looks into what a callback said: the task is fetched with our key, and bound only when it is ours."""

from __future__ import annotations

from jobs.facts import SubmitAccepted
from jobs.ledger.claims.values import DueHint
from providers.dialects import callbacks
from worker.http.client import Exchange
from worker.runtime.telemetry import emit
from worker.services import Services
from worker.stages.poll import TIMEOUT

#: Seconds until a hint that could not be looked into is looked at again; doubled each time.
LEASE = 30.0
#: The provider that calls back.
PROVIDER = "maxapi.io"
#: Where `lightfast serve` takes callbacks.
PATH = "/hooks/maxapi.io/"


def callback_url(services: Services, account: str, attempt_id: int) -> str:
    """The address this attempt's callback goes to; empty where none is wanted."""
    mine = services.accounts[account]
    if mine.provider != PROVIDER or not mine.webhook_base_url:
        return ""
    return mine.webhook_base_url.rstrip("/") + PATH + services.ledger.hints.token(attempt_id)


async def look_into(services: Services, due: DueHint) -> None:
    """Asks about the hinted task; records it as the attempt's own when it is. Otherwise nothing changes."""
    if due.account not in services.accounts:
        return
    exchange = await _ask(services, due)
    origin = callbacks.read_origin(exchange.response) if exchange.response is not None else None
    if origin is None or origin.task_id != due.task_id:
        return  # not confirmed and not denied: looked at again later, a few times
    if _is_ours(origin, due):
        now = services.clock.now()
        emit("attempt_found_by_callback", level="debug", attempt_id=due.attempt_id, task_id=due.task_id)
        await services.recorder.record(
            SubmitAccepted(attempt_id=due.attempt_id, at=now, task_id=due.task_id, poll_path=None, next_poll_at=now)
        )
        await services.executors.write(services.ledger.hints.drop, [(due.attempt_id, due.task_id)])
    else:
        emit("callback_named_another_task", level="warning", attempt_id=due.attempt_id, task_id=due.task_id)
        await services.executors.write(services.ledger.hints.refute, [(due.attempt_id, due.task_id)])


async def _ask(services: Services, due: DueHint) -> Exchange:
    account = services.accounts[due.account]
    route = services.routes.of_task(account.provider, due.provider_model)
    call = services.dialects[account.provider].poll(due.task_id, route, None)
    return await services.http.get(
        call, base_url=account.base_url, key=account.api_key, key_header=account.key_header, timeout=TIMEOUT
    )


def _is_ours(origin: callbacks.TaskOrigin, due: DueHint) -> bool:
    return callbacks.is_ours(
        origin,
        hinted=due.task_id,
        request=due.request,
        provider_model=due.provider_model,
        n=due.n,
        intended_at=due.intended_at,
    )
