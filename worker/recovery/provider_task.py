"""A provider task that a person found in a console: asked about once, before it is taken for an attempt's own."""

from __future__ import annotations

import dataclasses

from jobs.ledger.batches.values import UnknownAttempt
from jobs.settings.model import Settings
from providers.dialects.answers import about
from providers.registry import DIALECTS
from providers.types import Call, PollOutcome, Unreadable, clean
from worker.http.client import Http
from worker.polling.routes import TaskRoutes
from worker.services import catalog_of
from worker.stages.poll import TIMEOUT


def call_for(settings: Settings, attempt: UnknownAttempt, task_id: str) -> Call:
    """How the provider is asked about the task; tasks made from references may have another place."""
    route = TaskRoutes(catalog_of(settings)).of_task(attempt.provider, attempt.provider_model)
    return DIALECTS[attempt.provider].poll(task_id, dataclasses.replace(route, edits=attempt.edits), None)


async def ask(settings: Settings, attempt: UnknownAttempt, task_id: str) -> PollOutcome:
    """What the provider says of it now; `Unreadable` where it says nothing."""
    account = settings.accounts.get(attempt.account)
    if account is None or account.provider != attempt.provider:
        message = f"no account {attempt.account} at {attempt.provider} is in the settings"
        return Unreadable(code="unreachable", message=message)
    http = Http(
        allow_private_hosts=settings.allow_private_hosts,
        trusted_hosts=[account.base_url],
        user_agent=settings.user_agent,
        proxies=settings.proxies,
    )
    try:
        call = call_for(settings, attempt, task_id)
        exchange = await http.get(
            call, base_url=account.base_url, key=account.api_key, key_header=account.key_header, timeout=TIMEOUT
        )
    finally:
        await http.close()
    if exchange.response is None:
        return Unreadable(code="unreachable", message=clean(exchange.problem or "no answer"))
    dialect = DIALECTS[attempt.provider]
    return about(dialect, task_id, exchange.response, dialect.read_poll(exchange.response))
