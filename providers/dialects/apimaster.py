"""APIMaster: OpenAI's path, its own task envelope; success is 2xx and a body `code` of 200.

Quirks: arrays inside arrays (`data`, `images`, `url`), any of which may be missing or plain; the page says "async
only", the vendor's own clients say the same path answers with images: both are read. `submitted` is the first state. A
5xx is the end of the gateway's own retries, and may have bought an image: only `build_request_failed` surely has not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import orjson

from providers.dialects import answers
from providers.dialects.answers import BAD_KEY, INVALID, MODERATED, NO_BALANCE, NO_MODEL, THROTTLED, Meaning
from providers.dialects.reading import (
    Json,
    code_of,
    first,
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
    Delivered,
    Failed,
    Kind,
    Link,
    ManyTold,
    PollOutcome,
    Request,
    Response,
    Route,
    Running,
    SubmitOutcome,
    Succeeded,
)

#: A body's `code` that is a refusal, and means what the same HTTP status means. 403 may be balance, too: an account's
#: matter either way.
REFUSALS: Final = frozenset({400, 401, 402, 403, 404, 429})
#: `error.code` or `error.type`, where it says more than the status.
ERRORS: Final[Mapping[str, Meaning]] = {
    "moderation_blocked": MODERATED,
    "content_policy_violation": MODERATED,
    "insufficient_quota": NO_BALANCE,
    "insufficient_user_quota": NO_BALANCE,
    "invalid_api_key": BAD_KEY,
    "rate_limit_exceeded": THROTTLED,
    "model_not_found": NO_MODEL,
}
#: A 500 that says the request could not even be built: nothing was sent upstream.
NOT_BUILT: Final = "build_request_failed"

RUNNING: Final = frozenset({"submitted", "processing", "pending", "in_progress", "queued"})
SUCCESS: Final = frozenset({"completed", "success", "succeeded"})
FAILURE: Final = frozenset({"failed", "failure", "error"})
CANCELLED: Final = frozenset({"cancelled", "canceled"})
#: Names of a task's times, the likeliest first.
BEGAN: Final = ("created", "created_at")
ENDED: Final = ("completed", "completed_at")
#: Statuses that say that the batch query is not there, or not for us; all others may pass.
NO_BATCH: Final = frozenset({400, 404, 405, 410, 415, 422, 501})
#: Names of a task's id, and how deep in a batch's answer tasks are looked for.
IDS: Final = ("task_id", "id")
DEPTH: Final = 3
PROVIDER_CANCELLED: Final[Meaning] = (Kind.PERMANENT, "provider_cancelled")


class ApiMaster:
    """APIMaster's way of speaking."""

    provider = "apimaster"
    key_header = "Authorization"
    most_together = 20  # the real limit is not documented  [inferred]

    def submit(self, request: Request, route: Route, n: int, extras: Mapping[str, str]) -> Call:  # noqa: ARG002  the protocol's
        """POST /v1/images/generations; `image_urls` switches to image-to-image."""
        own = {
            "model": route.provider_model,
            "prompt": request.prompt,
            "n": n,
            "size": f"{request.size[0]}x{request.size[1]}" if request.size else route.ratio,
            "resolution": route.resolution,
            "image_urls": list(request.references) or None,
        }
        fields = {**request.options, **{name: value for name, value in own.items() if value is not None}}
        return Call(method="POST", path="/v1/images/generations", body=orjson.dumps(fields))

    def read_submit(self, response: Response, *, base_url: str, call: Call | None = None) -> SubmitOutcome:  # noqa: ARG002  the protocol's
        """A task to ask about, or finished images at once."""
        body = mapping(read_json(response.body))
        message = answers.error_words(response, body)
        if answers.is_refusal(response):
            return answers.refused(response, _refusal(response.status, body, message), message)
        if answers.is_success(response):
            return _read_code(response, body, message)
        if (
            response.status >= HTTPStatus.INTERNAL_SERVER_ERROR
            and NOT_BUILT in f"{answers.error_code(body.get('error'))} {message}"
        ):
            return answers.refused(response, INVALID, message)
        return answers.ambiguous_status(response, message)

    def poll(self, task_id: str, route: Route, poll_path: str | None) -> Call:  # noqa: ARG002  the protocol's
        """GET /v1/tasks/{id}, with the model as the vendor's own clients do."""
        model = quote(route.provider_model, safe="")
        return Call(method="GET", path=f"/v1/tasks/{quote(task_id, safe='')}?model={model}")

    def read_poll(self, response: Response) -> PollOutcome:
        """The state needs 2xx, and a `code` of 200 where there is one."""
        return _read_task(response, mapping(read_json(response.body)))

    def task_of(self, response: Response) -> str | None:
        """`task_id`; a plain `id` may be a number of the gateway's own."""
        body = mapping(read_json(response.body))
        return task_id(first(body.get("data")).get("task_id"), body.get("task_id"))

    def poll_many(self, task_ids: Sequence[str]) -> Call:
        """POST /v1/tasks/batch."""
        return Call(method="POST", path="/v1/tasks/batch", body=orjson.dumps({"task_ids": list(task_ids)}))

    def read_many(self, response: Response, task_ids: Sequence[str]) -> ManyTold:
        """The answer's shape is not documented: entries are known by their ids, wherever they are."""
        body = read_json(response.body)
        code = code_of(mapping(body).get("code"))
        status = code if answers.is_success(response) and isinstance(code, int) else response.status
        if status != HTTPStatus.OK and not (code is None and answers.is_success(response)):
            return _read_no_batch(response, mapping(body), status)
        found = _entries(body, frozenset(task_ids))
        told = {name: _read_task(response, entry) for name, entry in found.items() if entry}
        tasks = {name: each for name, each in told.items() if isinstance(each, Running | Succeeded)}
        return ManyTold(tasks=tasks, offered=bool(found) or mapping(body).get("data") == [])


DIALECT = ApiMaster()


def _read_task(response: Response, body: Mapping[str, Json]) -> PollOutcome:
    """One task, in an envelope of its own or without."""
    code, message = code_of(body.get("code")), answers.error_words(response, body)
    status = response.status if not answers.is_success(response) or code is None else code
    if status == HTTPStatus.NOT_FOUND:
        return answers.not_found(response, message)
    task = first(body.get("data")) or body
    state = text(task.get("status")).strip().lower()
    if isinstance(status, int) and status in (response.status, 200) and answers.is_success(response) and state:
        return _read_state(response, task, state)
    return answers.unreadable(response, status if isinstance(status, int) else 0, message)


def _read_no_batch(response: Response, body: Mapping[str, Json], status: int) -> ManyTold:
    """A refusal of the question itself, or trouble that may pass."""
    if status in NO_BATCH:
        return ManyTold(offered=False)
    return ManyTold(trouble=answers.unreadable(response, status, answers.error_words(response, body)))


def _entries(body: Json, wanted: frozenset[str]) -> dict[str, Mapping[str, Json]]:
    """Each wanted task's own entry; an empty one where two speak of it, since nobody knows which is right."""
    found: dict[str, Mapping[str, Json]] = {}
    for name, entry in _named(body, DEPTH):
        if name in wanted:
            found[name] = {} if name in found else entry
    return found


def _named(place: Json, depth: int) -> Iterator[tuple[str, Mapping[str, Json]]]:
    """Everything that has a task's id: as `task_id` or `id`, in an envelope, or as the name it stands under."""
    if isinstance(place, list):
        for item in place if depth else ():
            yield from _named(item, depth - 1)
        return
    fields = mapping(place)
    inner = mapping(fields.get("data"))
    name = task_id(*(each.get(word) for each in (fields, inner) for word in IDS))
    if name is not None and ("status" in fields or "status" in inner):
        yield name, fields
        return
    for under, item in fields.items() if depth else ():
        if isinstance(item, dict) and "status" in item and not any(item.get(each) for each in IDS):
            yield under, item
        else:
            yield from _named(item, depth - 1)


def _read_code(response: Response, body: Mapping[str, Json], message: str) -> SubmitOutcome:
    code, data = code_of(body.get("code")), body.get("data")
    found = task_id(first(data).get("task_id"), body.get("task_id"), first(data).get("id"), body.get("id"))
    if code in (200, None):
        return _read_accepted(response, body, found, message)
    if isinstance(code, int) and code in REFUSALS and not found:
        return answers.refused(response, _refusal(code, body, message), message)
    return answers.ambiguous(response, "unexpected_code", message)


def _read_accepted(response: Response, body: Mapping[str, Json], found: str | None, message: str) -> SubmitOutcome:
    images = _finished(body.get("data"))
    if images:
        return Delivered(links=images, task_id=found)
    if found:
        return Accepted(task_id=found)
    return answers.ambiguous(response, "no_task_id" if body else "unreadable_answer", message)


def _refusal(status: int, body: Mapping[str, Json], message: str) -> Meaning:
    meaning = answers.meaning_of(status)
    return answers.by_wording(meaning, answers.error_code(body.get("error")), message, ERRORS)


def _finished(data: Json) -> tuple[Link, ...]:
    """Images of an answer to a submit. A link beside a task that is not done may be anything: the task is asked."""
    task = first(data)
    state = text(task.get("status")).strip().lower()
    open_task = state not in SUCCESS and (state or task.get("task_id"))
    return () if open_task else _images(data)


def _images(place: Json) -> tuple[Link, ...]:
    """Images of a finished task or a synchronous answer: `result.images[].url[]`, or any part of it left out."""
    task = first(place)
    result = task.get("result")
    inner = first(result)
    return links(
        *(inner.get(name) for name in ("images", "data", "urls")), result, task.get("images"), task.get("data"), place
    )


def _read_state(response: Response, task: Mapping[str, Json], state: str) -> PollOutcome:
    if state in SUCCESS:
        return _read_success(response, task, state)
    if state in FAILURE or state in CANCELLED:
        return _read_failure(response, task, state)
    return answers.running(response, words(state), known=state in RUNNING)


def _read_success(response: Response, task: Mapping[str, Json], state: str) -> PollOutcome:
    found = _images(task)
    if not found:
        return answers.no_images(response, state)
    began, ended = (_first_time(task, names) for names in (BEGAN, ENDED))
    return Succeeded(links=found, generated_at=ended, took=span_of(began, ended))


def _first_time(task: Mapping[str, Json], names: tuple[str, ...]) -> float | None:
    times = (unix_seconds(task.get(name)) for name in names)
    return next((at for at in times if at is not None), None)


def _read_failure(response: Response, task: Mapping[str, Json], state: str) -> Failed:
    message = answers.error_words(response, task)
    if state in CANCELLED:
        return answers.failed(response, PROVIDER_CANCELLED, message or state)
    meaning = answers.of_failure(answers.error_code(task.get("error")), message, ERRORS)
    return answers.failed(response, meaning, message or state)
