"""Errors in OpenAI's form: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import json

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

#: Below this, errors have OpenAI's form.
PREFIX = "/v1/"
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_SERVER = 500


class AsciiJSON(JSONResponse):
    """JSON that can hold any text, also half of a surrogate pair, which a request may have sent."""

    def render(self, content: object) -> bytes:
        """The bytes."""
        return json.dumps(content).encode("ascii")


class OpenAIError(HTTPException):
    """A request that is refused."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(status, message)
        self.code, self.param = code, param


def as_openai(error: HTTPException) -> JSONResponse:
    """An error as OpenAI's SDK reads it."""
    status = error.status_code
    kind = _TYPES.get(status, "server_error" if status >= _SERVER else "invalid_request_error")
    code, param = (error.code, error.param) if isinstance(error, OpenAIError) else (None, None)
    told = {"message": str(error.detail), "type": kind, "param": param, "code": code}
    return AsciiJSON({"error": told}, status_code=status, headers=error.headers)


def unreadable(error: RequestValidationError) -> JSONResponse:
    """The first thing that is wrong with a request's form."""
    first = error.errors()[0]
    param = ".".join(str(each) for each in first["loc"][1:]) or None
    return as_openai(OpenAIError(400, f"{param or 'the request'}: {first['msg']}", param=param))


def is_openai(request: Request) -> bool:
    """Whether a request is one of OpenAI's API."""
    return request.url.path.startswith(PREFIX)
