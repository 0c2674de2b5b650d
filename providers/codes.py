"""The stable codes a dialect can give: what each means, and what to do."""

from __future__ import annotations

#: What pauses an account until a person helps; it is tried again now and then all the same.
ACCOUNT_CODES = frozenset({"bad_key", "no_balance", "no_permission", "redirected"})

#: Kept sorted. `jobs.errors.CODES` takes them in; docs/reference/errors.md shows them.
CODES: dict[str, str] = {
    "another_task": "An answer about a task named another one, so nothing in it was believed. Asked again by itself.",
    "bad_key": "The provider refused the API key. Nothing was paid; the account is paused. Correct the key.",
    "conflict": "The provider refused the request for now (409, 423, 425). Nothing was paid; tried again by itself.",
    "invalid_parameters": "The provider says the request is not legal, and would again. Change the row, run again.",
    "model_not_found": "The provider does not know the model, or has not enabled it for this key. Nothing was paid.",
    "moderation": "The provider's moderation refused prompt or reference. Never tried again by itself. Change the row.",
    "no_balance": "The provider's account is out of credit. Nothing was paid; the account is paused. Top up.",
    "no_images": "The provider calls the task done and never named an image. It may be charged: look in its console.",
    "no_permission": "The provider forbids this (403): a right is missing, or the balance is used up. Account paused.",
    "no_task_id": "The provider took the request and named no task: it may be paid. See `lightfast unknown`.",
    "provider_cancelled": "The task was cancelled at the provider, not by Lightfast. `lightfast retry` makes it again.",
    "provider_failed": "The task failed at the provider; its own words are in lf_message. Mostly not charged.",
    "provider_timeout": "The provider says it ran out of time. A task is tried again; a submit's outcome is unknown.",
    "rate_limited": "The provider asks for a slower pace (429). Nothing was paid; the account cools down by itself.",
    "redirected": "The provider's address answers with a redirect, which is never followed. Check base_url.",
    "server_error": "The provider answered with a 5xx. A submit's outcome is unknown; a poll is repeated by itself.",
    "unexpected_code": "The answer's own code is not documented: a submit may be paid. See `lightfast unknown`.",
    "unreadable_answer": "The answer is not what the provider documents. A submit may be paid; a poll is repeated.",
}
