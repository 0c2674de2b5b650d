"""A provider task that a person found in a console: asked about once, before it is taken for an attempt's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jobs.ledger.batches.values import UnknownAttempt
from jobs.settings.model import Settings
from providers.dialects.answers import about
from providers.registry import DIALECTS
from providers.types import Call, NotFound, PollOutcome, Unreadable, clean
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


async def who_knows(
    settings: Settings, attempts: Sequence[UnknownAttempt], task_id: str
) -> tuple[UnknownAttempt | None, list[tuple[UnknownAttempt, Unreadable]]]:
    """The attempt whose provider knows the task, and those about which no provider said anything.

    A row's attempts at one account are alike: the same request, sent again. The first is taken.
    """
    at_account: dict[str, UnknownAttempt] = {}
    for attempt in attempts:
        at_account.setdefault(attempt.account, attempt)
    unasked: list[tuple[UnknownAttempt, Unreadable]] = []
    for attempt in at_account.values():
        said = await ask(settings, attempt, task_id)
        if isinstance(said, Unreadable):
            unasked.append((attempt, said))
        elif not isinstance(said, NotFound):
            return attempt, unasked
    return None, unasked
