"""MaxAPI.io: one task endpoint, the model in the body; success needs 2xx and a body `code` of 0.

Quirks: SUBMITTED is a late state; failures are FAILURE, not FAILED, and TIMEOUT and CANCELLED end a task too; refusals
may come with HTTP 200; a refusal by moderation carries `data`; `msg` may be Chinese.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import orjson

from providers.dialects import answers
from providers.dialects.answers import INVALID, MODERATED, NO_BALANCE, Meaning
from providers.dialects.reading import (
    Json,
    code_of,
    links,
    mapping,
    read_json,
    span_of,
    task_id,
    text,
    unix_seconds,
    words,
)
from providers.types import (
    Accepted,
    Call,
    Failed,
    Kind,
    PollOutcome,
    Request,
    Response,
    Route,
    SubmitOutcome,
    Succeeded,
)

#: A body's `code` that is a refusal, and means what the same HTTP status means. 400 may also be moderation before
#: submission, told by `data.flagged`.
REFUSALS: Final = frozenset({400, 401, 402, 403, 429})

RUNNING: Final = frozenset({"PENDING", "PROCESSING", "SUBMITTED"})
SUCCESS: Final = frozenset({"SUCCESS", "SUCCEEDED", "COMPLETED"})
#: How a task ends badly when its `failure_reason` is null or absent. Who cancelled it knows why: no second try.
FAILURES: Final[Mapping[str, Meaning]] = {
    "FAILURE": (Kind.TRANSIENT, "provider_failed"),
    "FAILED": (Kind.TRANSIENT, "provider_failed"),
    "FAIL": (Kind.TRANSIENT, "provider_failed"),
    "ERROR": (Kind.TRANSIENT, "provider_failed"),
    "TIMEOUT": (Kind.TRANSIENT, "provider_timeout"),
    "CANCELLED": (Kind.PERMANENT, "provider_cancelled"),
    "CANCELED": (Kind.PERMANENT, "provider_cancelled"),
}
REASONS: Final[Mapping[str, Meaning]] = {
    "CONTENT_MODERATION": MODERATED,
    "INVALID_PARAMETERS": INVALID,
    "INSUFFICIENT_POINTS": NO_BALANCE,
}
#: Any other reason is not documented: final, and shown.
OTHER_REASON: Final[Meaning] = (Kind.PERMANENT, "provider_failed")

#: The documented `msg` of a refusal by moderation, should `data.flagged` be missing.
REJECTED_BY_MODERATION: Final = "rejected by moderation"


class MaxApiIo:
    """MaxAPI.io's way of speaking."""

    provider = "maxapi.io"
    key_header = "Authorization"

    def submit(self, request: Request, route: Route, n: int, extras: Mapping[str, str]) -> Call:
        """POST /api/v1/task/submit."""
        made = {
            "prompt": request.prompt,
            "imageUrls": list(request.references) or None,
            "ratio": route.ratio,
            "resolution": route.resolution,
            "n": n,
        }
        body: dict[str, object] = {
            "model": route.provider_model,
            "input": {name: value for name, value in made.items() if value is not None},
        }
        if extras.get("callback_url"):
            body["callBackUrl"] = extras["callback_url"]
        return Call(method="POST", path="/api/v1/task/submit", body=orjson.dumps(body))

    def read_submit(self, response: Response, *, base_url: str, call: Call | None = None) -> SubmitOutcome:  # noqa: ARG002  the protocol's
        """Accepted needs 2xx, `code` 0 and a task id."""
        body = mapping(read_json(response.body))
        message = words(body.get("msg"), body.get("message"))
        if answers.is_refusal(response):
            return answers.refused(response, _refusal(response.status, body), message)
        if not answers.is_success(response):
            return answers.ambiguous_status(response, message)
        return _read_code(response, body, message)

    def poll(self, task_id: str, route: Route, poll_path: str | None) -> Call:  # noqa: ARG002  the protocol's
        """GET /api/v1/task/{id}."""
        return Call(method="GET", path=f"/api/v1/task/{quote(task_id, safe='')}")

    def read_poll(self, response: Response) -> PollOutcome:
        """The state needs 2xx and `code` 0."""
        body = mapping(read_json(response.body))
        code, message = code_of(body.get("code")), words(body.get("msg"), body.get("message"))
        status = response.status if not answers.is_success(response) else code
        if status == HTTPStatus.NOT_FOUND:
            return answers.not_found(response, message)
        task, state = mapping(body.get("data")), text(mapping(body.get("data")).get("status")).strip().upper()
        if answers.is_success(response) and code == 0 and state:
            return _read_state(response, task, state, message)
        return answers.unreadable(response, status if isinstance(status, int) else 0, message)

    def task_of(self, response: Response) -> str | None:
        """`data.taskId`."""
        return task_id(mapping(mapping(read_json(response.body)).get("data")).get("taskId"))


DIALECT = MaxApiIo()


def _read_code(response: Response, body: Mapping[str, Json], message: str) -> SubmitOutcome:
    code, found = code_of(body.get("code")), task_id(mapping(body.get("data")).get("taskId"))
    if code == 0:
        return Accepted(task_id=found) if found else answers.ambiguous(response, "no_task_id", message)
    if isinstance(code, int) and code in REFUSALS and not found:
        return answers.refused(response, _moderated(answers.meaning_of(code), body), message)
    # With a task id beside a refusing code, or a code nobody documents, the order may stand.
    return answers.ambiguous(response, "unreadable_answer" if code is None else "unexpected_code", message)


def _refusal(status: int, body: Mapping[str, Json]) -> Meaning:
    code = code_of(body.get("code"))
    by_status = answers.meaning_of(status)
    if by_status[0] is Kind.PERMANENT and isinstance(code, int) and code in REFUSALS:
        by_status = answers.meaning_of(code)
    return _moderated(by_status, body)


def _moderated(meaning: Meaning, body: Mapping[str, Json]) -> Meaning:
    """400 has two meanings; `data` tells them apart, the wording only where there is no `data`."""
    data = mapping(body.get("data"))
    flagged = data.get("flagged") is True or True in mapping(data.get("categories")).values()
    said = REJECTED_BY_MODERATION in text(body.get("msg")).lower()
    return MODERATED if meaning is INVALID and (flagged or said) else meaning


def _read_state(response: Response, task: Mapping[str, Json], state: str, message: str) -> PollOutcome:
    if state in SUCCESS:
        return _read_success(response, task, state)
    if state in FAILURES:
        return _read_failure(response, task, state, message)
    return answers.running(response, words(task.get("status")), known=state in RUNNING)


def _read_success(response: Response, task: Mapping[str, Json], state: str) -> PollOutcome:
    result = task.get("result")
    found = links(mapping(result).get("urls"), mapping(result).get("url"), mapping(result).get("images"), result)
    if not found:
        return answers.no_images(response, state)
    began, ended = task.get("created_at"), task.get("updated_at")
    return Succeeded(links=found, generated_at=unix_seconds(ended), took=span_of(began, ended))


def _read_failure(response: Response, task: Mapping[str, Json], state: str, message: str) -> Failed:
    reason = task.get("failure_reason") or task.get("failReason")
    if not reason:
        said = f"{state}: {message}" if message.lower() not in ("", "ok") else state
        return answers.failed(response, FAILURES[state], f"{said}, no reason given")
    meaning = REASONS.get(text(reason).strip().upper(), OTHER_REASON)
    return answers.failed(response, meaning, f"{state}: {words(reason) or 'a reason that is not documented'}")
