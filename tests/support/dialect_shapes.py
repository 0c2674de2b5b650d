"""Calls and answers as the providers' pages show them, for the tests of the dialects."""

from __future__ import annotations

from typing import Any

import orjson

from providers.catalog.models import Catalog
from providers.registry import BASE_URLS, DIALECTS
from providers.types import Call, Request, Response, Route

CATALOG = Catalog.load()
TASK = "a1b2c3d4-e5f6-7890-abcd-ef1234567890"
REFERENCE = "https://example.com/source.jpg"


def answer(body: Any = None, status: int = 200, **headers: str) -> Response:
    """A whole answer; header names with underscores for dashes."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return Response(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}, body=raw)


def route(provider: str, **values: Any) -> tuple[Request, Route]:
    """A completed request and its route."""
    request = CATALOG.complete(Request(**{"prompt": "a crow", "model": "gpt-image-2", "provider": provider, **values}))
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
    return {"code": 0, "msg": "ok", "data": {"taskId": TASK, "status": status, **more}}
