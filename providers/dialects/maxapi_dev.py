"""MaxAPI.dev: OpenAI's images API with `async`, asked in pixels; the shapes of its async answers are not documented.

Quirks: synchronous unless `async` is true, and then a paid image hangs on one connection; without `route_mode` the
key's dashboard decides price and backend. So both are always sent, and a finished answer is taken all the same. A
`poll_url` is followed only on the provider's own host, since the key goes with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import orjson

from providers.dialects import answers
from providers.dialects.answers import BAD_KEY, MODERATED, NO_BALANCE, NO_MODEL, THROTTLED, Meaning
from providers.dialects.reading import (
    Json,
    first,
    links,
    mapping,
    own_path,
    read_json,
    task_id,
    text,
    unix_seconds,
    usage_of,
    words,
)
from providers.types import (
    Accepted,
    Call,
    Delivered,
    Failed,
    Kind,
    Link,
    PollOutcome,
    ReferenceFile,
    Request,
    Response,
    Route,
    SubmitOutcome,
    Succeeded,
)

GENERATIONS: Final = "/v1/images/generations"
EDITS: Final = "/v1/images/edits"

#: Statuses of a submit that was refused for the moment. No status is documented: OpenAI's meanings.
REFUSALS: Final[Mapping[int, Meaning]] = {
    409: (Kind.TRANSIENT, "conflict"),
    423: (Kind.TRANSIENT, "conflict"),
    425: (Kind.TRANSIENT, "conflict"),
}
#: OpenAI's `error.code` or `error.type`, where it says more than the status.
ERRORS: Final[Mapping[str, Meaning]] = {
    "moderation_blocked": MODERATED,
    "content_policy_violation": MODERATED,
    "content_filter": MODERATED,
    "insufficient_quota": NO_BALANCE,  # OpenAI sends it with 429
    "billing_hard_limit_reached": NO_BALANCE,
    "billing_not_active": NO_BALANCE,
    "invalid_api_key": BAD_KEY,
    "rate_limit_exceeded": THROTTLED,
    "model_not_found": NO_MODEL,
}

RUNNING: Final = frozenset({"queued", "pending", "submitted", "processing", "in_progress", "running"})
SUCCESS: Final = frozenset({"succeeded", "completed", "success"})
FAILURE: Final = frozenset({"failed", "failure", "error"})
CANCELLED: Final = frozenset({"canceled", "cancelled"})
PROVIDER_CANCELLED: Final[Meaning] = (Kind.PERMANENT, "provider_cancelled")


class MaxApiDev:
    """MaxAPI.dev's way of speaking."""

    provider = "maxapi.dev"
    key_header = "Authorization"

    def submit(self, request: Request, route: Route, n: int, extras: Mapping[str, str]) -> Call:
        """POST /v1/images/generations, or with references a form to /v1/images/edits."""
        fields = _fields(request, route, n, extras)
        if not request.references:
            return Call(method="POST", path=GENERATIONS, body=orjson.dumps(fields))
        return Call(method="POST", path=EDITS, form=_form(fields, request.references))

    def read_submit(self, response: Response, *, base_url: str, call: Call | None = None) -> SubmitOutcome:
        """Accepted needs 2xx and a task id; finished images at once are taken too."""
        body = mapping(read_json(response.body))
        if answers.is_refusal(response):
            return _read_refusal(response, body)
        if not answers.is_success(response):
            return answers.ambiguous_status(response, answers.error_words(response, body))
        return _read_accepted(response, body, base_url, call)

    def poll(self, task_id: str, route: Route, poll_path: str | None) -> Call:
        """GET the path the submit left behind, else /v1/images/generations|edits/{id}."""
        place = EDITS if route.edits else GENERATIONS
        return Call(method="GET", path=poll_path or f"{place}/{quote(task_id, safe='')}")

    def read_poll(self, response: Response) -> PollOutcome:
        """The state, or finished images without one."""
        body = mapping(read_json(response.body))
        message = answers.error_words(response, body)
        if response.status == HTTPStatus.NOT_FOUND:
            return answers.not_found(response, message)
        state = _state(body)
        if answers.is_success(response) and (state or _finished(body)):
            return _read_state(response, body, state)
        return answers.unreadable(response, response.status, message)

    def task_of(self, response: Response) -> str | None:
        """`task_id`; a plain `id` may be the answer's own."""
        body = mapping(read_json(response.body))
        return task_id(body.get("task_id"), first(body.get("data")).get("task_id"))


DIALECT = MaxApiDev()


def _fields(request: Request, route: Route, n: int, extras: Mapping[str, str]) -> dict[str, object]:
    """Options first: nothing in them can take the place of a field that decides what is bought."""
    size = f"{route.pixels[0]}x{route.pixels[1]}" if route.pixels else None
    mode = request.options.get("route_mode") or extras.get("route_mode") or "mix"
    own = {
        "model": route.provider_model,
        "prompt": request.prompt,
        "size": size,
        "quality": request.quality,
        "n": n,
        "async": True,
        "route_mode": mode,
    }
    return {**request.options, **{name: value for name, value in own.items() if value is not None}}


def _form(fields: Mapping[str, object], references: tuple[str, ...]) -> tuple[tuple[str, str | ReferenceFile], ...]:
    """OpenAI's multipart form: one `image`, or several `image[]`."""
    name = "image" if len(references) == 1 else "image[]"
    values = [(field, "true" if value is True else str(value)) for field, value in fields.items()]
    return (*values, *((name, ReferenceFile(url=url)) for url in references))


def _read_refusal(response: Response, body: Mapping[str, Json]) -> SubmitOutcome:
    message = answers.error_words(response, body)
    meaning = answers.meaning_of(response.status, REFUSALS)
    return answers.refused(
        response, answers.by_wording(meaning, answers.error_code(body.get("error")), message, ERRORS), message
    )


def _read_accepted(response: Response, body: Mapping[str, Json], base_url: str, call: Call | None) -> SubmitOutcome:
    inner = first(body.get("data"))
    found = task_id(body.get("task_id"), inner.get("task_id"), body.get("id"), inner.get("id"))
    images = _finished(body)
    if images:
        return Delivered(links=images, task_id=found, usage=usage_of(body, inner))
    if not found:
        code = "no_task_id" if body else "unreadable_answer"
        return answers.ambiguous(response, code, answers.error_words(response, body))
    url = body.get("poll_url") or inner.get("poll_url")
    return Accepted(task_id=found, poll_path=own_path(url, base_url) or _own_place(call, found))


def _own_place(call: Call | None, found: str) -> str | None:
    """Edits are polled below edits, whatever the route is known by later."""
    return f"{EDITS}/{quote(found, safe='')}" if call is not None and call.path == EDITS else None


def _state(body: Mapping[str, Json]) -> str:
    inner = first(body.get("data"))
    return (text(body.get("status")) or text(inner.get("status"))).strip().lower()


def _finished(body: Mapping[str, Json]) -> tuple[Link, ...]:
    """Images of an answer that need not be a task's: OpenAI's own shape, or a task that calls itself done."""
    if _state(body) in SUCCESS:
        return _images(body)
    named = _state(body) or body.get("task_id") or first(body.get("data")).get("task_id")
    lists = (body.get(name) for name in ("data", "output", "images"))
    return () if named else links(*(place for place in lists if isinstance(place, list)))


def _images(body: Mapping[str, Json]) -> tuple[Link, ...]:
    """Where results may be is not documented; the first place that has any is taken."""
    data, result = body.get("data"), mapping(body.get("result"))
    inner = mapping(data)
    inner_result = mapping(inner.get("result"))
    return links(
        data,
        *(result.get(name) for name in ("data", "images", "urls", "output")),
        body.get("output"),
        body.get("images"),
        *(inner.get(name) for name in ("data", "output", "images", "urls")),
        *(inner_result.get(name) for name in ("data", "images", "urls", "output")),
        body.get("result"),
        inner.get("result"),
        body,
    )


def _read_state(response: Response, body: Mapping[str, Json], state: str) -> PollOutcome:
    if state in SUCCESS or not state:
        return _read_success(response, body, state)
    if state in FAILURE or state in CANCELLED:
        return _read_failure(response, body, state)
    return answers.running(response, words(state), known=state in RUNNING)


def _read_success(response: Response, body: Mapping[str, Json], state: str) -> PollOutcome:
    found = _images(body)
    if not found:
        return answers.no_images(response, state)
    inner = first(body.get("data"))
    # The start of the link's clock is not stated: the task's creation is the careful reading.
    times = (unix_seconds(place.get(name)) for place in (body, inner) for name in ("created", "created_at"))
    at = next((at for at in times if at is not None), None)
    places = (body, inner, mapping(body.get("result")), mapping(inner.get("result")))
    return Succeeded(links=found, generated_at=at, usage=usage_of(*places))


def _read_failure(response: Response, body: Mapping[str, Json], state: str) -> Failed:
    place = body if "error" in body else {**first(body.get("data")), **body}
    error = place.get("error") or first(body.get("data")).get("error")
    message = answers.error_words(response, {**place, "error": error})
    if state in CANCELLED:
        return answers.failed(response, PROVIDER_CANCELLED, message or state)
    meaning = answers.of_failure(answers.error_code(error), message, ERRORS)
    return answers.failed(response, meaning, message or state)
