"""Calls and answers as the providers' pages show them, for the tests of the dialects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from providers.catalog.models import Catalog
from providers.registry import BASE_URLS, DIALECTS
from providers.types import Call, Request, Response, Route

CATALOG = Catalog.load()
TASK = "a1b2c3d4-e5f6-7890-abcd-ef1234567890"
REFERENCE = "https://example.com/source.jpg"
IMAGE = "https://cdn.example/image-0.png"


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """A provider's answers as its page shows them: what all dialects must keep is tried with these."""

    key_line: str  # the header with the key, as the page's example has it, with `KEY` for the key
    accepted: Any  # to a submit: it took the task `TASK`
    running: Any  # to a poll of `TASK`
    failed: Any
    done: Callable[[Any], Any]  # with this in the place of a picture's link
    without: Callable[[Any], Any]  # done, with this in the place of the list of pictures
    refused: Any  # what is wrong, said to people

    def all(self) -> tuple[Any, ...]:
        """Each of them."""
        return (self.accepted, self.running, self.failed, self.done(IMAGE), self.without([]), self.refused)


def _io(status: str, **more: Any) -> dict[str, Any]:
    return {"code": 0, "msg": "ok", "data": {"taskId": TASK, "status": status, **more}}


def _dev(status: str, **more: Any) -> dict[str, Any]:
    return {"id": TASK, "task_id": TASK, "status": status, "created": 1_760_000_000, **more}


def _apimaster(status: str, **more: Any) -> dict[str, Any]:
    return {"code": 200, "data": {"task_id": TASK, "status": status, **more}}


#: By provider. A new one has its entry here, and no list of providers elsewhere in these tests needs it.
SHAPES = {
    "maxapi.io": Shapes(
        key_line="Authorization: Bearer KEY",
        accepted={"code": 0, "msg": "ok", "data": {"taskId": TASK}},
        running=_io("PROCESSING"),
        failed=_io("FAILURE", result=None, failure_reason="CONTENT_MODERATION"),
        done=lambda link: _io("SUCCESS", result={"type": "image", "urls": [link]}, updated_at="2026-05-07T23:14:00Z"),
        without=lambda pictures: _io("SUCCESS", result={"type": "image", "urls": pictures}),
        refused={"code": 400, "msg": "content rejected by moderation", "data": {"flagged": True, "categories": {}}},
    ),
    "maxapi.dev": Shapes(
        key_line="Authorization: Bearer KEY",
        accepted=_dev("queued", poll_url=f"https://api.maxapi.dev/v1/images/generations/{TASK}"),
        running=_dev("in_progress"),
        failed=_dev("failed", error={"code": "generation_failed", "message": "generation failed"}),
        done=lambda link: _dev("succeeded", data=[{"url": link}]),
        without=lambda pictures: _dev("succeeded", data=pictures),
        refused={"error": {"message": "no", "type": "invalid_request_error", "param": "size", "code": None}},
    ),
    "apimaster": Shapes(
        key_line="Authorization: Bearer KEY",
        accepted={"code": 200, "data": [{"status": "submitted", "task_id": TASK}]},
        running=_apimaster("processing", progress=45),
        failed=_apimaster("failed", error={"code": "upstream_error", "message": "generation failed"}),
        done=lambda link: _apimaster("completed", completed=1_760_000_000, result={"images": [{"url": [link]}]}),
        without=lambda pictures: _apimaster("completed", result={"images": pictures}),
        refused={"error": {"message": "no", "type": "apimaster_error", "code": "invalid_request"}},
    ),
}


def answer(body: Any = None, status: int = 200, **headers: str) -> Response:
    """A whole answer; header names with underscores for dashes."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return Response(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}, body=raw)


def route(provider: str, **values: Any) -> tuple[Request, Route]:
    """A completed request and its route; without `model` for the first model that the catalogue has of the provider."""
    model = next(offer.model for offer in CATALOG._offers if offer.provider == provider)
    request = CATALOG.complete(Request(**{"prompt": "a crow", "model": model, "provider": provider, **values}))
    return request, CATALOG.routes(request)[0]


def submit(provider: str, n: int = 1, extras: dict[str, str] | None = None, **values: Any) -> Call:
    """The call a request becomes."""
    request, chosen = route(provider, **values)
    return DIALECTS[provider].submit(request, chosen, n, extras or {})


def sent(provider: str, n: int = 1, extras: dict[str, str] | None = None, **values: Any) -> dict[str, Any]:
    """The JSON of that call."""
    return orjson.loads(submit(provider, n, extras, **values).body)


def read_submit(provider: str, response: Response, call: Call | None = None) -> Any:
    return DIALECTS[provider].read_submit(response, base_url=BASE_URLS[provider], call=call)


def read_poll(provider: str, response: Response) -> Any:
    return DIALECTS[provider].read_poll(response)


def io_task(status: str, **more: Any) -> dict[str, Any]:
    """A MaxAPI.io answer to a status query."""
    return _io(status, **more)
